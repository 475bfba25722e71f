"""What figures take from a diagnosis: the axis of the comparison, the reference, what evidence measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import SUMMED_GA, Axis, Comparison, Estimate, Hypothesis
from ga_audit.run import FloatArray, Role, Run, Series


def axis_of(d: Diagnosis) -> Axis:
    """The axis on which the runs were compared; optimizer steps where they were not."""
    found = [p.estimate.axis for p in d.evidence if p.estimate is not None]
    axis = found[0] if found else Axis.STEP
    known = all(run.settings.effective_batch_size for run in d.runs)
    return axis if axis is Axis.STEP or known else Axis.STEP


def position(run: Run, series: Series, axis: Axis) -> FloatArray:
    """Training progress at each point of a series (n,)."""
    step = series.position.astype(np.float64)
    return step if axis is Axis.STEP else step * float(run.settings.effective_batch_size or 1)


def reference(runs: Sequence[Run]) -> Run | None:
    """The run that others are held against: that of the smallest GA, else the first."""
    known = [run for run in runs if run.settings.ga]
    return min(known, key=lambda r: r.settings.ga or 1) if known else next(iter(runs), None)


def logged(d: Diagnosis) -> list[Role]:
    """Which of loss and grad_norm any run logs; the loss where none does."""
    return [r for r in (Role.LOSS, Role.GRAD_NORM) if any(run.get(r) for run in d.runs)] or [Role.LOSS]


def factor(d: Diagnosis, run: Run, role: Role) -> float:
    """Logged / intended of a run, 1 where nothing was found or a setting is unknown."""
    log = d.log_factor(run, role)
    return math.exp(log) if math.isfinite(log) else 1.0


def found(d: Diagnosis, role: Role) -> Hypothesis | None:
    """The hypothesis that the findings name for a role."""
    return next((f.hypothesis for f in d.findings if f.role is role), None)


def expected(d: Diagnosis, role: Role) -> tuple[Hypothesis, str]:
    """The fault whose ratios are drawn for comparison, and its words: what was found, else a sum over GA."""
    h = found(d, role) or SUMMED_GA
    return h, h.name.partition("@")[0].replace("-", " ")


def compared(d: Diagnosis, role: Role) -> tuple[Estimate, Comparison] | None:
    """The exponent that was estimated from the most runs, with the comparison it comes from."""
    pieces = [p for p in d.evidence if p.role is role and p.comparison is not None]
    if not pieces:
        return None
    best = max(pieces, key=lambda p: len(p.runs))
    assert best.estimate is not None
    assert best.comparison is not None
    return best.estimate, best.comparison
