"""The step in a curve where GA changes at a resume.

What it looks at
    Levels of loss and grad_norm just before and just after the optimizer step at which GA changes: up to 30 logged points on
    either side, the trend of each side carried to the change.
Why it is evidence
    Nothing else about the model changes there: a summed loss jumps by the ratio of the two GA, a right one goes on.
When it does not apply
    GA is constant or unknown, or fewer than 3 points lie on one side.
Calibration
    Standard error of the two fits, at least 0.03, times Student's t with 4 degrees of freedom: simulated resumes are judged right
    in .93 and more of the cases at a ratio of 4, none wrong. A norm may fall as B^-gamma with the batch B, gamma 0 to 1/2
    (McCandlish et al. 2018, arXiv:1812.06162).

References
----------
    An interrupted time series: Box & Tiao 1975, "Intervention analysis".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ga_audit.evidence import _single
from ga_audit.finding import (
    HEALTHY,
    NAMED,
    OTHER,
    Evidence,
    Fact,
    Hypothesis,
    NotApplicable,
    Reason,
)
from ga_audit.grouping import Group
from ga_audit.run import FloatArray, Role, Run, Schedule, Series
from ga_audit.stats import constants as k

KIND = "ga_change"
POINTS = 30
LEAST = 3
FLOOR = 0.03
_GAMMAS = np.linspace(0.0, 0.5, 6)


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on loss and grad_norm of each run whose GA changes."""
    for run in group.runs:
        ga = run.settings.gradient_accumulation_steps
        if ga is None or ga.value.is_constant:
            yield _single.not_applicable(KIND, run, Reason.GA_CONSTANT)
            continue
        for role in (Role.LOSS, Role.GRAD_NORM):
            series = run.get(role)
            if series is not None:
                yield _evaluate(run, series, ga.value)


def _evaluate(run: Run, series: Series, schedule: Schedule) -> Evidence | NotApplicable:
    role = series.role
    first = int(np.flatnonzero(schedule.value != schedule.value[0])[0])
    change, old, new = (int(x) for x in (schedule.from_step[first], schedule.value[0], schedule.value[first]))
    later = schedule.from_step[first + 1 :]
    end = float(later[0]) if len(later) else math.inf
    good = np.isfinite(series.value) & (series.value > 0)
    step, log_value = series.position[good].astype(float), np.log(series.value[good])
    before, after = step < change, (step >= change) & (step < end)
    if min(before.sum(), after.sum()) < LEAST:
        few: dict[str, Fact] = {"least": LEAST, "series": series.name, "step": change}
        return _single.not_applicable(KIND, run, Reason.TOO_FEW_POINTS, few, role=role)
    left, left_error = _level_at(change, step[before][-POINTS:], log_value[before][-POINTS:])
    right, right_error = _level_at(change, step[after][:POINTS], log_value[after][:POINTS])
    z, scale = right - left, max(math.hypot(left_error, right_error), FLOOR)
    log_ratio = math.log(new / old)
    exponent, spread = z / log_ratio, 1.96 * scale / abs(log_ratio)
    return Evidence(
        kind=KIND,
        role=role,
        runs=(run.id,),
        log_likelihood=_likelihoods(role, z, scale, log_ratio),
        facts={
            "factor": math.exp(z),
            "step": change,
            "from": old,
            "to": new,
            "exponent": exponent,
            "low": exponent - spread,
            "high": exponent + spread,
        },
        source=series.source,
        equivalent=abs(exponent) + spread * 1.645 / 1.96 < k.EQUIVALENCE[role.value],
        detail={
            "change": change,
            "ratio_of_ga": new / old,
            "jump": round(math.exp(z), 4),
            "scale": round(scale, 4),
        },
    )


def _likelihoods(role: Role, z: float, scale: float, log_ratio: float) -> dict[Hypothesis, float]:
    """Nats for each hypothesis of a jump z where ln(GA) changes by `log_ratio`, HEALTHY = 0."""
    gammas = _GAMMAS if role is Role.GRAD_NORM else np.zeros(1)

    def log_density(exponent: float) -> float:
        expected = exponent * log_ratio - gammas * log_ratio
        return float(np.log(np.mean(np.exp([_single.log_t4(z - e, scale) for e in expected]))))

    base = log_density(0.0)
    found = {h: log_density(h.ga) - base for h in NAMED} | {HEALTHY: 0.0}
    return found | {OTHER: math.log(_single.OTHER_DENSITY) - base}


def _level_at(change: int, step: FloatArray, log_value: FloatArray) -> tuple[float, float]:
    """(level, standard error) of a side at the change: its straight line's value there, its mean below 6 points."""
    n = len(step)
    if n < 6:
        sd = float(np.std(log_value, ddof=1))
        return float(np.mean(log_value)), sd / math.sqrt(n) + abs(float(log_value[-1] - log_value[0])) / 2
    x = step - change
    design = np.stack([np.ones(n), x], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, log_value, rcond=None)
    residual = log_value - design @ coefficients
    covariance = np.linalg.pinv(design.T @ design) * float(residual @ residual) / (n - 2)
    lag = float(np.clip(np.sum(residual[1:] * residual[:-1]) / max(float(residual @ residual), 1e-300), 0, 0.9))
    return float(coefficients[0]), math.sqrt(max(covariance[0, 0], 0.0) * (1 + lag) / (1 - lag))
