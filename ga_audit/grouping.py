"""which runs may be compared, on which axis, and how else they differ.

Runs are comparable when model and data are the same as far as the logs know. How closely they are related (`Kinship`)
sets how far two right runs may differ, so unknown is a value of its own here: it is neither yes nor no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ga_audit.finding import Axis, Silence
from ga_audit.logs.trainers import LOSS_PACKAGES, canonical_name
from ga_audit.run import Counted, FloatArray, IntArray, Role, Run, Series
from ga_audit.stats import alignment


@dataclass(frozen=True, slots=True)
class Kinship:
    """What runs have in common: True, False, or None where the logs do not say."""

    data: bool | None
    model: bool | None
    seed: bool | None
    batch: bool | None  # effective batch size
    learning_rate: bool | None
    versions: bool | None  # releases of the packages that compute the loss
    shared_noise: bool | None = None  # measured: the curves jump together, as only the same data in the same order do

    @property
    def relation(self) -> str:
        """The closest relation that is certain: twin, same data, same as far as known, different."""
        if self.data is False or self.model is False:
            return "different data or model"
        known = self.data and self.model
        if self.shared_noise and self.batch is not None:
            return "twin" if self.batch and self.learning_rate is not False else "same data"
        if not (known or self.shared_noise) or self.learning_rate is None:
            return "not recorded"
        if self.batch and self.learning_rate and self.seed is not False and self.shared_noise is not False:
            return "twin" if self.seed else "twin or other seed"
        return "same data"


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One quantity of n runs on m common bins of training progress."""

    role: Role
    runs: tuple[Run, ...]
    axis: Axis
    why_axis: str
    edges: FloatArray  # (m+1,), bins are (low, high]
    level: FloatArray  # (n, m) natural log of the bin mean, NaN = none
    count: IntArray  # (n, m) points
    rounding: FloatArray  # (n,) relative sd of the rounding of the values
    axis_gap: float  # sd by which the choice of axis moves a contrast
    points: int  # in all
    masked: int  # NaN, infinite
    winsorised: int
    nonpositive: float  # largest share of values <= 0 of any run


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Runs that may be compared."""

    runs: tuple[Run, ...]
    _panels: dict[tuple[Role, tuple[str, ...]], Panel | Silence] = field(default_factory=dict, repr=False)

    @property
    def settings_that_differ(self) -> tuple[str, ...]:
        """Names of settings that are known to differ, GA and world size among them."""
        return settings_that_differ(self.runs)

    @property
    def kinship(self) -> Kinship:
        """What all runs of the group have in common."""
        return kinship(self.runs)

    def panel(self, role: Role, runs: Sequence[Run] | None = None) -> Panel | Silence:
        """Levels of a quantity on common bins, of all runs that log it (or of those given); why not, otherwise."""
        chosen = tuple(r for r in (self.runs if runs is None else runs) if r.get(role) is not None)
        key = role, tuple(r.id for r in chosen)
        if key not in self._panels:
            self._panels[key] = _panel(role, chosen)
        return self._panels[key]

    def version_families(self) -> list[tuple[Run, ...]]:
        """The runs by releases of the packages that compute the loss; one family where nothing is known to differ."""
        return version_families(self.runs)


def group(runs: Iterable[Run]) -> list[Group]:
    """Split runs into groups in which model and data are not known to differ.

    A run that names neither joins a group only if there is but one it could join.
    """
    identities = [(_identity(run), run) for run in runs]
    members: list[tuple[list[Run], list[dict[str, str]]]] = []  # runs, and their identities without repetition
    for own, run in sorted(identities, key=lambda pair: -len(pair[0])):
        fitting = [m for m in members if all(_compatible(own, other) for other in m[1])]
        if len(fitting) == 1 or (fitting and len(own) == 2):
            fitting[0][0].append(run)
            if own not in fitting[0][1]:
                fitting[0][1].append(own)
        else:
            members.append(([run], [own]))
    return [Group(tuple(sorted(m, key=lambda r: (r.settings.ga or 0, r.name, r.id)))) for m, _ in members]


def kinship(runs: Sequence[Run], *, shared_noise: bool | None = None) -> Kinship:
    """What runs have in common, each True, False, or None = not recorded."""
    return Kinship(
        data=_same([_short(r.settings.dataset) for r in runs]),
        model=_same([_short(r.settings.model) for r in runs]),
        seed=_same([r.settings.seed.value if r.settings.seed else None for r in runs]),
        batch=_same_batch(runs),
        learning_rate=_same(
            [f"{r.settings.learning_rate.value:.6g}" if r.settings.learning_rate else None for r in runs]
        ),
        versions=_same_versions(runs),
        shared_noise=shared_noise,
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


def _panel(role: Role, runs: tuple[Run, ...]) -> Panel | Silence:
    if len(runs) < 2:
        return Silence("", f"{len(runs)} run with a {role.value} series: a ratio needs two", _SECOND_RUN, role)
    if (mixed := _mixed_positions(role, runs)) is not None:
        return mixed
    steps, values, rounding = [], [], []
    masked, moved, nonpositive, points = 0, 0, 0.0, 0
    for run in runs:
        series = run.get(role)
        assert series is not None
        end = _first_change(run)
        upto = series.position.size if end is None else int(np.searchsorted(series.position, end))
        good = alignment.clean(_steps_of(run, series)[:upto], series.value[:upto])
        nonpositive = max(nonpositive, good.dropped_nonpositive / max(1, upto))
        masked += good.dropped_nonfinite
        if not good.value.size:
            return Silence(
                "",
                f"{role.value} of {run.name} has no value above zero",
                "Compare grad_norm, or use `ga-audit repro`.",
                role,
            )
        rounding.append(alignment.rounding(good.value))
        value, n_moved = alignment.winsorise(good.value)
        moved += n_moved
        points += value.size
        steps.append(good.position)
        values.append(value)
    axes = _binned(role, runs, steps, values)
    if not axes:
        return Silence(
            "", f"the runs share no range of steps in {role.value}", "Log both runs from the first step on.", role
        )
    chosen = min(axes, key=lambda a: alignment.drift(axes[a][1]))
    gap = 0.0
    if len(axes) == 2:
        means = [np.nanmean(level, axis=1) for _, level, _ in axes.values()]
        apart = (means[0] - means[0].mean()) - (means[1] - means[1].mean())
        gap = float(np.sqrt(np.mean(apart**2)))
    why = (
        f"the ratio drifts less on it than on {next(a for a in axes if a is not chosen).value}"
        if len(axes) == 2
        else "the effective batch size is the same"
        if _same_batch(runs)
        else "the effective batch size is not known of all"
    )
    edges, level, count = axes[chosen]
    return Panel(
        role, runs, chosen, why, edges, level, count, np.array(rounding), gap, points, masked, moved, nonpositive
    )


def _steps_of(run: Run, series: Series) -> FloatArray:
    """Positions (n,) in optimizer steps where they can be had, otherwise as they were counted."""
    steps = series.optimizer_steps(run.settings.ga)
    return series.position.astype(np.float64) if steps is None else steps


def _mixed_positions(role: Role, runs: Sequence[Run]) -> Silence | None:
    """Why runs cannot be aligned whose positions count different things; None where they count the same."""
    counted: dict[Counted, str] = {}
    for run in runs:
        series = run.get(role)
        assert series is not None
        steps = series.optimizer_steps(run.settings.ga)
        counted.setdefault(Counted.OPTIMIZER_STEP if steps is not None else series.counted, run.name)
    if len(counted) < 2:
        return None
    each = ", ".join(f"{COUNTERS[what]} in {name}" for what, name in counted.items())
    why = f"the positions of {role.value} count different things: {each}"
    return Silence("", why, "Log the optimizer step in every run.", role)


COUNTERS = {
    Counted.OPTIMIZER_STEP: "optimizer steps",
    Counted.MICRO_BATCH: "micro-batches",
    Counted.SAMPLES: "samples",
    Counted.TOKENS: "tokens",
    Counted.EPOCH: "epochs",
    Counted.ORDER: "no step, lines in order",
}


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


_SECOND_RUN = "Add a run with another gradient_accumulation_steps at the same effective batch size, seed and data."


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


def _identity(run: Run) -> dict[str, str]:
    found = {"model": _short(run.settings.model), "dataset": _short(run.settings.dataset)}
    return {name: value for name, value in found.items() if value is not None}


def _compatible(first: dict[str, str], second: dict[str, str]) -> bool:
    return all(first[name] == second[name] for name in first.keys() & second.keys())
