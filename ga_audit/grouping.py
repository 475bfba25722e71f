"""which runs may be compared, on which axis, and how else they differ.

Runs are comparable when model and data are the same as far as the logs know. How closely they are related
(`finding.Relatedness`) sets how far two right runs may differ, so unknown is a value of its own here: it is neither yes nor no.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ga_audit.finding import Axis, AxisReason, NotApplicable, Reason, Relatedness
from ga_audit.logs.trainers import LOSS_PACKAGES, canonical_name
from ga_audit.run import Counted, FloatArray, IntArray, Role, Run, Series
from ga_audit.stats import alignment
from ga_audit.stats.kindred import Agreement


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Panel:
    """One quantity of n runs on m common bins of training progress."""

    role: Role
    runs: tuple[Run, ...]
    axis: Axis
    axis_reason: AxisReason
    edges: FloatArray  # (m+1,), bins are (low, high]
    level: FloatArray  # (n, m) natural log of the bin mean, NaN = none
    count: IntArray  # (n, m) points
    rounding: FloatArray  # (n,) relative sd of the rounding of the values
    axis_gap: float  # sd by which the choice of axis moves a contrast
    points: int  # in all
    masked: int  # NaN, infinite
    winsorised: int


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Runs that may be compared."""

    runs: tuple[Run, ...]

    @property
    def settings_that_differ(self) -> tuple[str, ...]:
        """Names of settings that are known to differ, GA and world size among them."""
        return settings_that_differ(self.runs)

    def panel(self, role: Role, runs: Sequence[Run] | None = None) -> Panel | NotApplicable:
        """Levels of a quantity on common bins, of all runs that log it or of those given.

        Each call bins the points anew.
        """
        chosen = tuple(r for r in (self.runs if runs is None else runs) if r.get(role) is not None)
        return _panel(role, chosen)


def group(runs: Iterable[Run]) -> list[Group]:
    """Split runs into groups of one objective in which model and data are not known to differ.

    A run that names neither joins a group only if there is but one it could join.
    """
    by_objective: dict[tuple[bool, ...], list[Run]] = {}
    for run in runs:
        by_objective.setdefault(_signs(run), []).append(run)
    return [
        Group(tuple(sorted(members, key=lambda r: (r.settings.ga or 0, r.name, r.id))))
        for alike in by_objective.values()
        for members in _compatible_groups(alike)
    ]


def _signs(run: Run) -> tuple[bool, ...]:
    """What trainers of preferences and rewards log, and others do not: it parts their objectives."""
    names = run.names
    rewards = any("rewards/" in name for name in names)
    margins = any("rewards/margins" in name for name in names)
    lengths = any("completion_length" in name or "completions/" in name for name in names)
    return rewards, margins, rewards and "kl" in {name.rpartition("/")[2] for name in names}, lengths


def _compatible_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups without a setting in which two members are known to differ; those that name more are placed first.

    The groups are found by what they name, so that the cost is linear in the runs.
    """
    members: list[list[Run]] = []
    holding: dict[tuple[str, str], set[int]] = {}  # groups that name a value
    silent: dict[str, set[int]] = {name: set() for name in _IDENTITY}  # groups that do not name a setting
    for own, run in sorted(((_identity(run), run) for run in runs), key=lambda pair: -len(pair[0])):
        sets = [holding.get(item, set()) | silent[item[0]] for item in own.items()]
        fitting = set.intersection(*sets) if sets else set(range(len(members)))
        if len(fitting) == 1 or (fitting and len(own) == len(_IDENTITY)):
            at = min(fitting)
        else:
            at = len(members)
            members.append([])
            for missing in silent.values():
                missing.add(at)
        members[at].append(run)
        for name, value in own.items():
            silent[name].discard(at)
            holding.setdefault((name, value), set()).add(at)
    return members


def relatedness(
    runs: Sequence[Run], *, shared_noise: bool | None = None, agreement: Agreement | None = None
) -> Relatedness:
    """What runs have in common, each True, False, or None = not recorded.

    Curves that agree are of matched runs unless the settings deny it.
    """
    rates = [r.settings.learning_rate for r in runs]
    data = _same([_short(r.settings.dataset) for r in runs])
    model = _same([_short(r.settings.model) for r in runs])
    batch = _same_batch(runs)
    learning_rate = _same([f"{rate.value:.6g}" if rate else None for rate in rates])
    denied = False in (data, model, batch, learning_rate)
    return Relatedness(
        data=data,
        model=model,
        seed=_same([r.settings.seed.value if r.settings.seed else None for r in runs]),
        batch=batch,
        learning_rate=learning_rate,
        shared_noise=shared_noise,
        matched=0.0 if agreement is None or denied else agreement.probability,
        scatter=0.0 if agreement is None else agreement.scatter,
    )


def batch_sizes(runs: Sequence[Run]) -> list[int] | None:
    """Effective batch size of each run, relative to each other right; None unless known of all.

    A world size that no run records is taken as equal; one that only some record makes the batch unknown.
    """
    worlds = [r.settings.world_size for r in runs]
    sizes = [r.settings.effective_batch_size for r in runs]
    if any(s is None for s in sizes) or (any(worlds) and not all(worlds)):
        return None
    return [s for s in sizes if s is not None]


def settings_that_differ(runs: Sequence[Run]) -> tuple[str, ...]:
    """Names of settings, packages included, whose known values are not all equal."""
    readers: dict[str, Callable[[Run], object]] = {
        "gradient_accumulation_steps": lambda r: r.settings.gradient_accumulation_steps,
    }
    for name in (
        "micro_batch_size", "world_size", "seed", "logging_steps", "vocab_size", "learning_rate", "max_grad_norm",
        "optimizer", "model", "dataset", "engine",
    ):  # fmt: skip
        readers[name] = lambda r, name=name: getattr(r.settings, name)  # type: ignore[misc]
    out = []
    for name, read in readers.items():
        known = {str(s.value) for r in runs if (s := read(r)) is not None}  # type: ignore[attr-defined]
        if len(known) > 1:
            out.append(name)
    for kind in ("packages", "other"):
        for name in sorted({n for r in runs for n in getattr(r.settings, kind)}):
            found = {str(getattr(r.settings, kind)[name].value) for r in runs if name in getattr(r.settings, kind)}
            if len(found) > 1:
                out.append(name)
    return tuple(out)


def version_families(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Runs by the releases that compute the loss; runs that record none of the differing packages stand alone."""
    if _same_versions(runs) is not False:
        return [tuple(runs)]
    differing = [p for p in _trainer_packages(runs) if _same([_release(r, p) for r in runs]) is False]
    families: dict[tuple[str | None, ...], list[Run]] = {}
    for run in runs:
        families.setdefault(tuple(_release(run, p) for p in differing), []).append(run)
    return [tuple(f) for f in families.values()]


def version_label(runs: Sequence[Run], among: Sequence[Run]) -> str:
    """`transformers 4.47.0`: the releases of a family, of the packages that differ among all."""
    parts = [
        f"{p} {_release(runs[0], p) or '(release not recorded)'}"
        for p in _trainer_packages(among)
        if _same([_release(r, p) for r in among]) is False
    ]
    return ", ".join(parts)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Points:
    """What can be compared of one series, and what was left out of it."""

    position: FloatArray  # (k,)
    value: FloatArray  # (k,) positive, outliers moved to the border
    rounding: float
    masked: int
    winsorised: int


def _points(role: Role, run: Run) -> _Points | None:
    """The points of a run before its GA changes; None if no value is above zero."""
    series = run.get(role)
    assert series is not None
    end = _first_change(run)
    upto = series.position.size if end is None else int(np.searchsorted(series.position, end))
    good = alignment.clean(_steps_of(run, series)[:upto], series.value[:upto])
    if not good.value.size:
        return None
    value, moved = alignment.winsorise(good.value)
    return _Points(
        position=good.position,
        value=value,
        rounding=alignment.rounding(good.value),
        masked=good.dropped_nonfinite,
        winsorised=moved,
    )


def _panel(role: Role, runs: tuple[Run, ...]) -> Panel | NotApplicable:
    def not_applicable(reason: Reason, about: Sequence[Run] = runs) -> NotApplicable:
        ids = tuple(run.id for run in about)
        return NotApplicable(kind="", reason=reason, role=role, runs=ids)

    if len(runs) < 2:
        return not_applicable(Reason.TOO_FEW_RUNS)
    if len(_counters(role, runs)) > 1:
        return not_applicable(Reason.MIXED_COUNTERS)
    points: list[_Points] = []
    for run in runs:
        found = _points(role, run)
        if found is None:
            return not_applicable(Reason.NO_POSITIVE_VALUE, [run])
        points.append(found)
    axes = _binned(role, runs, [p.position for p in points], [p.value for p in points])
    if not axes:
        return not_applicable(Reason.NO_COMMON_RANGE)
    chosen = min(axes, key=lambda a: alignment.drift(axes[a][1]))
    edges, level, count = axes[chosen]
    return Panel(
        role=role,
        runs=runs,
        axis=chosen,
        axis_reason=_axis_reason(runs, axes),
        edges=edges,
        level=level,
        count=count,
        rounding=np.array([p.rounding for p in points]),
        axis_gap=_axis_gap([level for _, level, _ in axes.values()]),
        points=sum(p.value.size for p in points),
        masked=sum(p.masked for p in points),
        winsorised=sum(p.winsorised for p in points),
    )


def _axis_gap(levels: Sequence[FloatArray]) -> float:
    """How far the choice between two axes moves the contrasts of levels (n, m), as an sd; 0 for one."""
    if len(levels) < 2:
        return 0.0
    first, second = (np.nanmean(level, axis=1) for level in levels)
    apart = (first - first.mean()) - (second - second.mean())
    return float(np.sqrt(np.mean(apart**2)))


def _axis_reason(runs: Sequence[Run], axes: Collection[Axis]) -> AxisReason:
    if len(axes) == 2:
        return AxisReason.LESS_DRIFT
    return AxisReason.SAME_BATCH if _same_batch(runs) else AxisReason.BATCH_UNKNOWN


def _steps_of(run: Run, series: Series) -> FloatArray:
    """Positions (n,) in optimizer steps where they can be had, otherwise as they were counted."""
    steps = series.optimizer_steps(run.settings.ga)
    return series.position.astype(np.float64) if steps is None else steps


def _counters(role: Role, runs: Sequence[Run]) -> frozenset[Counted]:
    """What the positions of the runs count; optimizer steps where they can be had."""
    found = set()
    for run in runs:
        series = run.get(role)
        assert series is not None
        steps = series.optimizer_steps(run.settings.ga)
        found.add(Counted.OPTIMIZER_STEP if steps is not None else series.counted)
    return frozenset(found)


def _binned(
    role: Role, runs: Sequence[Run], steps: list[FloatArray], values: list[FloatArray]
) -> dict[Axis, tuple[FloatArray, FloatArray, IntArray]]:
    """Edges, levels and counts on each axis that can be used: steps, and samples where batches differ."""
    scales = {Axis.STEP: [1.0] * len(runs)}
    batch = batch_sizes(runs)
    if batch is not None and len(set(batch)) > 1:
        scales[Axis.SAMPLES] = [float(b) for b in batch]
    out = {}
    for axis, scale in scales.items():
        position = [s * f if f != 1.0 else s for s, f in zip(steps, scale, strict=True)]
        edges = alignment.nested_edges(position)
        if edges is None:
            continue
        pairs = [
            alignment.bin_levels(p, v, edges, geometric=role is Role.GRAD_NORM)
            for p, v in zip(position, values, strict=True)
        ]
        level = np.stack([level for level, _ in pairs])
        if np.isfinite(level).any(axis=1).all():
            full = np.isfinite(level).sum(axis=0) >= min(2, len(runs))
            level, count = level[:, full], np.stack([c for _, c in pairs])[:, full]
            if np.isfinite(level).any(axis=1).all():
                out[axis] = (edges, level, count)
    return out


def _first_change(run: Run) -> int | None:
    """The first step with another GA than at the start."""
    ga = run.settings.gradient_accumulation_steps
    if ga is None or ga.value.is_constant:
        return None
    return int(ga.value.from_step[np.flatnonzero(ga.value.value != ga.value.first)[0]])


def _same(values: Sequence[object]) -> bool | None:
    known = {v for v in values if v is not None}
    if len(known) > 1:
        return False
    return None if any(v is None for v in values) else True


def _same_batch(runs: Sequence[Run]) -> bool | None:
    sizes = batch_sizes(runs)
    return None if sizes is None else len(set(sizes)) == 1


def _same_versions(runs: Sequence[Run]) -> bool | None:
    answers = [_same([_release(r, p) for r in runs]) for p in _trainer_packages(runs)]
    if any(a is False for a in answers):
        return False
    return True if answers and all(answers) else None


def _trainer_packages(runs: Sequence[Run]) -> list[str]:
    return sorted({p for r in runs for p in r.settings.packages if canonical_name(p) in LOSS_PACKAGES})


def _release(run: Run, package: str) -> str | None:
    found = run.settings.packages.get(package)
    return None if found is None else found.value


def _short(setting: object) -> str | None:
    """A model's or data set's name without the directory: the same model is often given by different paths."""
    value = getattr(setting, "value", None)
    if not isinstance(value, str) or not value.strip():
        return None
    return value.strip().rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].casefold()


_IDENTITY = ("model", "dataset")


def _identity(run: Run) -> dict[str, str]:
    found = {name: _short(getattr(run.settings, name)) for name in _IDENTITY}
    return {name: value for name, value in found.items() if value is not None}
