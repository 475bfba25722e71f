"""Targets -> logs: walk, ask the formats which log is whose, read.

Finding the logs, reading one, and joining what was read are three steps, so that logs may be read by several workers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ga_audit import joining, registry, remote
from ga_audit.errors import AuditError, UnknownFormat, UnreadableLog
from ga_audit.formats import Claim, Target, _missing_path
from ga_audit.run import ReadFailure, Run

FORMATS = "ga_audit.formats"

# Never opened on a walk: weights, media, code, archives. A file that the user names is always tried.
_SKIP_SUFFIXES = frozenset({
    ".safetensors", ".pt", ".pth", ".ckpt", ".npy", ".npz", ".h5", ".onnx", ".gguf", ".parquet", ".arrow", ".png", ".jpg",
    ".jpeg", ".gif", ".svg", ".pdf", ".mp4", ".py", ".pyc", ".ipynb", ".sh", ".js", ".css", ".html", ".zip", ".gz", ".tar",
    ".so", ".model", ".lock", ".pkl", ".pickle", ".exe", ".whl", ".ini", ".cfg", ".toml",
})  # fmt: skip
_SKIP_NAMES = frozenset({
    "tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "tokenizer_config.json",
    "generation_config.json", "optimizer.bin", "pytorch_model.bin", "ga-audit.json", "DIAGNOSIS.md", "LICENSE", "truth.json",
})  # fmt: skip
_SKIP_DIRS = frozenset({".git", "node_modules", "__pycache__", ".venv", "venv", ".ipynb_checkpoints", ".cache"})

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Log:
    """One log to be read; can be sent to another process."""

    target: Target
    format: str  # leaf name in ga_audit.formats
    sure: bool  # failing is worth a message
    given: str  # the user's target that it belongs to


def find_runs(
    targets: Sequence[str],
    *,
    loss_key: str | None = None,
    grad_norm_key: str | None = None,
    options: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Iterator[Run | ReadFailure]:
    """Every run that the targets hold, and, in the same stream, what could not be read.

    Parameters
    ----------
    targets : files, directories, addresses (of W&B), "-" for standard input.
    loss_key, grad_norm_key : the user's names of the two series; None = by `naming`.
    options : for formats that fetch: `timeout` in seconds, `cache` (yes or no).
    progress : called with the path of each log before it is read.
    """
    results: list[tuple[Log | ReadFailure, list[Run | ReadFailure]]] = []
    for log in find_logs(targets, loss_key=loss_key, grad_norm_key=grad_norm_key, options=options):
        if isinstance(log, Log) and progress is not None:
            progress(log.target.path)
        results.append((log, read_log(log) if isinstance(log, Log) else []))
    yield from join(results)


def find_logs(
    targets: Sequence[str],
    *,
    loss_key: str | None = None,
    grad_norm_key: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Iterator[Log | ReadFailure]:
    """The logs of the targets and who reads each, and targets that hold none; see `find_runs`."""
    keys = {"loss_key": loss_key, "grad_norm_key": grad_norm_key, "options": options or {}}
    for text in targets:
        found = False
        try:
            for target, module, sure in _claimed(text, keys):
                found = True
                yield Log(target, module.__name__.rpartition(".")[2], sure, text)
            if not found:
                yield ReadFailure(text, _nothing_found(text))
        except AuditError as error:
            yield ReadFailure(text, error)


def read_log(log: Log) -> list[Run | ReadFailure]:
    """The runs of one log; a format that was not sure of its claim fails in silence, and gives nothing."""
    target = log.target
    try:
        if "origin" in target.options and not os.path.exists(target.path):
            inside = Path(target.path).relative_to(target.options["copy"])
            target = replace(target, path=str(remote.fetch(target.options["origin"], _worth_opening) / inside))
        return list(registry.load(FORMATS, log.format).read(target))
    except AuditError as error:
        return [ReadFailure(target.path, error)] if log.sure else []
    except OSError as error:
        remedy = "Check that the file exists and may be read."
        return [ReadFailure(target.path, UnreadableLog(error.strerror or str(error), where=target.path, remedy=remedy))]


def join(results: Sequence[tuple[Log | ReadFailure, Sequence[Run | ReadFailure]]]) -> Iterator[Run | ReadFailure]:
    """What `find_logs` found and `read_log` made of it: the failures, then the runs, their parts and views joined."""
    runs: list[Run] = []
    given: dict[str, bool] = {}  # whether anything came of a target
    for log, pieces in results:
        if isinstance(log, ReadFailure):
            yield log
            continue
        given[log.given] = given.get(log.given, False) or bool(pieces)
        for piece in pieces:
            if isinstance(piece, ReadFailure):
                yield piece
            else:
                runs.append(piece)
    yield from (ReadFailure(text, _nothing_found(text)) for text, found in given.items() if not found)
    yield from joining.joined(runs, neighbours=_other_logs)


def _claimed(text: str, keys: dict[str, Any]) -> Iterator[tuple[Target, ModuleType, bool]]:
    """The logs of one target with the format that reads each; the flag says that failing is worth a message."""
    if text == "-":
        target = Target("-", text=sys.stdin.buffer.read(), **keys)
        if not target.text or not target.text.strip():
            raise UnreadableLog("nothing came in", where="standard input", remedy="Pipe or paste log lines into it.")
        yield target, _best(target, must=True), True
        return
    if remote.is_remote(text):
        copy = remote.fetch(text, _worth_opening)
        # a worker on another machine fetches for itself
        keys = {**keys, "options": {**keys["options"], "origin": text, "copy": str(copy)}}
        text = str(copy)
    path = Path(text)
    if "://" in text or not os.path.exists(text):
        target = Target(text, **keys)
        module, claim = _highest(target)
        if module is None or claim is Claim.NO:
            raise _missing_path.explain(text)
        expand = getattr(module, "expand", None)
        for one in expand(target) if expand is not None else [target]:
            yield one, module, True
    elif path.is_file():
        if path.stat().st_size == 0:
            raise UnreadableLog("the file is empty", where=text, remedy="Give the log of a run that has logged a line.")
        target = Target(text, **keys)
        yield target, _best(target, must=True), True
        # what stands beside a named log may hold its settings
        for sibling in _files(path.parent):
            if sibling.name != path.name and _is_settings_file(sibling):
                yield from _settings_only(Target(str(sibling), **keys))
    else:
        yield from _walk(path, keys)


def _walk(top: Path, keys: dict[str, Any]) -> Iterator[tuple[Target, ModuleType, bool]]:
    for folder, subfolders, _ in os.walk(top):
        here = Path(folder)
        subfolders[:] = sorted(d for d in subfolders if d not in _SKIP_DIRS and not (here / d).is_symlink())
        owner: ModuleType | None = None
        target = Target(folder, **keys)
        module, claim = _highest(target)
        if module is not None and claim is Claim.YES:
            owner = module
            yield target, module, True
            if getattr(module, "OWNS_DIRECTORY", False):
                subfolders.clear()
                continue
        for file in _files(here):
            inner = Target(str(file), **keys)
            module, claim = _highest(inner)
            if module is not None and claim is not Claim.NO and module is not owner:
                yield inner, module, claim is Claim.YES


def _files(folder: Path) -> list[Path]:
    """Files worth opening on a walk, sorted; links that leave the folder are not followed."""
    return [f for f in sorted(folder.iterdir()) if _worth_opening(f.name) and f.is_file() and f.stat().st_size > 0]


def _worth_opening(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix in _SKIP_SUFFIXES or name in _SKIP_NAMES or name.startswith("."):
        return False
    return suffix != ".bin" or name == "training_args.bin"


def _highest(target: Target) -> tuple[ModuleType | None, Claim]:
    best: tuple[ModuleType | None, Claim] = (None, Claim.NO)
    for module in registry.load_all(FORMATS).values():
        claim = module.claim(target)
        if claim > best[1]:
            best = (module, claim)
            if claim is Claim.YES:
                break
    return best


def _best(target: Target, *, must: bool) -> ModuleType:
    module, claim = _highest(target)
    if module is None or (must and claim is Claim.NO):
        raise _unknown(target)
    return module


def _unknown(target: Target) -> AuditError:
    if target.head.startswith(b"version https://git-lfs"):
        return UnreadableLog(
            "is a git-lfs pointer, not the log itself",
            where=target.path,
            remedy=f"Fetch the content with `git lfs pull --include {target.name}`.",
        )
    return UnknownFormat(
        "no log format recognises the content",
        where=target.path,
        remedy="Give a trainer_state.json, JSON, JSON Lines, CSV, TensorBoard or .wandb file, or console output.",
    )


def _nothing_found(text: str) -> AuditError:
    remedy = (
        "Give a directory that holds trainer_state.json, TensorBoard events, wandb/ runs, JSON, CSV or console logs."
    )
    return UnreadableLog("no training log found", where=text, remedy=remedy)


def _is_settings_file(file: Path) -> bool:
    return file.name == "training_args.bin" or file.suffix.lower() in {".yaml", ".yml"} or file.name in {
        "config.json", "args.json", "README.md", "hparams.yaml", "adapter_config.json", "ds_config.json",
    }  # fmt: skip


def _settings_only(target: Target) -> Iterator[tuple[Target, ModuleType, bool]]:
    module, claim = _highest(target)
    if module is not None and claim is Claim.YES and getattr(module, "SETTINGS_ONLY", False):
        yield target, module, False


def _other_logs(log: Path) -> list[Path]:
    """The logs beside a log."""
    folder = log.parent
    return [f for f in _files(folder) if f != log and not _is_settings_file(f)] if folder.is_dir() else []
