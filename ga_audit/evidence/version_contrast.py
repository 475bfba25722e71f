"""Ratios between releases of the trainer, as they are when one GA was run on two releases.

What it looks at
    The mean level of the runs of each release, against what a fault in one of the releases alone would do to it.
Why it speaks
    A bug that came or went with a release multiplies the loss by GA on one side only.
When it is silent
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

import numpy as np

from ga_audit.evidence import _ratios
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Hypothesis, Silence
from ga_audit.grouping import Group, version_families, version_label
from ga_audit.run import FloatArray, Role, Run
from ga_audit.stats import constants as k
from ga_audit.stats.decision import equivalent
from ga_audit.stats.scaling import Nuisance, fit

KIND = "version_contrast"


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Evidence on loss and grad_norm from ratios between releases."""
    if len(version_families(group.runs)) < 2:
        yield Silence(
            KIND, "the runs are not known to be of different releases of a trainer",
            "Run the same configuration on another release, or let ga-audit bisect do it.",
        )  # fmt: skip
        return
    for role in (Role.LOSS, Role.GRAD_NORM):
        runs, silences = _ratios.usable(group, role, KIND)
        families = version_families(runs) if runs else []
        if len(families) < 2:
            yield from silences
            why = f"no two releases have a usable {role.value}"
            yield Silence(KIND, why, f"Log {role.value} in runs of both releases.", role)
            continue
        yield _speak(group, role, runs, families)


def _speak(group: Group, role: Role, runs: Sequence[Run], families: Sequence[Sequence[Run]]) -> Evidence | Silence:
    panel = group.panel(role, runs)
    if isinstance(panel, Silence):
        return Silence(KIND, panel.why, panel.remedy, role)
    ratios = _ratios.measure(panel)
    position = {r.id: i for i, r in enumerate(ratios.runs)}
    mean = np.zeros((len(families), len(ratios.runs)))
    for row, family in enumerate(families):
        mean[row, [position[r.id] for r in family]] = 1.0 / len(family)
    hypotheses = {_ratios.key(h): h for h in _hypotheses(families)}
    factors = {name: mean @ v for name, v in _ratios.factors(ratios, hypotheses.values()).items()}
    axes: dict[str, FloatArray] = {}
    for row, family in enumerate(families):
        axes[version_label(family, runs)] = np.where(np.arange(len(families)) == row, mean @ ratios.log_ga, 0.0)
    axes = dict(sorted(axes.items(), key=lambda item: -float(np.ptp(item[1]))))
    fitted = fit(
        mean @ ratios.levels.level, mean @ ratios.levels.covariance @ mean.T, factors, axes,
        _averaged(ratios.nuisance, mean), mean @ mean.T,
    )  # fmt: skip
    if fitted is None:
        why = "gradient_accumulation_steps is 1 in all runs: no release could differ by it"
        return Silence(KIND, why, "Compare at GA 2 or more.", role)
    hypotheses["other"] = OTHER
    exponent = fitted.exponents[0]
    detail = _ratios.detail(ratios, fitted.log_likelihood, fitted.exponents, fitted.tau)
    detail["releases"] = {version_label(f, runs): [r.id for r in f] for f in families}
    same = _ratios.same_meaning(ratios, list(hypotheses.values())[:-1])
    detail["same_meaning"] = [[_ratios.key(h) for h in g] for g in same]
    return Evidence(
        KIND, role, tuple(r.id for r in ratios.runs),
        {hypotheses[name]: x for name, x in fitted.log_likelihood.items()},
        f"{role.value} of {exponent.axis} against the other releases: exponent on GA {round(exponent.median, 3) + 0.0:.3f} "
        f"[{exponent.interval95[0]:.3f}, {exponent.interval95[1]:.3f}]",
        "; ".join(sorted({s.source for r in ratios.runs if (s := r.get(role))})),
        estimate=_ratios.estimate_of(exponent, ratios, "contrast of the releases' mean levels"),
        equivalent=equivalent(exponent.interval90, k.EQUIVALENCE[role.value]),
        ties=tuple(tuple(hypotheses[name] for name in tie) for tie in fitted.ties),
        notes=ratios.notes, detail={**detail, **fitted.detail},
    )  # fmt: skip


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
