"""Logged loss against the entropy or perplexity that is logged beside it.

What it looks at
    The median of ln(loss / entropy), or of ln(loss / ln(perplexity)) where perplexity is logged by its own, over the second half.
Why it is evidence
    A calibrated language model's cross-entropy is about the entropy of its predictions, and perplexity is exp(loss): neither
    is added up over micro-batches where the loss is.
When it does not apply
    Neither is logged with the loss; a quantity that is a fixed function of the logged loss, such as perplexity to any base (it
    follows the loss and shows nothing); an objective that is not a language model's; GA unknown or 1.
Calibration
    Judgement: scale 0.3 for entropy (fine-tuned models are surprised by new data before they fit it), 0.2 for perplexity. Weak
    below GA 8, as `eval_gap`, with which it shares the possibility of an unusual loss.

References
----------
    Guo et al. 2017, "On calibration of modern neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, objective
from ga_audit.finding import Evidence, Fact, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import FloatArray, Role, Run
from ga_audit.stats.arrays import median

KIND = "entropy_ratio"
SCALES = {Role.ENTROPY: 0.3, Role.PERPLEXITY: 0.2}
SURE_GA = 8
_SAME = 0.01  # perplexity that is exp(loss) within this
_CONSTANT = 0.002  # scatter of ln(loss / ln(perplexity)) where one is computed from the other, digits apart
_BASES = (2.0, 10.0)  # of the exponential or the logarithm: fairseq logs bits


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on the loss of each run that logs entropy or perplexity."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, NotApplicable) else _evaluate(run)


def _evaluate(run: Run) -> Evidence | NotApplicable:
    for role in SCALES:
        gaps = _gaps(run, role)
        if len(gaps):
            return _evaluate_gaps(run, role, gaps)
    return _single.not_applicable(KIND, run, Reason.NO_ENTROPY)


def _evaluate_gaps(run: Run, role: Role, gaps: FloatArray) -> Evidence | NotApplicable:
    inferred, scale = objective(run), SCALES[role]
    known = inferred.objective
    if known not in (Objective.LANGUAGE_MODEL, Objective.UNKNOWN):
        facts: dict[str, Fact] = {"quantity": role.value, **inferred.facts}
        return _single.not_applicable(KIND, run, Reason.NOT_A_LANGUAGE_MODEL, facts)
    z = median(gaps)
    if role is Role.PERPLEXITY and _is_computed(gaps):
        return _single.not_applicable(KIND, run, Reason.COPY_OF_LOSS)
    ga = run.settings.ga or 1
    return Evidence(
        kind=KIND,
        role=Role.LOSS,
        runs=(run.id,),
        log_likelihood=_single.likelihoods(run, lambda f: _single.log_t4(z - f, scale)),
        facts={
            "quantity": role.value,
            "ratio": math.exp(z),
            "low": math.exp(z - 1.96 * scale),
            "high": math.exp(z + 1.96 * scale),
            "points": len(gaps),
            "ga": ga,
        },
        source=getattr(run.get(role), "source", ""),
        weak=not (known is Objective.LANGUAGE_MODEL and ga >= SURE_GA),
        equivalent=True if z + 1.645 * scale < math.log(ga) else None,
        detail={"median_ratio": round(math.exp(z), 4), "points": len(gaps)},
    )


def _is_computed(gaps: FloatArray) -> bool:
    """Whether perplexity is an exponential of the logged loss, to any base.

    A perplexity of its own, averaged over micro-batches or tokens, has another ratio to the loss at every step.
    """
    z = median(gaps)
    known = (0.0, *(sign * math.log(math.log(base)) for base in _BASES for sign in (1, -1)))
    if any(abs(z - ratio) < _SAME for ratio in known):
        return True
    return len(gaps) > 1 and float(np.abs(gaps - z).max()) < _CONSTANT


def _gaps(run: Run, role: Role) -> FloatArray:
    """(n,) ln(loss / what it should be) at the common steps of the second half."""
    loss, other = run.get(Role.LOSS), run.get(role)
    if loss is None or other is None:
        return np.zeros(0)
    step, value = _single.constant_part(run, loss)
    when, level = _single.constant_part(run, other)
    _, i, j = np.intersect1d(step, when, return_indices=True)
    x, y = value[i], level[j]
    if role is Role.PERPLEXITY:
        good = y > 1.01
        x, y = x[good], np.log(y[good])
    gaps: FloatArray = np.log(x) - np.log(y)
    return gaps[len(gaps) // 2 :]
