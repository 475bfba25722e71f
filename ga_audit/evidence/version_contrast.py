"""Ratios between releases of the trainer, as they are when one GA was run on two releases.

What it looks at
    The mean level of the runs of each release, against what a fault in one of the releases alone would do to it.
Why it is evidence
    A bug that came or went with a release multiplies the loss by GA on one side only.
When it does not apply
    One release, GA and world size of 1 everywhere, unknown GA, losses that are zero or negative, clipped norms.
Calibration
    As for `ratio_regression`; only contrasts between releases are used here, only those within one there, so that
    nothing is counted twice.

References
----------
    Which of two releases is at fault cannot be told by their ratio alone when GA is the same: summed in the one and
    divided in the other predict one contrast. Such ties are stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ga_audit.evidence import _ratios
from ga_audit.finding import (
    HEALTHY,
    NAMED,
    OTHER,
    Evidence,
    Hypothesis,
    Method,
    NotApplicable,
    Reason,
)
from ga_audit.grouping import Group, version_families, version_label
from ga_audit.run import FloatArray, Role, Run
from ga_audit.stats import constants as k
from ga_audit.stats.decision import equivalent
from ga_audit.stats.scaling import Nuisance, fit

KIND = "version_contrast"


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on loss and grad_norm from ratios between releases."""
    if len(version_families(group.runs)) < 2:
        yield NotApplicable(kind=KIND, reason=Reason.SAME_RELEASE)
        return
    for role in (Role.LOSS, Role.GRAD_NORM):
        runs, left_out = _ratios.usable(group, role, KIND)
        families = version_families(runs) if runs else []
        if len(families) < 2:
            yield from left_out
            yield NotApplicable(kind=KIND, reason=Reason.RELEASES_NOT_COMPARABLE, role=role)
            continue
        yield _evaluate(group, role, runs, families)


def _evaluate(
    group: Group, role: Role, runs: Sequence[Run], families: Sequence[Sequence[Run]]
) -> Evidence | NotApplicable:
    panel = group.panel(role, runs)
    if isinstance(panel, NotApplicable):
        return replace(panel, kind=KIND)
    ratios = _ratios.measure(panel)
    ids = tuple(r.id for r in ratios.runs)
    mean = _means(ids, families)
    hypotheses = _hypotheses(families)
    fitted = fit(
        mean @ ratios.levels.level,
        mean @ ratios.levels.covariance @ mean.T,
        {h: mean @ v for h, v in _ratios.factors(ratios, hypotheses).items()},
        _axes(mean @ ratios.log_ga, [version_label(family, runs) for family in families]),
        _averaged(ratios.nuisance, mean),
        healthy=HEALTHY,
        other=OTHER,
        run_effect=mean @ mean.T,
    )
    if fitted is None:
        return NotApplicable(kind=KIND, reason=Reason.GA_IS_ONE, role=role, runs=ids)
    exponent = fitted.exponents[0]
    same = _ratios.same_meaning(ratios, hypotheses)
    return Evidence(
        kind=KIND,
        role=role,
        runs=ids,
        log_likelihood=fitted.log_likelihood,
        facts={
            "release": exponent.axis,
            "exponent": exponent.value,
            "low": exponent.interval95[0],
            "high": exponent.interval95[1],
        },
        source="; ".join(sorted({s.source for r in ratios.runs if (s := r.get(role))})),
        estimate=_ratios.estimate_of(exponent, ratios, Method.RELEASE_MEANS),
        equivalent=equivalent(exponent.interval90, k.EQUIVALENCE[role.value]),
        ties=fitted.ties,
        comparison=_ratios.comparison(ratios, fitted.tau),
        notes=ratios.notes,
        detail={
            **_ratios.detail(ratios, fitted),
            "releases": {version_label(f, runs): [r.id for r in f] for f in families},
            "same_meaning": [[_ratios.label(h) for h in g] for g in same],
            **_ratios.arithmetic(fitted),
        },
    )


def _means(ids: Sequence[str], families: Sequence[Sequence[Run]]) -> FloatArray:
    """The weights (f, n) that average n runs by family."""
    position = {run: i for i, run in enumerate(ids)}
    mean = np.zeros((len(families), len(ids)))
    for row, family in enumerate(families):
        mean[row, [position[r.id] for r in family]] = 1.0 / len(family)
    return mean


def _axes(log_ga: FloatArray, labels: Sequence[str]) -> dict[str, FloatArray]:
    """For each release (f,) an axis on which its log GA alone varies, the longest first."""
    axes = {label: np.where(np.arange(len(labels)) == i, log_ga, 0.0) for i, label in enumerate(labels)}
    return dict(sorted(axes.items(), key=lambda item: -float(np.ptp(item[1]))))


def _hypotheses(families: Sequence[Sequence[Run]]) -> list[Hypothesis]:
    """Each named hypothesis for all runs, and for the runs of each release alone."""
    out = [*NAMED]
    for family in families:
        ids = frozenset(r.id for r in family)
        out += [Hypothesis(h.name, h.ga, h.world, ids) for h in NAMED if h != HEALTHY]
    return out


def _averaged(nuisance: Nuisance, mean: FloatArray) -> Nuisance:
    """The nuisance of means of runs."""
    return Nuisance(
        nuisance.tau, tuple(mean @ m for m in nuisance.modes), tuple((mean @ b, w) for b, w in nuisance.batch), (),
        nuisance.extra, nuisance.wander,
    )  # fmt: skip
