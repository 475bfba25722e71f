"""Which logs are parts or views of one training; short names that tell the runs apart.

What lies in one output folder (a `trainer_state.json`, the TensorBoard events under `runs/`, `training_args.bin`, a
model card) are parts of one training. Views of one training are joined only where the file names are those that a
trainer gives and the numbers agree in shape; free-named files stay runs of their own, since `ga1.json` and `ga8.csv`
side by side are two runs. A W&B id names one training wherever its parts lie.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ga_audit.logs import settings
from ga_audit.run import Note, Role, Run, Source
from ga_audit.stats.arrays import median

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHECKPOINT = re.compile(r"(checkpoint|global_step|epoch|step)[-_]?\d+$")
_LOG_FOLDERS = frozenset({"logs", "log", "tensorboard", "tb", "tb_logs", "files", "logging", "trainer_logs"})
# names that a trainer gives: only these may be views of one training
_CANONICAL = re.compile(
    r"(trainer_state\.json|trainer_log\.jsonl|logging\.jsonl|metrics\.csv|progress\.csv|log_\d+\.txt|all_results\.json|README\.md|"
    r"console\.txt|debug\.log|events\.out\.tfevents.*|run-\w+\.wandb|(offline-)?run-\d{8}_\d{6}-\w+)$"
)
_RUNS_FOLDER = "runs"
_ENOUGH = 3  # common points from which a constant factor between two logs can be told from two trainings
_ROUNDING = 0.01  # of ln(value)
_TRACKERS = ("wandb", "mlflow", "trackio")  # they name their runs

Neighbours = Callable[[Path], Sequence[Path]]


def joined(pieces: Iterable[Run], *, neighbours: Neighbours) -> Iterator[Run]:
    """Runs with the parts and views of each training joined, and with short names that tell them apart.

    Parameters
    ----------
    pieces : what the formats read; settings without series are taken into the runs beside them.
    neighbours : the other logs in the folder of a log.
    """
    yield from _named(_joined(pieces, neighbours))


def root(run: Run) -> Path:
    """The output folder of the training that a log belongs to; of a log on a server, its project."""
    path = Path(run.sources[0].path) if run.sources else Path(run.id)
    folder = path if path.is_dir() else path.parent
    if _CHECKPOINT.fullmatch(folder.name):
        folder = folder.parent
    if folder.name in _LOG_FOLDERS:
        folder = folder.parent
    # the Trainer logs to OUTPUT/runs/DATE_HOST; but people also call the folder of their outputs `runs`
    if run.sources and run.sources[0].format == "tensorboard" and not _is_output(folder):
        if folder.parent.name == _RUNS_FOLDER:
            folder = folder.parent.parent
        elif folder.name == _RUNS_FOLDER:
            folder = folder.parent
    if folder.parent.name == "wandb":
        folder = folder.parent.parent
    return folder


def _is_output(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("trainer_state.json", "training_args.bin"))


def _is_canonical(run: Run) -> bool:
    if not run.sources or run.sources[0].path == "-":
        return False
    path = Path(run.sources[0].path)
    if path.is_dir():
        return True
    return bool(_CANONICAL.match(path.name))


def _joined(pieces: Iterable[Run], neighbours: Neighbours) -> list[Run]:
    """Runs with the views of one training joined, the newest checkpoint kept, and sibling settings added."""
    siblings: dict[Path, list[Run]] = defaultdict(list)
    logs: dict[Path, list[Run]] = defaultdict(list)
    for piece in pieces:
        (logs if piece.series else siblings)[root(piece)].append(piece)
    runs: list[Run] = []
    for here in logs.values():
        runs.extend(_join_views(_newest_checkpoints(here)))
    return [_with_siblings(run, siblings, neighbours) for run in _one_of_each_id(runs)]


def _one_of_each_id(runs: list[Run]) -> list[Run]:
    """The local and the server's log of one W&B run as views of one run; the parts of a resumed one stay apart."""
    kept: dict[str, Run] = {}
    result: list[Run] = []
    for run in runs:
        if not run.training.startswith("wandb:") or run.corrected_by is not None:
            result.append(run)
            continue
        other = kept.setdefault(run.training, run)
        if other is not run and other.sources[0].format != run.sources[0].format and _same_training(other, run):
            kept[run.training] = _join(other, run)
        elif other is not run:
            result.append(run)
    return [*kept.values(), *result]


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
    return max((int(s.position[-1]) for s in run.series if len(s)), default=-1)


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
    first, *rest = sorted(unique, key=lambda r: (_is_numbered(r), -sum(len(s) for s in r.series)))
    for other in rest:
        placed = _placed(first, other)
        if _same_training(first, placed):
            first = _join(first, placed)
        else:
            alone.append(other)
    return [first, *alone]


def _is_numbered(run: Run) -> bool:
    """Whether the steps are those of lines in order, since the lines hold none."""
    return any(note.code == "derived-step" for note in run.notes)


def _placed(one: Run, two: Run) -> Run:
    """The second log at the steps of the first, if its lines were only numbered and its losses are every k-th of theirs."""
    a, b = one.get(Role.LOSS), two.get(Role.LOSS)
    if (
        not _is_numbered(two)
        or a is None
        or b is None
        or not len(a)
        or not len(b)
        or np.array_equal(a.position, b.position)
    ):
        return two
    found: list[tuple[float, NDArray[np.int64]]] = []
    for stride in range(1, len(a) // len(b) + 1):
        for start in dict.fromkeys((stride - 1, 0)):
            chosen = slice(start, start + stride * len(b), stride)
            steps, values = a.position[chosen], a.value[chosen]
            if len(steps) == len(b) and _alike(values, b.value):
                found.append((float(np.nanmean(np.abs(values / b.value - 1))), steps))
    if not found:
        return two
    step_of = dict(zip(b.position.tolist(), min(found, key=lambda f: f[0])[1].tolist(), strict=True))
    kept = [s for s in two.series if all(i in step_of for i in s.position.tolist())]
    series = tuple(replace(s, position=np.array([step_of[i] for i in s.position.tolist()])) for s in kept)
    return replace(two, series=series, notes=tuple(note for note in two.notes if note.code != "derived-step"))


def _alike(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """One curve logged twice: it differs by rounding and, if there are points enough to tell, by a constant factor."""
    ok = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    if not ok.any():
        return False
    ratio = np.log(x[ok]) - np.log(y[ok])
    common = median(ratio) if ok.sum() >= _ENOUGH else 0.0
    return bool(median(np.abs(ratio - common)) <= _ROUNDING)


def _same_training(one: Run, two: Run) -> bool:
    """Whether two logs can be views of one training: no known GA differs, and the losses have one shape."""
    if one.settings.ga is not None and two.settings.ga is not None and one.settings.ga != two.settings.ga:
        return False
    for role in (Role.LEARNING_RATE, Role.LOSS):
        a, b = one.get(role), two.get(role)
        if a is None or b is None:
            continue
        common, ia, ib = np.intersect1d(a.position, b.position, return_indices=True)
        if len(common) < min(_ENOUGH, len(a), len(b)) or not len(common):
            return False
        x, y = a.value[ia], b.value[ib]
        ok = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
        if not ok.any():
            continue
        if not _alike(x, y):
            return False
        if role is Role.LEARNING_RATE and abs(median(np.log(x[ok]) - np.log(y[ok]))) > _ROUNDING:
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
        private=one.private + two.private,
    )


def _with_siblings(run: Run, siblings: dict[Path, list[Run]], neighbours: Neighbours) -> Run:
    """The run with the settings of the files beside it: of its own checkpoint, else of its folder, else of others."""
    top = root(run)
    folders = {_folder(source) for source in run.sources}
    near = list(siblings.get(top, ()))
    for folder in sorted(folders - {top}):
        near += siblings.get(folder, [])
    if not _is_canonical(run):
        # a lone configuration beside several free-named logs does not say which of them it configured
        near = [s for s in near if _belongs(s, run, neighbours)]
    if not near:
        return run
    in_checkpoint = [s for s in near if _CHECKPOINT.fullmatch(_folder(s.sources[0]).name)]
    own = [s for s in in_checkpoint if _folder(s.sources[0]) in folders]
    shared = [s for s in near if s not in in_checkpoint]
    known = settings.merge(run.settings, *(s.settings for s in (*own, *shared)))
    others = [s for s in in_checkpoint if s not in own and s.settings.ga in {None, known.ga or s.settings.ga}]
    agreed, differing = settings.agreed({_short_path(s, top): s.settings for s in others}, known)
    notes = (*run.notes, _differ(differing)) if differing else run.notes
    return replace(run, settings=settings.merge(known, agreed), notes=notes)


def _differ(values: dict[str, dict[str, str]]) -> Note:
    """What the checkpoints of other trainings say differently, by setting and file."""
    each = (f"{name} ({', '.join(f'{v} in {file}' for file, v in by.items())})" for name, by in values.items())
    return Note("checkpoints-differ", f"not taken from checkpoints that differ: {'; '.join(each)}")


def _folder(source: Source) -> Path:
    path = Path(source.path)
    return path if path.is_dir() else path.parent


def _short_path(sibling: Run, top: Path) -> str:
    path = Path(sibling.sources[0].path)
    return str(path.relative_to(top)) if path.is_relative_to(top) else str(path)


def _belongs(sibling: Run, run: Run, neighbours: Neighbours) -> bool:
    a, b = Path(sibling.sources[0].path), Path(run.sources[0].path)
    return a.stem == b.stem or not neighbours(b)


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
    folder = root(run)
    path = Path(run.sources[0].path)
    parts = [p for p in folder.parts if p not in {"/", ".", ".."}]
    if run.sources[0].format.startswith(_TRACKERS):
        parts.append(run.name)
    elif not _is_canonical(run):
        parts.append(run.name if run.name not in {path.name, path.stem, ""} else path.stem)
    return tuple(parts) or (run.name,)


def _short_labels(parts: list[tuple[str, ...]]) -> list[str]:
    """The shortest path endings that differ, at least one part each; those that are wholly alike share one."""
    count = Counter(own[-n:] for own in set(parts) for n in range(1, len(own) + 1))
    labels = []
    for own in parts:
        endings = [own[-n:] for n in range(1, len(own) + 1)]
        labels.append("/".join(next((tail for tail in endings if count[tail] == 1), own)))
    return labels
