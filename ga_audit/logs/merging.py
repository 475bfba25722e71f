"""Which logs are parts or views of one training; short names that tell the runs apart.

What lies in one output folder (a `trainer_state.json`, the TensorBoard events under `runs/`, `training_args.bin`, a
model card) are parts of one training. Views of one training are joined only where the file names are those that a
trainer gives and the numbers agree in shape; free-named files stay runs of their own, since `ga1.json` and `ga8.csv`
side by side are two runs. A W&B id names one training wherever its parts lie.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

import numpy as np

from ga_audit.logs import settings
from ga_audit.logs.run_names import named
from ga_audit.logs.run_places import (
    CHECKPOINT,
    HELD_OUT_FOLDERS,
    TRAINING_FOLDERS,
    folder_of,
    is_canonical,
    wandb_run,
)
from ga_audit.logs.run_places import (
    root as root,
)
from ga_audit.logs.same_training import (
    first_points,
    is_numbered,
    is_part_of,
    is_same_log,
    is_same_training,
    placed,
)
from ga_audit.run import Note, NoteCode, Role, Run

Neighbours = Callable[[Path], Sequence[Path]]


def joined(pieces: Iterable[Run], *, neighbours: Neighbours) -> Iterator[Run]:
    """Runs with the parts and views of each training joined, and with short names that tell them apart.

    Parameters
    ----------
    pieces : what the formats read; settings without series are taken into the runs beside them.
    neighbours : the other logs in the folder of a log.
    """
    yield from named(_joined(pieces, neighbours))


def _joined(pieces: Iterable[Run], neighbours: Neighbours) -> list[Run]:
    """Runs with the views of one training joined, the newest checkpoint kept, and sibling settings added."""
    siblings: dict[Path, list[Run]] = defaultdict(list)
    logs: dict[Path, list[Run]] = defaultdict(list)
    for piece in pieces:
        (logs if piece.series else siblings)[root(piece)].append(piece)
    runs: list[Run] = []
    shared: set[Path] = set()  # folders that hold several trainings
    for top, here in logs.items():
        trainings = _trainings_of_checkpoints(_with_held_out(here))
        if sum(_is_state(run) for run in trainings) > 1 or any(
            run.sources and run.sources[0].part for run in trainings
        ):
            shared.add(top)
        runs.extend(_join_views(trainings))
    # GA may stand in a file beside a log, and equal numbers at another GA are another training
    configured = [_with_siblings(run, siblings, neighbours, shared) for run in _one_of_each_id(runs)]
    return _one_of_each_training(configured)


def _one_of_each_id(runs: list[Run]) -> list[Run]:
    """The local and the server's log of one W&B run as views of one run; the parts of a resumed one stay apart."""
    kept: dict[str, Run] = {}
    result: list[Run] = []
    for run in runs:
        if not run.training.startswith("wandb:") or run.corrected_by is not None:
            result.append(run)
            continue
        other = kept.setdefault(run.training, run)
        if other is not run and other.sources[0].format != run.sources[0].format and is_same_training(other, run):
            kept[run.training] = _join(other, run)
        elif other is not run and is_part_of(run, other):
            kept[run.training] = _with_copy(other, run)
        elif other is not run and is_part_of(other, run):
            kept[run.training] = _with_copy(run, other)
        elif other is not run:
            result.append(run)
    return [*kept.values(), *result]


def _with_held_out(runs: list[Run]) -> list[Run]:
    """TensorBoard's `train` and `valid` folders beside each other as one run."""
    train = {
        Path(run.sources[0].path).parent: i
        for i, run in enumerate(runs)
        if _split_folder(run) in TRAINING_FOLDERS and not run.sources[0].part
    }
    joined_runs = list(runs)
    kept = [True] * len(runs)
    for i, run in enumerate(runs):
        at = train.get(Path(run.sources[0].path).parent) if run.sources else None
        if at is not None and _split_folder(run) in HELD_OUT_FOLDERS and not run.sources[0].part:
            joined_runs[at] = _join(joined_runs[at], run)
            kept[i] = False
    return [run for run, keep in zip(joined_runs, kept, strict=True) if keep]


def _split_folder(run: Run) -> str:
    """`train` or `valid`, where the run is a TensorBoard folder of such a name."""
    if not run.sources or run.sources[0].format != "tensorboard":
        return ""
    path = Path(run.sources[0].path)
    return path.name.lower() if path.is_dir() else ""


def _one_of_each_training(runs: list[Run]) -> list[Run]:
    """Logs of other formats in one tree that hold the same numbers at the same steps, as one run.

    A correct trainer logs the same numbers at every GA: logs are joined only where both state one GA, and where the
    folder of one training holds that of the other, as `wandb/` and `outputs/` of one project.
    """
    kept: list[Run] = []
    points: dict[tuple[int, np.float32], int] = {}
    for run in sorted(runs, key=lambda r: -sum(len(s) for s in r.series)):
        loss = run.get(Role.LOSS)
        mine = [] if loss is None or not is_canonical(run) or run.corrected_by is not None else first_points(loss)
        same = next((points[p] for p in mine if p in points and _is_one_training(kept[points[p]], run)), None)
        if same is not None:
            kept[same] = _join(kept[same], run)
            continue
        points.update(dict.fromkeys(mine, len(kept)))
        kept.append(run)
    order = {source: i for i, run in enumerate(runs) for source in run.sources}
    return sorted(kept, key=lambda run: min((order.get(source, 0) for source in run.sources), default=0))


def _is_one_training(one: Run, two: Run) -> bool:
    tops = root(one), root(two)
    nested = tops[0] in (tops[1], *tops[1].parents) or tops[1] in tops[0].parents
    return nested and is_same_log(one, two)


def _with_copy(run: Run, copy: Run) -> Run:
    path = copy.sources[0].path
    return replace(run, notes=(*run.notes, Note(NoteCode.COPY, where=path, facts={"path": path})))


def _is_state(run: Run) -> bool:
    return bool(run.sources) and Path(run.sources[0].path).name == "trainer_state.json"


def _trainings_of_checkpoints(runs: list[Run]) -> list[Run]:
    """Of the checkpoints of each training the one that went furthest; others unchanged.

    The state of a checkpoint holds all that was logged before it: a state that is no part of a later one is of another
    training in the same folder.
    """
    states: dict[Path, list[Run]] = defaultdict(list)
    result: list[Run] = []
    for run in runs:
        if not _is_state(run):
            result.append(run)
            continue
        folder = Path(run.sources[0].path).parent
        states[folder.parent if CHECKPOINT.fullmatch(folder.name) else folder].append(run)
    kept: list[Run] = []
    for same_folder in states.values():
        furthest: list[Run] = []
        for run in sorted(same_folder, key=_last_step, reverse=True):
            if not any(is_part_of(run, later) for later in furthest):
                furthest.append(run)
        kept += furthest
    return kept + result


def _last_step(run: Run) -> int:
    return max((int(s.position[-1]) for s in run.series if len(s)), default=-1)


def _join_views(runs: list[Run]) -> list[Run]:
    """Join what different sinks logged of one training: one run per sink, trainer's names, same shape."""
    by_sink: dict[str, list[Run]] = defaultdict(list)
    alone: list[Run] = []
    for run in runs:
        if is_canonical(run) and run.corrected_by is None:
            by_sink[run.sources[0].format].append(run)
        else:
            alone.append(run)
    unique = [group[0] for group in by_sink.values() if len(group) == 1]
    alone += [run for group in by_sink.values() if len(group) > 1 for run in group]
    if not unique:
        return alone
    first, *rest = sorted(unique, key=lambda r: (is_numbered(r), -sum(len(s) for s in r.series)))
    for other in rest:
        view = placed(first, other)
        if is_same_training(first, view):
            first = _join(first, view)
        else:
            alone.append(other)
    return [first, *alone]


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


def _with_siblings(
    run: Run, siblings: dict[Path, list[Run]], neighbours: Neighbours, several: AbstractSet[Path]
) -> Run:
    """The run with the settings of the files beside it: of its own checkpoint, else of its folder, else of others.

    Parameters
    ----------
    several : folders that hold several trainings: what lies in one of them does not say of which it is.
    """
    top = root(run)
    folders = {folder_of(source) for source in run.sources}
    near = list(siblings.get(top, ()))
    for folder in sorted(folders - {top}):
        near += siblings.get(folder, [])
    if not is_canonical(run):
        # a lone configuration beside several free-named logs does not say which of them it configured
        near = [s for s in near if _belongs(s, run, neighbours)]
    owners = {wandb_run(source.path) for source in run.sources}
    near = [s for s in near if (owner := wandb_run(s.sources[0].path)) is None or owner in owners]
    if top in several:
        near = [s for s in near if folder_of(s.sources[0]) in folders and not run.sources[0].part]
    if not near:
        return run
    in_checkpoint = [s for s in near if CHECKPOINT.fullmatch(folder_of(s.sources[0]).name)]
    own = [s for s in in_checkpoint if folder_of(s.sources[0]) in folders]
    shared = [s for s in near if s not in in_checkpoint]
    known = settings.merge(run.settings, *(s.settings for s in (*own, *shared)))
    others = [s for s in in_checkpoint if s not in own and s.settings.ga in {None, known.ga or s.settings.ga}]
    agreed, differing = settings.agreed({_short_path(s, top): s.settings for s in others}, known)
    notes = (*run.notes, _differ(differing)) if differing else run.notes
    return replace(run, settings=settings.merge(known, agreed), notes=notes)


def _differ(values: dict[str, dict[str, str]]) -> Note:
    """What the checkpoints of other trainings say differently, by setting and file."""
    facts = {name: tuple(f"{v} in {file}" for file, v in by.items()) for name, by in values.items()}
    return Note(NoteCode.CHECKPOINTS_DIFFER, facts=facts)


def _short_path(sibling: Run, top: Path) -> str:
    path = Path(sibling.sources[0].path)
    return str(path.relative_to(top)) if path.is_relative_to(top) else str(path)


def _belongs(sibling: Run, run: Run, neighbours: Neighbours) -> bool:
    a, b = Path(sibling.sources[0].path), Path(run.sources[0].path)
    return a.stem == b.stem or not neighbours(b)
