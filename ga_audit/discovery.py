"""Targets -> runs: walk, ask the formats, join the parts of one training.

What lies in one output folder (a `trainer_state.json`, the TensorBoard events under `runs/`, `training_args.bin`, a
model card) are parts of one training. Views of one training are joined only where the file names are those that a
trainer gives and the numbers agree in shape; free-named files stay runs of their own, since `ga1.json` and `ga8.csv`
side by side are two runs.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from ga_audit import registry, settings
from ga_audit.errors import AuditError, UnknownFormat, UnreadableLog
from ga_audit.formats import Claim, Target
from ga_audit.run import Note, ReadFailure, Role, Run

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

_CHECKPOINT = re.compile(r"(checkpoint|global_step|epoch|step)[-_]?\d+$")
_LOG_FOLDERS = frozenset({"logs", "log", "tensorboard", "tb", "tb_logs", "files", "logging", "trainer_logs"})
# names that a trainer gives: only these may be views of one training
_CANONICAL = re.compile(
    r"(trainer_state\.json|trainer_log\.jsonl|logging\.jsonl|metrics\.csv|progress\.csv|log_\d+\.txt|all_results\.json|"
    r"events\.out\.tfevents.*|run-\w+\.wandb|(offline-)?run-\d{8}_\d{6}-\w+)$"
)
_RUNS_FOLDER = "runs"

Progress = Callable[[str], None]


def find_runs(
    targets: Sequence[str],
    *,
    loss_key: str | None = None,
    grad_norm_key: str | None = None,
    progress: Progress | None = None,
) -> Iterator[Run | ReadFailure]:
    """Every run that the targets hold, and, in the same stream, what could not be read.

    Parameters
    ----------
    targets : files, directories, "-" for standard input.
    loss_key, grad_norm_key : the user's names of the two series; None = by `naming`.
    progress : called with the path of each log before it is read.
    """
    pieces: list[Run] = []
    keys = {"loss_key": loss_key, "grad_norm_key": grad_norm_key}
    for text in targets:
        found = False
        try:
            for target, module, sure in _claimed(text, keys):
                if progress is not None:
                    progress(target.path)
                for piece in _read(target, module, sure):
                    found = True
                    if isinstance(piece, ReadFailure):
                        yield piece
                    else:
                        pieces.append(piece)
            if not found:
                yield ReadFailure(text, _nothing_found(text))
        except AuditError as error:
            yield ReadFailure(text, error)
    yield from _named(_joined(pieces))


def _claimed(text: str, keys: dict[str, str | None]) -> Iterator[tuple[Target, ModuleType, bool]]:
    """The logs of one target with the format that reads each; the flag says that failing is worth a message."""
    if text == "-":
        target = Target("-", text=sys.stdin.buffer.read(), **keys)  # type: ignore[arg-type]
        if not target.text or not target.text.strip():
            raise UnreadableLog("nothing came in", where="standard input", remedy="Pipe or paste log lines into it.")
        yield target, _best(target, must=True), True
        return
    path = Path(text)
    if "://" in text or not path.exists():
        target = Target(text, **keys)  # type: ignore[arg-type]
        module, claim = _highest(target)
        if module is None or claim is Claim.NO:
            raise UnreadableLog(
                "no such file or directory", where=text, remedy="Give the path of a log, a run directory or a tree."
            )
        yield target, module, True
    elif path.is_file():
        if path.stat().st_size == 0:
            raise UnreadableLog("the file is empty", where=text, remedy="Give the log of a run that has logged a line.")
        target = Target(text, **keys)  # type: ignore[arg-type]
        yield target, _best(target, must=True), True
        # what stands beside a named log may hold its settings
        for sibling in _files(path.parent):
            if sibling.name != path.name and _is_settings_file(sibling):
                yield from _settings_only(Target(str(sibling), **keys))  # type: ignore[arg-type]
    else:
        yield from _walk(path, keys)


def _walk(top: Path, keys: dict[str, str | None]) -> Iterator[tuple[Target, ModuleType, bool]]:
    for folder, subfolders, _ in os.walk(top):
        here = Path(folder)
        subfolders[:] = sorted(d for d in subfolders if d not in _SKIP_DIRS and not (here / d).is_symlink())
        owner: ModuleType | None = None
        target = Target(folder, **keys)  # type: ignore[arg-type]
        module, claim = _highest(target)
        if module is not None and claim is Claim.YES:
            owner = module
            yield target, module, True
            if getattr(module, "OWNS_DIRECTORY", False):
                subfolders.clear()
                continue
        for file in _files(here):
            inner = Target(str(file), **keys)  # type: ignore[arg-type]
            module, claim = _highest(inner)
            if module is not None and claim is not Claim.NO and module is not owner:
                yield inner, module, claim is Claim.YES


def _files(folder: Path) -> list[Path]:
    """Files worth opening on a walk, sorted; links that leave the folder are not followed."""
    return [
        f
        for f in sorted(folder.iterdir())
        if f.suffix.lower() not in _SKIP_SUFFIXES
        and f.name not in _SKIP_NAMES
        and not f.name.startswith(".")
        and (f.suffix != ".bin" or f.name == "training_args.bin")
        and f.is_file()
        and f.stat().st_size > 0
    ]


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
    return UnreadableLog(
        "no training log found",
        where=text,
        remedy="Give a directory that holds trainer_state.json, TensorBoard events, wandb/ runs, JSON, CSV or console logs.",
    )


def _read(target: Target, module: ModuleType, sure: bool) -> Iterator[Run | ReadFailure]:
    """The runs of one log; a format that was not sure of its claim fails in silence."""
    try:
        yield from module.read(target)
    except AuditError as error:
        if sure:
            yield ReadFailure(target.path, error)
    except OSError as error:
        remedy = "Check that the file exists and may be read."
        yield ReadFailure(target.path, UnreadableLog(error.strerror or str(error), where=target.path, remedy=remedy))


def _is_settings_file(file: Path) -> bool:
    return file.name == "training_args.bin" or file.suffix.lower() in {".yaml", ".yml"} or file.name in {
        "config.json", "args.json", "README.md", "hparams.yaml", "adapter_config.json", "ds_config.json",
    }  # fmt: skip


def _settings_only(target: Target) -> Iterator[tuple[Target, ModuleType, bool]]:
    module, claim = _highest(target)
    if module is not None and claim is Claim.YES and getattr(module, "SETTINGS_ONLY", False):
        yield target, module, False


# --- joining -------------------------------------------------------------------------------------------------------


def _root(run: Run) -> Path:
    """The output folder of the training that a log belongs to."""
    path = Path(run.sources[0].path) if run.sources else Path(run.id)
    folder = path if path.is_dir() else path.parent
    if _CHECKPOINT.fullmatch(folder.name):
        folder = folder.parent
    if folder.name in _LOG_FOLDERS:
        folder = folder.parent
    if folder.parent.name == _RUNS_FOLDER:
        folder = folder.parent.parent
    elif folder.name == _RUNS_FOLDER:
        folder = folder.parent
    if folder.parent.name == "wandb":
        folder = folder.parent.parent
    return folder


def _is_canonical(run: Run) -> bool:
    if not run.sources or run.sources[0].path == "-":
        return False
    path = Path(run.sources[0].path)
    if path.is_dir():
        return True
    return bool(_CANONICAL.match(path.name))


def _joined(pieces: Iterable[Run]) -> list[Run]:
    """Runs with the views of one training joined, the newest checkpoint kept, and sibling settings added."""
    siblings: dict[Path, list[Run]] = defaultdict(list)
    logs: dict[Path, list[Run]] = defaultdict(list)
    for piece in pieces:
        (logs if piece.series else siblings)[_root(piece)].append(piece)
    runs: list[Run] = []
    for here in logs.values():
        runs.extend(_join_views(_newest_checkpoints(here)))
    return [_with_siblings(run, siblings) for run in runs]


def _newest_checkpoints(runs: list[Run]) -> list[Run]:
    """Of several checkpoints of one training the one that went furthest; others unchanged."""
    kept: dict[tuple[str, Path], Run] = {}
    result: list[Run] = []
    for run in runs:
        path = Path(run.sources[0].path)
        folder = path if path.is_dir() else path.parent
        inside = _CHECKPOINT.fullmatch(folder.name) is not None
        if path.name != "trainer_state.json":
            result.append(run)
            continue
        key = ("trainer_state", folder.parent if inside else folder)
        other = kept.get(key)
        if other is None or _last_step(run) > _last_step(other):
            kept[key] = run
    return list(kept.values()) + result


def _last_step(run: Run) -> int:
    return max((int(s.step[-1]) for s in run.series if len(s)), default=-1)


def _join_views(runs: list[Run]) -> list[Run]:
    """Join what different sinks logged of one training: one run per sink, trainer's names, same shape."""
    by_sink: dict[str, list[Run]] = defaultdict(list)
    alone: list[Run] = []
    for run in runs:
        if _is_canonical(run) and run.corrected_by is None:
            by_sink[run.sources[0].format].append(run)
        else:
            alone.append(run)
    unique = [group[0] for group in by_sink.values() if len(group) == 1]
    alone += [run for group in by_sink.values() if len(group) > 1 for run in group]
    if not unique:
        return alone
    first, *rest = sorted(unique, key=lambda r: -sum(len(s) for s in r.series))
    for other in rest:
        if _same_training(first, other):
            first = _join(first, other)
        else:
            alone.append(other)
    return [first, *alone]


def _same_training(one: Run, two: Run) -> bool:
    """Whether two logs can be views of one training: no known GA differs, and the losses have one shape."""
    if one.settings.ga is not None and two.settings.ga is not None and one.settings.ga != two.settings.ga:
        return False
    for role in (Role.LEARNING_RATE, Role.LOSS):
        a, b = one.get(role), two.get(role)
        if a is None or b is None:
            continue
        common, ia, ib = np.intersect1d(a.step, b.step, return_indices=True)
        if len(common) < 3:
            return False
        x, y = a.value[ia], b.value[ib]
        ok = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
        if ok.sum() < 3:
            continue
        ratio = np.log(x[ok]) - np.log(y[ok])
        # one training logged twice differs by rounding and at most a constant factor
        if np.median(np.abs(ratio - np.median(ratio))) > 0.01:
            return False
        if role is Role.LEARNING_RATE and abs(float(np.median(ratio))) > 0.01:
            return False
    return True


def _join(one: Run, two: Run) -> Run:
    return replace(
        one,
        settings=settings.merge(one.settings, two.settings),
        series=one.series + two.series,
        sources=one.sources + two.sources,
        events=one.events + two.events,
        notes=one.notes + two.notes,
        left_out=one.left_out + two.left_out,
    )


def _with_siblings(run: Run, siblings: dict[Path, list[Run]]) -> Run:
    near = list(siblings.get(_root(run), ()))
    if run.sources:
        path = Path(run.sources[0].path)
        folder = path if path.is_dir() else path.parent
        if folder != _root(run):
            near += siblings.get(folder, [])
    if not _is_canonical(run):
        # a lone configuration beside several free-named logs does not say which of them it configured
        near = [s for s in near if _belongs(s, run)]
    return replace(run, settings=settings.merge(run.settings, *(s.settings for s in near))) if near else run


def _belongs(sibling: Run, run: Run) -> bool:
    a, b = Path(sibling.sources[0].path), Path(run.sources[0].path)
    others = [f for f in _files(b.parent) if f != b and not _is_settings_file(f)] if b.parent.is_dir() else []
    return a.stem == b.stem or not others


# --- names ---------------------------------------------------------------------------------------------------------


def _named(runs: list[Run]) -> Iterator[Run]:
    """Short names that tell the runs apart, unique ids, and what a name says of the settings."""
    labels = _short_labels([_label_parts(run) for run in runs])
    seen: dict[str, int] = defaultdict(int)
    for run, label in zip(runs, labels, strict=True):
        seen[label] += 1
        name = label if seen[label] == 1 else f"{label} #{seen[label]}"
        guess = settings.from_run_name(label if label == run.name else f"{label} {run.name}")
        notes = run.notes
        if run.settings.gradient_accumulation_steps is None and guess.gradient_accumulation_steps is not None:
            message = f"GA {guess.ga} is read from the run's name only; confirm it with --ga '{name}={guess.ga}'"
            notes = (*notes, Note("ga-from-name", message))
        yield replace(run, id=name, name=name, settings=settings.merge(run.settings, guess), notes=notes)


def _label_parts(run: Run) -> tuple[str, ...]:
    if not run.sources or run.sources[0].path == "-":
        return (run.name,)
    root = _root(run)
    path = Path(run.sources[0].path)
    parts = [p for p in root.parts if p not in {"/", ".", ".."}]
    if run.sources[0].format.startswith("wandb"):
        parts.append(run.name)
    elif not _is_canonical(run):
        parts.append(run.name if run.name not in {path.name, path.stem, ""} else path.stem)
    return tuple(parts) or (run.name,)


def _short_labels(parts: list[tuple[str, ...]]) -> list[str]:
    """The shortest path endings that differ, at least one part each."""
    labels = []
    for own in parts:
        for n in range(1, len(own) + 1):
            tail = own[-n:]
            if all(other == own for other in parts if other[-n:] == tail):  # those that are wholly alike are numbered
                break
        labels.append("/".join(own[-n:]))
    return labels
