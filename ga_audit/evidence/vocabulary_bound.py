"""Logged loss against ln(vocabulary), above which no mean cross-entropy of a model that has learned anything lies.

What it looks at
    The median of the loss over the second half of the run, and whether the loss falls, against ln(vocab_size).
Why it speaks
    Guessing each token alike costs ln(vocabulary) nats; a trained model stands below. A sum over GA stands above it, and
    divided by GA below.
When it is silent
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
from ga_audit.finding import Evidence, Silence
from ga_audit.grouping import Group
from ga_audit.run import Role, Run
from ga_audit.stats.arrays import median

KIND = "vocabulary_bound"
LOWEST = 0.05  # nats per token: below, a right loss is rare
SLACK = 1.05  # label smoothing and auxiliary terms
ABOVE, ABOVE_AND_FALLING = 0.02, 0.002
_ABOVE_WIDTH = 3.0  # a share above the bound is spread over e^3
FALLS_BY = 0.05


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Evidence on the loss of each run whose vocabulary is known."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, Silence) else _speak(run)


def _speak(run: Run) -> Evidence | Silence:
    series, vocabulary = run.get(Role.LOSS), run.settings.vocab_size
    if series is None or vocabulary is None or vocabulary.value < 2:
        remedy = "Keep the model's config.json beside the log."
        return Silence(KIND, f"the vocabulary of {run.name} is not known", remedy, Role.LOSS)
    kind, why = objective(run)
    if kind is not Objective.LANGUAGE_MODEL:
        remedy = "Keep the model's config.json (architectures) beside the log." if kind is Objective.UNKNOWN else ""
        return Silence(KIND, f"the loss of {run.name} is not known to be a language model's ({why})", remedy, Role.LOSS)
    _, value = _single.constant_part(run, series)
    if not len(value):
        return Silence(KIND, f"the loss of {run.name} has no value above zero", "", Role.LOSS)
    half = value[len(value) // 2 :]
    level = median(half)
    quarter = max(len(half) // 2, 1)
    falling = len(half) >= 4 and median(half[:quarter]) / median(half[-quarter:]) > 1 + FALLS_BY
    bound = math.log(vocabulary.value)
    share = ABOVE_AND_FALLING if falling else ABOVE
    found = _single.likelihoods(run, lambda factor: _log_density(math.log(level) - factor, bound, share))
    if max(abs(v) for h, v in found.items() if h.name != "other") < 1e-9:
        why = f"loss of {run.name} ({level:.3g}) is below ln({vocabulary.value}) = {bound:.3g} under every reading"
        return Silence(KIND, why, "", Role.LOSS)
    place = "above" if level > bound * SLACK else "below"
    return Evidence(
        KIND, Role.LOSS, (run.id,), found,
        f"loss of {run.name} is {level:.3g} in its second half{' and falling' if falling else ''}, {place} ln(vocabulary "
        f"{vocabulary.value}) = {bound:.3g}; divided by GA {level / (run.settings.ga or 1):.3g}",
        f"{series.source}; {vocabulary.source}", weak=place == "below" or not falling,
        detail={"level": level, "bound": bound, "falling": falling},
    )  # fmt: skip


def _log_density(log_loss: float, bound: float, share_above: float) -> float:
    """Log density of the log of a loss: even between LOWEST and the bound, thin above, thinning below."""
    low, high = math.log(LOWEST), math.log(bound * SLACK)
    if log_loss > high:
        return math.log(share_above / _ABOVE_WIDTH) - max(log_loss - high - _ABOVE_WIDTH, 0.0)
    inside = math.log((1 - share_above) / (high - low))
    return inside if log_loss >= low else inside + 2 * (log_loss - low)
