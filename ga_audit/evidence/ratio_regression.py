"""Ratios between runs with different gradient_accumulation_steps or world size.

What it looks at
    The level of the logged curve of every run, on bins of equal training progress, against GA and world size.
Why it is evidence
    A loss that is summed over GA is GA times too high from the first line on, whatever the run; right runs differ by
    a few per cent.
When it does not apply
    Fewer than two runs, equal GA and world size, unknown GA, losses that are zero or negative, norms logged after
    clipping, releases of the trainer that go with GA one by one.
Calibration
    `stats/constants.py`; `python -m tests.calibration` prints coverage, false verdicts and power.

References
----------
    Patterson & Thompson 1971 (contrasts); Lepski 1991 (window); Huber 1964 (levels); Schuirmann 1987 (equivalence).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ga_audit.evidence import _ratios
from ga_audit.finding import (
    HEALTHY,
    OTHER,
    Evidence,
    Fact,
    Hypothesis,
    Method,
    NotApplicable,
    Reason,
    SettlingRun,
)
from ga_audit.grouping import Group, Panel, version_families
from ga_audit.run import FloatArray, Role, Run
from ga_audit.stats import constants as k
from ga_audit.stats.decision import equivalent, settling_run
from ga_audit.stats.scaling import Exponent, fit

KIND = "ratio_regression"
_MANY = 8


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on loss and grad_norm from ratios between the runs of one release of the trainer."""
    for role in (Role.LOSS, Role.GRAD_NORM):
        if not any(run.get(role) for run in group.runs):
            yield NotApplicable(kind=KIND, reason=Reason.NOT_LOGGED, role=role)
            continue
        runs, left_out = _ratios.usable(group, role, KIND)
        yield from left_out
        ids = tuple(run.id for run in runs)
        if len(runs) < 2:
            yield NotApplicable(kind=KIND, reason=Reason.TOO_FEW_RUNS, role=role, runs=ids)
            continue
        families = version_families(runs)
        for family in families:
            if len(family) > 1 or len(families) == 1:
                yield _evaluate(group, role, family, only=len(families) > 1)
        if len(families) > 1 and all(len(f) == 1 for f in families):
            yield NotApplicable(kind=KIND, reason=Reason.ONE_RUN_PER_RELEASE, role=role, runs=ids)


def levels(group: Group, role: Role) -> Iterator[tuple[tuple[Run, ...], FloatArray]]:
    """Runs of one release of the trainer with the natural logs of their levels (n,), also where GA is the same in all."""
    runs, _ = _ratios.usable(group, role, KIND)
    for family in version_families(runs):
        panel = group.panel(role, family)
        if len(family) > 1 and not isinstance(panel, NotApplicable):
            yield panel.runs, _ratios.measure(panel).levels.level


def _evaluate(group: Group, role: Role, runs: Sequence[Run], *, only: bool) -> Evidence | NotApplicable:
    panel = group.panel(role, runs)
    if isinstance(panel, NotApplicable):
        return replace(panel, kind=KIND)
    ratios = _ratios.measure(panel, lambda: _beside(group, role, runs))
    axes = {"gradient_accumulation_steps": ratios.log_ga, "world_size": ratios.log_world}
    axes = {name: v for name, v in axes.items() if np.ptp(v) > 0}
    ids = tuple(r.id for r in runs)
    levels = ratios.levels
    fitted = fit(
        levels.level,
        levels.covariance,
        _ratios.factors(ratios),
        axes,
        ratios.nuisance,
        healthy=HEALTHY,
        other=OTHER,
    )
    if fitted is None:
        return NotApplicable(kind=KIND, reason=Reason.NO_VARIATION, role=role, runs=ids)
    estimates = [_ratios.estimate_of(e, ratios, Method.RUN_LEVELS) for e in fitted.exponents]
    same = _ratios.same_meaning(ratios)
    settling = tuple(_settling(ratios, fitted.ties, same))
    return Evidence(
        kind=KIND,
        role=role,
        runs=ids,
        log_likelihood=_of_release(fitted.log_likelihood, ids) if only else fitted.log_likelihood,
        facts=_facts(ratios, fitted.exponents),
        source="; ".join(sorted({s.source for r in runs if (s := r.get(role))})),
        estimate=estimates[0],
        further=tuple(estimates[1:]),
        equivalent=all(equivalent(e.interval90, k.EQUIVALENCE[role.value]) for e in fitted.exponents),
        ties=fitted.ties,
        comparison=_ratios.comparison(ratios, fitted.tau, settling),
        notes=ratios.notes,
        detail={
            **_ratios.detail(ratios, fitted),
            "same_meaning": [[h.name for h in g] for g in same],
            "would_settle": [
                {
                    "tied": [h.name for h in run.tied],
                    "gradient_accumulation_steps": run.ga,
                    "world_size": run.world_size,
                }
                for run in settling
            ],
            **_ratios.arithmetic(fitted),
        },
    )


def _beside(group: Group, role: Role, runs: Sequence[Run]) -> Panel | None:
    """The other quantity of the same runs, where each logs it and it can be compared; None for many runs.

    Many runs show by themselves how far right ones differ.
    """
    if len(runs) > _MANY:
        return None
    other = Role.GRAD_NORM if role is Role.LOSS else Role.LOSS
    if any(run.get(other) is None for run in runs) or len(_ratios.usable(group, other, KIND, runs)[0]) < len(runs):
        return None
    panel = group.panel(other, runs)
    return None if isinstance(panel, NotApplicable) else panel


def _of_release(likelihood: Mapping[Hypothesis, float], ids: tuple[str, ...]) -> dict[Hypothesis, float]:
    """The same for the runs of one release alone: nothing here depends on other releases."""
    only = frozenset(ids)
    scaled = {h: x for h, x in likelihood.items() if h not in (HEALTHY, OTHER)}
    return {**likelihood, **{Hypothesis(h.name, h.ga, h.world, only): x for h, x in scaled.items()}}


def _settling(
    ratios: _ratios.Ratios, ties: Sequence[Sequence[Hypothesis]], same: Sequence[Sequence[Hypothesis]]
) -> Iterator[SettlingRun]:
    """For every tie of different meaning, GA and world size of one run that would tell its hypotheses apart."""
    ga = [round(float(np.exp(x))) for x in ratios.log_ga]
    world = [round(float(np.exp(x))) for x in ratios.log_world]
    for tie in ties:
        # of hypotheses that mean the same, one is enough
        apart = [h for i, h in enumerate(tie) if not any(h in g and set(g) & set(tie[:i]) for g in same)]
        found = settling_run(ga, world, [(h.ga, h.world) for h in apart]) if len(apart) > 1 else None
        if found is not None:
            yield SettlingRun(tuple(apart), *found)


def _facts(ratios: _ratios.Ratios, exponents: Sequence[Exponent]) -> dict[str, Fact]:
    """The extreme runs' ratio, and each exponent with its interval."""
    order = np.argsort(ratios.log_ga + ratios.log_world, kind="stable")
    low, high = int(order[0]), int(order[-1])
    log_ratio = ratios.levels.level[high] - ratios.levels.level[low]
    return {
        "first": ratios.runs[low].id,
        "last": ratios.runs[high].id,
        "ratio": float(np.exp(np.clip(log_ratio, -700, 700))),
        "exponents": tuple((e.axis, e.value, *e.interval95) for e in exponents),
        "runs": len(ratios.runs),
        "points": ratios.panel.points,
    }
