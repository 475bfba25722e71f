"""Two logs of one training that differ by a factor.

What it looks at
    The median log ratio of the loss in two sinks (console, W&B, TensorBoard, trainer_state.json) at common steps.
Why it is evidence
    They log one number. Where they differ by GA, one of them is scaled (nanoGPT once wrote the loss right to W&B and divided
    by GA to the console).
When it does not apply
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
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Fact, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import Role, Run, Series
from ga_audit.stats.arrays import median

KIND = "sink_disagreement"
SCALE = 0.05
AGREE = 0.02
THIS_ONE = math.log(2)
LEAST = 3


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on the loss of each run with several sinks that disagree."""
    for run in group.runs:
        views = run.views(Role.LOSS)
        if len(views) < 2:
            yield _single.not_applicable(KIND, run, Reason.ONE_LOG)
        else:
            for other in views[1:]:
                yield _evaluate(run, views[0], other)


def _evaluate(run: Run, one: Series, two: Series) -> Evidence | NotApplicable:
    _, i, j = np.intersect1d(one.position, two.position, return_indices=True)
    x, y = one.value[i], two.value[j]
    good = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    formats: dict[str, Fact] = {"first": one.format, "second": two.format}
    if good.sum() < LEAST:
        return _single.not_applicable(KIND, run, Reason.NO_COMMON_STEP, {**formats, "least": LEAST})
    z = median(np.log(x[good] / y[good]))
    if abs(z) < AGREE:
        return _single.not_applicable(KIND, run, Reason.LOGS_AGREE, formats)
    likelihood = {}
    flat = math.log(_single.OTHER_DENSITY)
    for h in NAMED:
        factor = h.log_factor(run)
        if not math.isnan(factor):
            own = _single.log_t4(z - factor, SCALE) if factor else -math.inf
            likelihood[h] = min(max(own - flat, 0.0), THIS_ONE)
    return Evidence(
        kind=KIND,
        role=Role.LOSS,
        runs=(run.id,),
        log_likelihood=likelihood | {HEALTHY: 0.0, OTHER: 0.0},
        facts={**formats, "ratio": math.exp(z), "ga": run.settings.ga},
        source=f"{one.source}; {two.source}",
        weak=True,
        detail={"ratio": round(math.exp(z), 5), "points": int(good.sum())},
    )
