"""The closing `train_loss` of a run against the losses that it logged on the way.

What it looks at
    ln(mean of the logged losses / `train_loss`).
Why it speaks
    The two are the mean of the same numbers. Where they differ by GA, one of the two ways into the log has a factor of its own.
When it is silent
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
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Silence
from ga_audit.grouping import Group
from ga_audit.run import Role, Run

KIND = "summary_loss"
SCALE = 0.1
AGREE = 0.15
LOGGED_IS_WRONG = math.log(3)


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Evidence on the loss of each run whose summary disagrees with its log."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, Silence) else _speak(run)


def _speak(run: Run) -> Evidence | Silence:
    loss, summary = run.get(Role.LOSS), run.get(Role.SUMMARY_LOSS)
    if loss is None or summary is None or not len(summary):
        return Silence(KIND, f"{run.name} has no closing train_loss", "", Role.LOSS)
    good = np.isfinite(loss.value)
    total = float(summary.value[-1])
    if not total > 0 or good.sum() < 3:
        why = f"train_loss of {run.name} is {total:g}: a training resumed after its end writes that"
        return Silence(KIND, why, "", Role.LOSS)
    mean = float(np.mean(loss.value[good]))
    z = math.log(mean / total) if mean > 0 else math.nan
    if not math.isfinite(z) or abs(z) < AGREE:
        why = f"train_loss of {run.name} ({total:.4g}) is the mean of its logged losses: it has their factor, if any"
        return Silence(KIND, why, "", Role.LOSS)
    likelihood = {}
    for h in NAMED:
        factor = h.log_factor(run)
        if not math.isnan(factor):
            apart = _single.log_t4(z - factor, SCALE) if factor else -math.inf
            # the log is right and the summary has the inverse factor, or the two differ for another reason
            flat = math.log(_single.OTHER_DENSITY)
            likelihood[h] = max(apart + LOGGED_IS_WRONG, flat) - flat
    likelihood = {h: min(v, LOGGED_IS_WRONG) for h, v in likelihood.items()} | {HEALTHY: 0.0, OTHER: 0.0}
    return Evidence(
        KIND, Role.LOSS, (run.id,), likelihood,
        f"logged losses of {run.name} are {mean / total:.3g} times its train_loss in the mean; GA is {run.settings.ga}",
        f"{loss.source}; {summary.source}", weak=True, detail={"mean": mean, "train_loss": total},
    )  # fmt: skip
