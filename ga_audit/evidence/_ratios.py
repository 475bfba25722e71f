"""What the evidence from ratios between runs shares: usable runs, what is known of them, the model's inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ga_audit.finding import (
    NAMED,
    Comparison,
    Estimate,
    Hypothesis,
    Interval,
    Method,
    NotApplicable,
    Reason,
    Relatedness,
    Relation,
    SettlingRun,
    Window,
)
from ga_audit.grouping import Group, Panel, batch_sizes, relatedness
from ga_audit.run import FloatArray, Note, Role, Run
from ga_audit.stats import constants as k
from ga_audit.stats.censoring import looks_clipped
from ga_audit.stats.kindred import Agreement, agreement, shares_noise
from ga_audit.stats.levels import RunLevels, run_levels
from ga_audit.stats.offset import Offset, find_offset
from ga_audit.stats.scaling import Exponent, Fit, Nuisance


@dataclass(frozen=True, slots=True, eq=False)
class Ratios:
    """One quantity of runs that can be compared, with all that the model needs."""

    panel: Panel
    levels: RunLevels
    relatedness: Relatedness
    log_ga: FloatArray  # (n,)
    log_world: FloatArray  # (n,), 0 where no run records it
    nuisance: Nuisance
    notes: tuple[Note, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs compared."""
        return self.panel.runs

    @property
    def window(self) -> Window:
        """The part of the training that was compared."""
        return Window(self.levels.window, self.levels.bins)


def usable(
    group: Group, role: Role, kind: str, runs: Sequence[Run] | None = None
) -> tuple[list[Run], list[NotApplicable]]:
    """Runs with a quantity, a known GA and a meaningful ratio; why the others are left out."""
    left_out: list[NotApplicable] = []
    chosen: list[Run] = []
    for run in group.runs if runs is None else runs:
        series = run.get(role)
        if series is None:
            continue
        reason = _unusable(run, role, series.value)
        if reason is None:
            chosen.append(run)
        else:
            left_out.append(NotApplicable(kind=kind, reason=reason, role=role, runs=(run.id,)))
    if any(item.reason is Reason.LOGGED_AFTER_CLIPPING for item in left_out):
        chosen = []  # the others' logger is the same: their norms, below the threshold or not, are not to be trusted
    return chosen, left_out


def _unusable(run: Run, role: Role, value: FloatArray) -> Reason | None:
    """Why the logged values of a run cannot be part of a ratio."""
    if run.settings.ga is None:
        return Reason.GA_UNKNOWN
    if role is Role.LOSS:
        return Reason.NOT_POSITIVE if _crosses_zero(value) else None
    limit = run.settings.max_grad_norm
    clipped = looks_clipped(value, None if limit is None else limit.value)
    return Reason.LOGGED_AFTER_CLIPPING if clipped else None


def measure(panel: Panel, beside: Callable[[], Panel | None] | None = None) -> Ratios:
    """Levels, relation and nuisance of a panel.

    Parameters
    ----------
    panel : one quantity of the runs.
    beside : reads another quantity of the same runs, whose agreement says as much about their batches; called where that
        of the panel does not settle it.
    """
    runs = panel.runs
    agreed = agreement(panel.level, panel.rounding)
    if beside is not None and agreed.probability < k.DECIDE_AT and (other := beside()) is not None:
        agreed = Agreement(max(agreed.log_odds, agreement(other.level, other.rounding).log_odds), agreed.scatter)
    related = relatedness(runs, shared_noise=shares_noise(panel.level), agreement=agreed)
    notes = list(_notes(panel, runs))
    worlds = [r.settings.world_size.value if r.settings.world_size else None for r in runs]
    if any(w is not None for w in worlds) and any(w is None for w in worlds):
        notes.append(Note("world-size-unknown", "world_size is recorded of some runs only; taken as equal"))
        worlds = [None] * len(runs)
    elif worlds[0] is None:
        notes.append(Note("world-size-unknown", "world_size is not recorded; taken as equal in all runs"))
    log_ga = np.log([float(r.settings.ga or 1) for r in runs])
    log_world = np.log([float(w or 1) for w in worlds])
    noise = np.array([_noise(run, panel.role) for run in runs])
    levels = run_levels(panel.level, panel.count, noise, panel.rounding)
    offset = find_offset(panel.level, float(log_ga[1] - log_ga[0])) if len(runs) == 2 else None
    if offset is not None:
        levels = _without_offset(levels, offset)
        message = f"the loss holds a term of about {offset.constant:.3g} that is not scaled with the rest"
        notes.append(Note("unscaled-term", message))
    nuisance = _nuisance(panel, levels, related, log_ga)
    return Ratios(panel, levels, related, log_ga, log_world, nuisance, tuple(notes))


def _without_offset(levels: RunLevels, offset: Offset) -> RunLevels:
    """Levels of two runs whose ratio is that of a regression of levels instead of the mean log ratio."""
    half = 0.5 * offset.log_factor
    spread = 0.25 * (offset.error**2 + k.NOISE_FLOOR**2)
    covariance = spread * np.array([[1.0, -1.0], [-1.0, 1.0]])
    # the drift of the ratio is explained: it is no wandering of the runs
    return replace(levels, level=np.array([-half, half]), covariance=covariance, wander=0.0, extra=0.0,
                   window=levels.bins)  # fmt: skip


def factors(ratios: Ratios, hypotheses: Iterable[Hypothesis] = NAMED) -> dict[Hypothesis, FloatArray]:
    """ln(logged / intended) of every run under each hypothesis; one about some runs only is 0 for the rest."""
    out = {}
    for h in hypotheses:
        inside = np.array([h.only is None or r.id in h.only for r in ratios.runs])
        out[h] = np.where(inside, h.ga * ratios.log_ga + h.world * ratios.log_world, 0.0)
    return out


def label(hypothesis: Hypothesis) -> str:
    """A name that is unique among hypotheses about different runs."""
    return hypothesis.name if hypothesis.only is None else f"{hypothesis.name} in {', '.join(sorted(hypothesis.only))}"


def estimate_of(exponent: Exponent, ratios: Ratios, method: Method) -> Estimate:
    """An exponent with the comparison it comes from."""
    low, high = exponent.interval95
    return Estimate(
        value=exponent.value,
        interval=Interval(low, high),
        n_runs=len(ratios.runs),
        n_points=ratios.panel.points,
        axis=ratios.panel.axis,
        method=method,
        driver=exponent.axis,
        window=ratios.window,
    )


def comparison(ratios: Ratios, tau: float, settling: tuple[SettlingRun, ...] = ()) -> Comparison:
    """The numbers that others read: figures, further checks of single runs."""
    return Comparison(
        runs=tuple(r.id for r in ratios.runs),
        level=ratios.levels.level,
        covariance=ratios.levels.covariance,
        run_effect=tau,
        extra=ratios.nuisance.extra,
        log_ga=ratios.log_ga,
        log_world=ratios.log_world,
        axis=ratios.panel.axis,
        axis_reason=ratios.panel.axis_reason,
        window=ratios.window,
        relatedness=ratios.relatedness,
        settling=settling,
    )


def detail(ratios: Ratios, fitted: Fit[Hypothesis]) -> dict[str, object]:
    """The arithmetic, for `--explain`: JSON values only."""
    levels, nuisance = ratios.levels, ratios.nuisance
    return {
        "runs": [r.id for r in ratios.runs],
        "gradient_accumulation_steps": [round(math.exp(x)) for x in ratios.log_ga],
        "world_size": [round(math.exp(x)) for x in ratios.log_world],
        "axis": ratios.panel.axis.value,
        "why_axis": ratios.panel.axis_reason.value,
        "window": [levels.window, levels.bins],
        "level": levels.level.tolist(),
        "covariance": levels.covariance.tolist() if len(ratios.runs) <= 20 else "left out: more than 20 runs",
        "bins": levels.bins,
        "n_effective": levels.n_effective,
        "autocorrelation": levels.autocorrelation,
        "degrees_of_freedom": levels.dof,
        "wander": levels.wander,
        "extra": nuisance.extra,
        "relation": ratios.relatedness.relation.value,
        "shared_noise": ratios.relatedness.shared_noise,
        "matched": ratios.relatedness.matched,
        "scatter": ratios.relatedness.scatter,
        "tau_centre": [list(t) for t in nuisance.tau],
        "tau_spread": k.TAU_SPREAD,
        "tau_posterior": fitted.tau,
        "nuisance_modes": [m.tolist() for m in nuisance.modes],
        "log_batch": [[b.tolist(), share] for b, share in nuisance.batch],
        "log_likelihood": {label(h): x for h, x in fitted.log_likelihood.items()},
        "prior": dict(k.PRIOR),
        "exponents": [
            {"driver": e.axis, "value": e.value, "interval95": list(e.interval95), "interval90": list(e.interval90)}
            for e in fitted.exponents
        ],
        "masked": ratios.panel.masked,
        "winsorised": ratios.panel.winsorised,
    }


def arithmetic(fitted: Fit[Hypothesis]) -> dict[str, object]:
    """The contrasts that the likelihoods were computed from, for `--explain`."""
    return {
        "tau_grid": fitted.tau_grid.tolist(),
        "contrast": fitted.contrast.tolist(),
        "contrast_of_log_axis": fitted.direction.tolist(),
    }


def same_meaning(ratios: Ratios, hypotheses: Sequence[Hypothesis] = NAMED) -> tuple[tuple[Hypothesis, ...], ...]:
    """Hypotheses that differ by a power of a world size that all runs share: a common factor, never visible."""
    if np.ptp(ratios.log_world) > 0:
        return ()
    groups: dict[tuple[float, frozenset[str] | None], list[Hypothesis]] = {}
    for h in hypotheses:
        groups.setdefault((h.ga, h.only if h.ga else None), []).append(h)
    return tuple(tuple(g) for g in groups.values() if len(g) > 1)


def _crosses_zero(value: FloatArray) -> bool:
    return bool(np.count_nonzero(value <= 0) > 0.01 * value.size)


def _noise(run: Run, role: Role) -> float:
    if role is Role.GRAD_NORM:
        return k.NOISE_GRAD_NORM
    size = run.settings.effective_batch_size
    if size is None:
        return k.NOISE_LOSS_UNKNOWN
    series = run.get(role)
    window = (series.window if series else None) or 1
    return k.NOISE_LOSS_PER_SEQUENCE / math.sqrt(size * window)


def _nuisance(panel: Panel, levels: RunLevels, related: Relatedness, log_ga: FloatArray) -> Nuisance:
    """What is known of the runs, as scales of how right ones may differ (`stats/constants.py` says where from)."""
    runs, role = panel.runs, panel.role
    norm = role is Role.GRAD_NORM
    family = _families(runs) if related.recorded is Relation.DIFFERENT else ()
    modes = []
    sizes = batch_sizes(runs)
    log_batch = np.zeros(len(runs)) if sizes is None else np.log(np.array(sizes, dtype=np.float64))
    batches: tuple[tuple[FloatArray, float], ...] = ((log_batch, 1.0),)
    if sizes is None:  # the effective batch may be the same, or grow with GA
        grown = 0.5 * (1 - related.matched)
        batches = ((log_batch, 1 - grown), (log_ga, grown))
        modes.append((1 - related.matched) * k.LOSS_PER_LOG_BATCH * (log_ga - log_ga.mean()))
    elif not related.batch:
        modes.append(k.LOSS_PER_LOG_BATCH * (log_batch - log_batch.mean()))
    if related.learning_rate is False and all(r.settings.learning_rate for r in runs):
        rate = np.log([max(r.settings.learning_rate.value, 1e-12) for r in runs if r.settings.learning_rate])
        scale = k.LOSS_PER_LOG_LEARNING_RATE * (k.GRAD_NORM_LEARNING_RATE_FACTOR if norm else 1.0)
        modes.append(scale * (rate - rate.mean()))
    if not norm:
        modes = [m * _still(levels, float(np.ptp(m))) for m in modes]
    extra = math.hypot(levels.extra, panel.axis_gap)
    return Nuisance(
        tau_centres(related, norm, bool(family)), tuple(modes), batches if norm else (), family, extra, levels.wander
    )


def _still(levels: RunLevels, size: float) -> float:
    """Share to which a confounder of this size shrinks, given that the ratio did not move: it acts through time.

    An effect e ~ N(0, size^2) would show a drift of `CONFOUNDER_LATE` x e within its noise; the share is the ratio of
    the drift seen to the drift expected, both with that noise.
    """
    if not levels.constant or levels.fall < k.CONFOUNDER_FALL or size <= 0:
        return 1.0
    noise = math.hypot(k.CONFOUNDER_SLACK, levels.drift_error)
    share = math.hypot(levels.drift, noise) / math.hypot(k.CONFOUNDER_LATE * size, noise)
    return min(1.0, max(k.CONFOUNDER_LEAST, share))


def tau_centres(related: Relatedness, norm: bool, families: bool) -> tuple[tuple[float, float], ...]:
    """Centres of the run effect's scale with their weights, from what the runs have in common."""
    share = k.UNKNOWN_SEED_TWIN_SHARE
    centres = {
        Relation.MATCHED: ((k.TAU_TWIN, 1.0),),
        Relation.MATCHED_OR_OTHER_SEED: ((k.TAU_TWIN, share), (k.TAU_SAME_DATA, 1 - share)),
        Relation.SAME_DATA: ((k.TAU_SAME_DATA, 1.0),),
        Relation.NOT_RECORDED: ((k.TAU_UNRECORDED, 1.0),),
        Relation.DIFFERENT: ((k.TAU_SAME_DATA if families else k.TAU_OTHER_DATA, 1.0),),
    }[related.recorded]
    twin = k.TAU_TWIN * (k.TAU_GRAD_NORM_FACTOR if norm else 1.0)
    if norm:
        floor = k.TAU_GRAD_NORM_FLOOR
        centres = tuple((twin if c == k.TAU_TWIN else max(floor, c * k.TAU_GRAD_NORM_FACTOR), w) for c, w in centres)
    if not related.matched:
        return centres
    rest = tuple((c, w * (1 - related.matched)) for c, w in centres)
    return ((max(twin, related.scatter), related.matched), *rest)


def _families(runs: Sequence[Run]) -> tuple[int, ...]:
    """Families by model and data, each with a level of its own, if there are more than two runs; none otherwise."""
    if len(runs) < 3:
        return ()
    names = [(getattr(r.settings.model, "value", None), getattr(r.settings.dataset, "value", None)) for r in runs]
    order = sorted(set(names), key=str)
    return tuple(order.index(name) for name in names)


def _notes(panel: Panel, runs: Sequence[Run]) -> Iterable[Note]:
    if panel.masked:
        yield Note(
            "not-finite",
            f"{panel.masked} values of {panel.role.value} are NaN or infinite and left out",
            count=panel.masked,
        )
    changing = [r.name for r in runs if (s := r.settings.gradient_accumulation_steps) and not s.value.is_constant]
    if changing:
        yield Note("ga-changes", f"GA changes in {', '.join(changing)}: only the part before is compared")
