"""Share of optimizer steps whose gradient was clipped, as logged and as corrected.

Clipping is where an optimizer that is invariant to scale (Adam) is affected after all: a scaled
gradient is clipped more often, or less.

References
----------
Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ga_audit.finding import ClipShare, Finding
from ga_audit.run import Role, Run
from ga_audit.stats.censoring import looks_clipped


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
