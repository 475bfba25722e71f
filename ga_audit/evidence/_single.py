"""From one number of one run, held against what it should be, to log-likelihoods of the named hypotheses.

With z = ln(observed / expected if healthy), a hypothesis that predicts a factor F has the density of z - ln F: Student's t
with 4 degrees of freedom and the scale of that kind of evidence, whose heavy tails cap what any one number can say.
`other` is flat: 1/8 per unit of z (`facts` of Student's t: Student 1908; as a robust error model: Lange, Little &
Taylor 1989, "Robust statistical modeling using the t distribution").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ga_audit.finding import HEALTHY, NAMED, OTHER, Fact, Hypothesis, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import FloatArray, Role, Run, Series
from ga_audit.stats.arrays import median

OTHER_DENSITY = 1 / 8


def log_t4(x: float, scale: float) -> float:
    """Log density of Student's t with 4 degrees of freedom, 3/8 (1 + x^2 / 4 s^2)^(-5/2) / s."""
    return math.log(0.375 / scale) - 2.5 * math.log1p((x / scale) ** 2 / 4)


def likelihoods(run: Run, log_density: Callable[[float], float]) -> dict[Hypothesis, float]:
    """Nats for each hypothesis whose factor is known for the run, HEALTHY = 0.

    Parameters
    ----------
    log_density : of the observation, given ln(logged / intended).
    """
    base = log_density(0.0)
    found = {HEALTHY: 0.0}
    for h in NAMED:
        factor = h.log_factor(run)
        if h != HEALTHY and not math.isnan(factor):
            found[h] = log_density(factor) - base
    found[OTHER] = math.log(OTHER_DENSITY) - base
    return found


def runs_with_ga(group: Group, kind: str) -> Iterator[Run | NotApplicable]:
    """Runs with a known GA above 1 or several ranks; NotApplicable for each run of unknown GA."""
    for run in group.runs:
        if run.settings.ga is None:
            yield not_applicable(kind, run, Reason.GA_UNKNOWN)
        elif run.settings.ga > 1 or run.settings.ranks > 1:
            yield run


def not_applicable(
    kind: str,
    run: Run,
    reason: Reason,
    facts: Mapping[str, Fact] | None = None,
    *,
    role: Role = Role.LOSS,
) -> NotApplicable:
    """Why a kind of evidence does not apply to one run."""
    return NotApplicable(kind=kind, reason=reason, role=role, runs=(run.id,), facts=facts or {})


def constant_part(run: Run, series: Series) -> tuple[FloatArray, FloatArray]:
    """(steps, values) of a series while GA is what it was at first, without values that no logarithm takes."""
    step, value = series.position.astype(np.float64), series.value
    ga = run.settings.gradient_accumulation_steps
    good = np.isfinite(value) & (value > 0)
    if ga is not None and not ga.value.is_constant:
        change = ga.value.from_step[np.flatnonzero(ga.value.value != ga.value.first)[0]]
        good &= step < change
    return step[good], value[good]


def centre(step: FloatArray, window: int | None) -> FloatArray:
    """Where on the step axis the mean over each point's window lies: half a window before its step."""
    if len(step) < 2:
        return step
    width = float(window or median(np.diff(step)))
    before = np.concatenate([[step[0] - min(width, step[0])], step[:-1]])
    middle: FloatArray = step - np.minimum(step - before, width) / 2
    return middle


def at(step: FloatArray, x: FloatArray, log_value: FloatArray) -> FloatArray:
    """Log values at steps, linear between the points (x, log_value) and constant beyond them."""
    found: FloatArray = np.interp(step, x, log_value)
    return found
