"""Logged loss against what the logged token accuracy allows.

What it looks at
    Medians over the second half of the run of the loss and of the share p of tokens that the model's first guess gets right.
Why it is evidence
    Each wrong first guess costs ln 2 or more, so a mean loss is at least (1 - p) ln 2. And a calibrated model with accuracy p
    costs at most H(p) + (1 - p) ln(V - 1): a sum over GA leaves that band at the top, a loss divided by GA at the bottom.
When it does not apply
    No token accuracy, vocabulary or GA unknown, a loss that lies inside the band under every reading.
Calibration
    Judgement: 1 % of right losses lie above the band (overconfident models), none below but by rounding; on either side the
    density falls by e per 0.1.

References
----------
    Fano's inequality (Cover & Thomas, "Elements of information theory", 2.10) gives the upper side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, objective
from ga_audit.finding import OTHER, Evidence, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import Role, Run
from ga_audit.stats.arrays import median

KIND = "accuracy_bound"
OUTSIDE = 0.01
_EDGE = 0.1


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on the loss of each run that logs token accuracy."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, NotApplicable) else _evaluate(run)


def band(accuracy: float, vocabulary: int) -> tuple[float, float]:
    """(least, most) nats per token of a model with that accuracy."""
    p, q = accuracy, 1 - accuracy
    entropy = -sum(x * math.log(x) for x in (p, q) if x > 0)
    return q * math.log(2), entropy + q * math.log(max(vocabulary - 1, 2))


def _evaluate(run: Run) -> Evidence | NotApplicable:
    loss, accuracy, vocabulary = run.get(Role.LOSS), run.get(Role.TOKEN_ACCURACY), run.settings.vocab_size
    if loss is None or accuracy is None or vocabulary is None:
        return _single.not_applicable(KIND, run, Reason.NO_TOKEN_ACCURACY)
    inferred = objective(run)
    if inferred.objective is not Objective.LANGUAGE_MODEL:
        return _single.not_applicable(KIND, run, Reason.NOT_A_LANGUAGE_MODEL, inferred.facts)
    step, value = _single.constant_part(run, loss)
    when, share = _single.constant_part(run, accuracy)
    _, i, j = np.intersect1d(step, when, return_indices=True)
    share = share[j]
    if not len(i) or median(share) >= 1:
        return _single.not_applicable(KIND, run, Reason.NO_COMMON_STEP)
    level, p = median(value[i][len(i) // 2 :]), median(share[len(share) // 2 :])
    low, high = band(p, vocabulary.value)
    found = _single.likelihoods(run, lambda factor: _log_density(math.log(level) - factor, low, high))
    if max(abs(v) for h, v in found.items() if h != OTHER) < 1e-9:
        return _single.not_applicable(KIND, run, Reason.FITS_ALL)
    place = "above" if level > high else "below" if level < low else "inside"
    over_ga = level / (run.settings.ga or 1)
    return Evidence(
        kind=KIND,
        role=Role.LOSS,
        runs=(run.id,),
        log_likelihood=found,
        facts={
            "loss": level,
            "place": place,
            "low": low,
            "high": high,
            "accuracy": p,
            "over_ga": over_ga,
        },
        source=f"{loss.source}; {accuracy.source}",
        weak=place == "inside",
        equivalent=True if place == "inside" and over_ga < low else None,
        detail={"loss": level, "accuracy": p, "band": [low, high]},
    )


def _log_density(log_loss: float, low: float, high: float) -> float:
    a, b = math.log(low), math.log(high)
    beyond = max(a - log_loss, log_loss - b)
    inside = math.log(1 / (b - a))
    return inside if beyond <= 0 else max(inside - beyond / _EDGE, inside + math.log(OUTSIDE))
