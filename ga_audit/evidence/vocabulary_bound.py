"""Logged loss against ln(vocabulary), above which no mean cross-entropy of a model that has learned anything lies.

What it looks at
    The median of the loss over the second half of the run, and whether the loss falls, against ln(vocab_size).
Why it is evidence
    Guessing each token alike costs ln(vocabulary) nats; a trained model stands below. A sum over GA stands above it, and
    divided by GA below.
When it does not apply
    Vocabulary or GA unknown, an objective that is not a language model's.
Calibration
    Judgement: the log of a right loss is spread evenly from 0.05 nats to ln(V); 2 % of right runs stand above (diverged, or
    started from too large weights), 0.2 % above and still falling in their second half.

References
----------
    Shannon 1948: the entropy of V symbols is at most ln V.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, objective
from ga_audit.finding import OTHER, Evidence, Fact, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import Role, Run
from ga_audit.stats.arrays import median

KIND = "vocabulary_bound"
LOWEST = 0.05  # nats per token: below, a right loss is rare
SLACK = 1.05  # label smoothing and auxiliary terms
ABOVE, ABOVE_AND_FALLING = 0.02, 0.002
_ABOVE_WIDTH = 3.0  # a share above the bound is spread over e^3
FALLS_BY = 0.05


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on the loss of each run whose vocabulary is known."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, NotApplicable) else _evaluate(run)


def _evaluate(run: Run) -> Evidence | NotApplicable:
    series, vocabulary = run.get(Role.LOSS), run.settings.vocab_size
    if series is None or vocabulary is None or vocabulary.value < 2:
        return _single.not_applicable(KIND, run, Reason.VOCABULARY_UNKNOWN)
    inferred = objective(run)
    if inferred.objective is not Objective.LANGUAGE_MODEL:
        unknown = inferred.objective is Objective.UNKNOWN
        reason = Reason.OBJECTIVE_UNKNOWN if unknown else Reason.NOT_A_LANGUAGE_MODEL
        return _single.not_applicable(KIND, run, reason, inferred.facts)
    _, value = _single.constant_part(run, series)
    if not len(value):
        return _single.not_applicable(KIND, run, Reason.NO_POSITIVE_VALUE)
    half = value[len(value) // 2 :]
    level = median(half)
    quarter = max(len(half) // 2, 1)
    falling = len(half) >= 4 and median(half[:quarter]) / median(half[-quarter:]) > 1 + FALLS_BY
    bound = math.log(vocabulary.value)
    share = ABOVE_AND_FALLING if falling else ABOVE
    found = _single.likelihoods(run, lambda f: _log_density(math.log(level) - f, bound, share))
    limit: dict[str, Fact] = {"loss": level, "vocabulary": vocabulary.value, "bound": bound}
    if max(abs(v) for h, v in found.items() if h != OTHER) < 1e-9:
        return _single.not_applicable(KIND, run, Reason.FITS_ALL, limit)
    place = "above" if level > bound * SLACK else "below"
    return Evidence(
        kind=KIND,
        role=Role.LOSS,
        runs=(run.id,),
        log_likelihood=found,
        facts={**limit, "place": place, "falling": falling, "over_ga": level / (run.settings.ga or 1)},
        source=f"{series.source}; {vocabulary.source}",
        weak=place == "below" or not falling,
        detail={"level": level, "bound": bound, "falling": falling},
    )


def _log_density(log_loss: float, bound: float, share_above: float) -> float:
    """Log density of the log of a loss: even between LOWEST and the bound, thin above, thinning below."""
    low, high = math.log(LOWEST), math.log(bound * SLACK)
    if log_loss > high:
        return math.log(share_above / _ABOVE_WIDTH) - max(log_loss - high - _ABOVE_WIDTH, 0.0)
    inside = math.log((1 - share_above) / (high - low))
    return inside if log_loss >= low else inside + 2 * (log_loss - low)
