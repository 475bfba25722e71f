"""Two logs of one training that differ by a factor.

What it looks at
    The median log ratio of the loss in two sinks (console, W&B, TensorBoard, trainer_state.json) at common steps.
Why it speaks
    They log one number. Where they differ by GA, one of them is scaled (nanoGPT once wrote the loss right to W&B and divided
    by GA to the console).
When it is silent
    One sink, too few common steps, sinks that agree (then both are right or both are wrong).
Calibration
    Judgement: which of the two is wrong is not told, only that one is: 2 : 1 for the one that the series comes from. Weak.

References
----------
    None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ga_audit.evidence import _single
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Silence
from ga_audit.grouping import Group
from ga_audit.run import Role, Run, Series
from ga_audit.stats.arrays import median

KIND = "sink_disagreement"
SCALE = 0.05
AGREE = 0.02
THIS_ONE = math.log(2)
LEAST = 3


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Evidence on the loss of each run with several sinks that disagree."""
    for run in group.runs:
        views = run.views(Role.LOSS)
        if len(views) < 2:
            yield Silence(KIND, f"{run.name} has one log", "", Role.LOSS)
        else:
            for other in views[1:]:
                yield _speak(run, views[0], other)


def _speak(run: Run, one: Series, two: Series) -> Evidence | Silence:
    _, i, j = np.intersect1d(one.position, two.position, return_indices=True)
    x, y = one.value[i], two.value[j]
    good = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    if good.sum() < LEAST:
        return Silence(
            KIND, f"{one.format} and {two.format} of {run.name} share fewer than {LEAST} steps", "", Role.LOSS
        )
    z = median(np.log(x[good] / y[good]))
    if abs(z) < AGREE:
        return Silence(
            KIND, f"{one.format} and {two.format} of {run.name} agree: both are right, or both are wrong", "", Role.LOSS
        )
    likelihood = {}
    flat = math.log(_single.OTHER_DENSITY)
    for h in NAMED:
        factor = h.log_factor(run)
        if not math.isnan(factor):
            own = _single.log_t4(z - factor, SCALE) if factor else -math.inf
            likelihood[h] = min(max(own - flat, 0.0), THIS_ONE)
    return Evidence(
        KIND, Role.LOSS, (run.id,), likelihood | {HEALTHY: 0.0, OTHER: 0.0},
        f"loss of {run.name} in {one.format} is {math.exp(z):.4g} times that in {two.format}; one of the two is scaled "
        f"(GA is {run.settings.ga or 'not known'})",
        f"{one.source}; {two.source}", weak=True, detail={"ratio": round(math.exp(z), 5), "points": int(good.sum())},
    )  # fmt: skip
