"""The closing `train_loss` of a run against the losses that it logged on the way.

What it looks at
    ln(mean of the logged losses / `train_loss`).
Why it is evidence
    The two are the mean of the same numbers. Where they differ by GA, one of the two ways into the log has a factor of its own.
When it does not apply
    No `train_loss`; the two agree (in every measured release both carry the same factor, so agreement shows nothing); a
    `train_loss` of 0, as a resumed training writes; a log that does not span the run.
Calibration
    In every measured release of transformers `train_loss` is made of the scalars that were logged. A difference by GA is told
    from chance, not which of the two is wrong: 3 : 1 for the logged ones (judgement), so it is weak.

References
----------
    transformers `Trainer._inner_training_loop`: `train_loss = total_loss / global_step`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ga_audit.evidence import _single
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import Role, Run

KIND = "summary_loss"
SCALE = 0.1
AGREE = 0.15
LOGGED_IS_WRONG = math.log(3)


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on the loss of each run whose summary disagrees with its log."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, NotApplicable) else _evaluate(run)


def _evaluate(run: Run) -> Evidence | NotApplicable:
    loss, summary = run.get(Role.LOSS), run.get(Role.SUMMARY_LOSS)
    if loss is None or summary is None or not len(summary):
        return _single.not_applicable(KIND, run, Reason.NO_SUMMARY_LOSS)
    good = np.isfinite(loss.value)
    total = float(summary.value[-1])
    if not total > 0 or good.sum() < 3:
        return _single.not_applicable(KIND, run, Reason.SUMMARY_AFTER_RESUME, {"train_loss": total})
    mean = float(np.mean(loss.value[good]))
    z = math.log(mean / total) if mean > 0 else math.nan
    if not math.isfinite(z) or abs(z) < AGREE:
        return _single.not_applicable(KIND, run, Reason.SUMMARY_AGREES, {"train_loss": total})
    likelihood = {}
    flat = math.log(_single.OTHER_DENSITY)
    for h in NAMED:
        factor = h.log_factor(run)
        if not math.isnan(factor):
            apart = _single.log_t4(z - factor, SCALE) if factor else -math.inf
            # the log is right and the summary has the inverse factor, or the two differ for another reason
            likelihood[h] = min(max(apart + LOGGED_IS_WRONG, flat) - flat, LOGGED_IS_WRONG)
    return Evidence(
        kind=KIND,
        role=Role.LOSS,
        runs=(run.id,),
        log_likelihood=likelihood | {HEALTHY: 0.0, OTHER: 0.0},
        facts={"ratio": mean / total, "ga": run.settings.ga},
        source=f"{loss.source}; {summary.source}",
        weak=True,
        detail={"mean": mean, "train_loss": total},
    )
