"""Targets -> logs: walk, ask the formats which log is whose, read.

Finding the logs, reading one, and joining what was read are three steps, so that logs may be read by several workers.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ga_audit import registry
from ga_audit.errors import AuditError, UnknownFormat, UnreadableLog
from ga_audit.logs import failures, formats, git_lfs, merging, missing_path, object_store
from ga_audit.logs.formats import Claim, Target
from ga_audit.logs.formats._text import pattern
from ga_audit.run import ReadFailure, Run

# Never opened on a walk: weights, media, code, archives. A file that the user names is always tried.
_SKIP_SUFFIXES = frozenset({
    ".safetensors", ".pt", ".pth", ".ckpt", ".npy", ".npz", ".h5", ".onnx", ".gguf", ".parquet", ".arrow", ".png", ".jpg",
    ".jpeg", ".gif", ".svg", ".pdf", ".mp4", ".py", ".pyc", ".ipynb", ".sh", ".js", ".css", ".html", ".zip", ".gz", ".tar",
    ".so", ".model", ".lock", ".pkl", ".pickle", ".exe", ".whl", ".ini", ".cfg", ".toml",
})  # fmt: skip
_SKIP_NAMES = frozenset({
    "tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "tokenizer_config.json",
    "generation_config.json", "optimizer.bin", "pytorch_model.bin", "wandb-summary.json", "wandb-metadata.json",
    "ga-audit.json", "DIAGNOSIS.md", "LICENSE", "truth.json",
})  # fmt: skip
_SKIP_DIRS = frozenset({".git", "node_modules", "__pycache__", ".venv", "venv", ".ipynb_checkpoints", ".cache"})
_PIPE_FOLDERS = ("/dev/fd/", "/proc/self/fd/")  # where a shell puts the pipe of <(command)
_PIPE_WAIT = 60.0  # seconds without a byte, after which a pipe is given up

Progress = Callable[[str], None]
Claimed = tuple[Target, str, bool]  # a format by name; the flag says that failing is worth a message


@dataclass(frozen=True, slots=True)
class Log:
    """One log to be read; can be sent to another process."""

    target: Target
    format: str  # leaf name in ga_audit.logs.formats
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
    if options and "line" in options:
        pattern.compiled(options["line"])  # refused before a log is read
    for text in [targets] if isinstance(targets, str) else targets:  # its characters are no targets
        found = False
        try:
            for item in _claimed(text, keys):
                found = True
                if isinstance(item, ReadFailure):
                    yield item
                else:
                    target, name, sure = item
                    yield Log(target, name, sure, text)
            if not found:
                yield ReadFailure(text, _nothing_found(text))
        except Exception as error:
            yield failures.of_error(text, error)


def read_log(log: Log) -> list[Run | ReadFailure]:
    """The runs of one log, and what went wrong with it: never an exception.

    A format that was not sure of its claim refuses in silence, and gives nothing; a format that breaks is always named.
    What was read before it broke is kept.
    """
    target, pieces = log.target, list[Run | ReadFailure]()
    try:
        if "origin" in target.options and not os.path.exists(target.path):
            inside = Path(target.path).relative_to(target.options["copy"])
            target = replace(target, path=str(object_store.fetch(target.options["origin"], _worth_opening) / inside))
        for piece in formats.load(log.format).read(target):
            pieces.append(piece)
    except AuditError as error:
        pieces += [ReadFailure(target.path, error)] if log.sure else []
    except Exception as error:
        pieces.append(failures.of_error(target.path, error, reader=log.format))
    return pieces


def join(results: Sequence[tuple[Log | ReadFailure, Sequence[Run | ReadFailure]]]) -> Iterator[Run | ReadFailure]:
    """What `find_logs` found and `read_log` made of it: the failures, then the runs, their parts and views joined."""
    runs: list[Run] = []
    given: dict[str, bool] = {}  # whether anything came of a target
    said: set[tuple[str, str]] = set()  # a file of a folder that is a log is looked at by itself, too
    for log, pieces in results:
        if isinstance(log, Log):
            given[log.given] = given.get(log.given, False) or bool(pieces)
        for piece in (log,) if isinstance(log, ReadFailure) else pieces:
            if isinstance(piece, Run):
                runs.append(piece)
            elif (place := (piece.source, piece.error.message)) not in said:
                said.add(place)
                yield piece
    yield from (ReadFailure(text, _nothing_found(text)) for text, found in given.items() if not found)
    yield from merging.joined(runs, neighbours=_other_logs)


def _claimed(text: str, keys: dict[str, Any]) -> Iterator[Claimed | ReadFailure]:
    """The logs of one target with the format that reads each; the flag says that failing is worth a message."""
    if text in ("-", "/dev/stdin"):
        yield _piped(Target("-", text=sys.stdin.buffer.read(), **keys), "standard input")
        return
    if object_store.is_remote(text):
        copy = object_store.fetch(text, _worth_opening)
        # a worker on another machine fetches for itself
        keys = {**keys, "options": {**keys["options"], "origin": text, "copy": str(copy)}}
        text = str(copy)
    path = Path(text)
    if "://" in text or not os.path.exists(text):
        target = Target(text, **keys)
        name, claim = _highest(target)
        if name is None or claim is Claim.NO:
            raise missing_path.explain(text)
        expand = formats.load(name).expand
        for one in expand(target) if expand is not None else [target]:
            yield one, name, True
    elif path.is_dir():
        yield from _walk(path, keys)
    elif stat.S_ISFIFO(path.stat().st_mode) and text.startswith(_PIPE_FOLDERS):
        yield _piped(Target(text, text=_from_pipe(text), **keys), text)
    elif not path.is_file():
        remedy = "Give a file, or pipe the lines in: `ga-audit inspect - < PATH`."
        raise UnreadableLog("is a pipe, a socket or a device, and no file", where=text, remedy=remedy)
    else:
        yield from _named(path, text, keys)


def _named(path: Path, text: str, keys: dict[str, Any]) -> Iterator[Claimed | ReadFailure]:
    """A file that the user names, and what stands beside it and may hold its settings."""
    if path.stat().st_size == 0:
        raise UnreadableLog("the file is empty", where=text, remedy="Give the log of a run that has logged a line.")
    target = Target(text, **keys)
    git_lfs.refuse_pointer(target.head, text)
    yield target, _best(target, must=True), True
    for sibling in _files(path.parent):
        if isinstance(sibling, ReadFailure):
            if _is_settings_file(Path(sibling.source)):
                yield sibling
        elif sibling.name != path.name and _is_settings_file(sibling):
            try:
                yield from _settings_only(Target(str(sibling), **keys))
            except Exception as error:
                yield failures.of_error(str(sibling), error)


def _piped(target: Target, where: str) -> Claimed:
    """What came through a pipe."""
    if not target.text or not target.text.strip():
        raise UnreadableLog("nothing came in", where=where, remedy="Pipe or paste log lines into it.")
    return target, _best(target, must=True), True


def _from_pipe(path: str) -> bytes:
    """All that comes through the pipe of a shell's `<(command)`, which may have ended or may never say a word."""
    chunks: list[bytes] = []
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        last = time.monotonic()
        while time.monotonic() - last < _PIPE_WAIT:
            if not select.select([descriptor], [], [], 1.0)[0]:
                continue
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            last = time.monotonic()
    finally:
        os.close(descriptor)
    message = f"nothing came through this pipe for {_PIPE_WAIT:g} s"
    raise UnreadableLog(message, where=path, remedy="Write the lines into a file, and give that.")


def _walk(top: Path, keys: dict[str, Any]) -> Iterator[Claimed | ReadFailure]:
    errors: list[OSError] = []
    for folder, subfolders, _ in os.walk(top, onerror=errors.append):
        here = Path(folder)
        subfolders[:] = sorted(d for d in subfolders if d not in _SKIP_DIRS and not os.path.islink(here / d))
        owner: str | None = None
        target = Target(folder, **keys)
        try:
            name, claim = _highest(target)
        except OSError:
            name, claim = None, Claim.NO  # each file inside fails by its own name
        except Exception as error:
            name, claim = None, Claim.NO
            yield failures.of_error(folder, error)
        if name is not None and claim is Claim.YES:
            owner = name
            yield target, name, True
            if formats.load(name).owns_directory:
                subfolders.clear()
                continue
        for file in _files(here):
            yield from [file] if isinstance(file, ReadFailure) else _claimed_on_walk(file, owner, keys)
    yield from (failures.of_error(str(error.filename or top), error) for error in errors)


def _claimed_on_walk(file: Path, owner: str | None, keys: dict[str, Any]) -> Iterator[Claimed | ReadFailure]:
    """A file that a walk came to: claimed, of no use, broken, or gone by now."""
    target = Target(str(file), **keys)
    try:
        name, claim = _highest(target)
        if not os.path.lexists(file):  # a path that is gone could pass for an address on a server
            raise FileNotFoundError(str(file))
    except Exception as error:
        yield failures.of_error(str(file), error)
        return
    if name is not None and claim is not Claim.NO and name != owner:
        yield target, name, claim is Claim.YES


def _files(folder: Path) -> Iterator[Path | ReadFailure]:
    """Files worth opening on a walk, sorted, and those that cannot be looked at; pipes and devices are left out."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        yield failures.of_error(str(folder), error)
        return
    for name in names:
        if not _worth_opening(name):
            continue
        file = folder / name
        try:
            found = file.stat()
        except OSError as error:
            if not os.path.islink(file):  # a link that leads nowhere is no log
                yield failures.of_error(str(file), error)
            continue
        if stat.S_ISREG(found.st_mode) and found.st_size > 0:
            yield file


def _worth_opening(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix in _SKIP_SUFFIXES or name in _SKIP_NAMES or name.startswith("."):
        return False
    return suffix != ".bin" or name == "training_args.bin"


def _highest(target: Target) -> tuple[str | None, Claim]:
    """The format with the highest claim. One that breaks has no say, unless no other is sure: then its error is raised.

    The formats after the first that is sure are not imported.
    """
    best: tuple[str | None, Claim] = (None, Claim.NO)
    broken: Exception | None = None
    for name in registry.names(formats.__name__):
        of = formats.load(name)
        try:
            claim = of.claim(target)
        except Exception as error:
            broken = broken or error
            continue
        if claim > best[1]:
            best = (name, claim)
            if claim is Claim.YES:
                return best
    if broken is not None:
        raise broken
    return best


def _best(target: Target, *, must: bool) -> str:
    name, claim = _highest(target)
    if name is None or (must and claim is Claim.NO):
        raise _unknown(target)
    return name


def _unknown(target: Target) -> AuditError:
    try:
        git_lfs.refuse_pointer(target.head, target.path)
    except UnreadableLog as error:
        return error
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


def _settings_only(target: Target) -> Iterator[Claimed]:
    for name, found in formats.load_all().items():
        # a card with a table of results is a log too, but here it stands for the settings of the log beside it
        if found.settings_only and found.claim(target) is Claim.YES:
            yield target, name, False
            return


def _other_logs(log: Path) -> list[Path]:
    """The logs beside a log."""
    folder = log.parent
    files = (f for f in _files(folder) if isinstance(f, Path)) if folder.is_dir() else ()
    return [f for f in files if f != log and not _is_settings_file(f)]
