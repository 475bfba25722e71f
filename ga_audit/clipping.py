"""Share of optimizer steps whose gradient was clipped, as logged and as corrected.

What it looks at
    The logged gradient norm against `max_grad_norm`.
Why it speaks
    It does not speak for or against a hypothesis: it says what a scaled gradient did to the training. Clipping is where
    an optimizer that does not care for scale (Adam) is affected after all.
When it is silent
    No gradient norm or no `max_grad_norm`, a norm that was logged after clipping.
Calibration
    None: a count.

References
----------
    Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks" (clipping by norm).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ga_audit.finding import ClipShare, Evidence, Finding, Silence
from ga_audit.run import Role, Run
from ga_audit.stats.censoring import looks_clipped

if TYPE_CHECKING:
    from ga_audit.grouping import Group

KIND = "clip_share"


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """A Silence for each reason why the share cannot be counted; never evidence."""
    if any(run.get(Role.GRAD_NORM) for run in group.runs) and not any(r.settings.max_grad_norm for r in group.runs):
        yield Silence(
            KIND, "max_grad_norm is not recorded, so the share of clipped steps is not known",
            "Keep training_args.bin or the config beside the log.", Role.GRAD_NORM,
        )  # fmt: skip


def shares(runs: Sequence[Run], findings: Sequence[Finding]) -> Iterator[ClipShare]:
    """The share for each run that logs a norm before clipping and records `max_grad_norm`."""
    for run in runs:
        series, limit = run.get(Role.GRAD_NORM), run.settings.max_grad_norm
        if series is None or limit is None or limit.value <= 0:
            continue
        norm = series.value[np.isfinite(series.value)]
        if not len(norm) or looks_clipped(series.value, limit.value):
            continue
        log_factor = sum(
            f.hypothesis.log_factor(run) for f in findings if f.role is Role.GRAD_NORM and run.id in f.runs
        )
        corrected = norm / math.exp(log_factor)
        yield ClipShare(
            run.name,
            limit.value,
            float(np.mean(norm > limit.value)),
            float(np.mean(corrected > limit.value)),
            len(norm),
        )
