"""Ratios between runs with different gradient_accumulation_steps or world size.

What it looks at
    The level of the logged curve of every run, on bins of equal training progress, against GA and world size.
Why it speaks
    A loss that is summed over GA is GA times too high from the first line on, whatever the run; right runs differ by
    a few per cent.
When it is silent
    Fewer than two runs, equal GA and world size, unknown GA, losses that are zero or negative, norms logged after
    clipping, releases of the trainer that go with GA one by one.
Calibration
    `stats/constants.py`; `python -m tests.calibration` prints coverage, false verdicts and power.

References
----------
    Patterson & Thompson 1971 (contrasts); Lepski 1991 (window); Huber 1964 (levels); Schuirmann 1987 (equivalence).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ga_audit.evidence import _ratios
from ga_audit.finding import NAMED, OTHER, Evidence, Hypothesis, Silence
from ga_audit.grouping import Group, version_families
from ga_audit.run import FloatArray, Role, Run
from ga_audit.stats import constants as k
from ga_audit.stats.decision import equivalent, settling_run
from ga_audit.stats.scaling import Exponent, fit

KIND = "ratio_regression"
_VARY = (
    "Add a run with another gradient_accumulation_steps and the same effective batch size, seed and data: "
    "ga-audit repro makes such runs on your stack."
)


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Evidence on loss and grad_norm from ratios between the runs of one release of the trainer."""
    for role in (Role.LOSS, Role.GRAD_NORM):
        if not any(run.get(role) for run in group.runs):
            yield Silence(KIND, f"no run logs {role.value}", f"Log {role.value} in at least two runs.", role)
            continue
        runs, silences = _ratios.usable(group, role, KIND)
        yield from silences
        if len(runs) < 2:
            yield Silence(
                KIND, f"only {len(runs) or 'no'} run has a usable {role.value}, and a ratio needs two", _VARY, role
            )
            continue
        families = version_families(runs)
        for family in families:
            if len(family) > 1 or len(families) == 1:
                yield _speak(group, role, family, only=len(families) > 1)
        if len(families) > 1 and all(len(f) == 1 for f in families):
            yield Silence(
                KIND, "no two runs are of the same release of the trainer", "See version_contrast for these runs.", role
            )


def levels(group: Group, role: Role) -> Iterator[tuple[tuple[Run, ...], FloatArray]]:
    """Runs of one release of the trainer with the natural logs of their levels (n,), also where GA is the same in all."""
    runs, _ = _ratios.usable(group, role, KIND)
    for family in version_families(runs):
        panel = group.panel(role, family)
        if len(family) > 1 and not isinstance(panel, Silence):
            yield panel.runs, _ratios.measure(panel).levels.level


def _speak(group: Group, role: Role, runs: Sequence[Run], *, only: bool) -> Evidence | Silence:
    panel = group.panel(role, runs)
    if isinstance(panel, Silence):
        return Silence(KIND, panel.why, panel.remedy, role)
    ratios = _ratios.measure(panel)
    axes = {"gradient_accumulation_steps": ratios.log_ga, "world_size": ratios.log_world}
    axes = {name: v for name, v in axes.items() if np.ptp(v) > 0}
    levels = ratios.levels
    fitted = fit(levels.level, levels.covariance, _ratios.factors(ratios), axes, ratios.nuisance) if axes else None
    if fitted is None:
        return Silence(KIND, "GA and world size are the same in all runs", _VARY, role)
    hypotheses = {h.name: h for h in NAMED} | {"other": OTHER}
    likelihood = {hypotheses[name]: x for name, x in fitted.log_likelihood.items()}
    if only:  # what holds for these runs may hold for their release alone, and nothing here speaks on other releases
        ids = frozenset(r.id for r in runs)
        likelihood |= {Hypothesis(h.name, h.ga, h.world, ids): x for h, x in likelihood.items() if h.ga or h.world}
        likelihood = {h: x for h, x in likelihood.items() if h.only is None or h.name != "other"}
    estimate, *further = (
        _ratios.estimate_of(e, ratios, "contrast of robust levels, random run effect") for e in fitted.exponents
    )
    same = _ratios.same_meaning(ratios)
    ties = tuple(tuple(hypotheses[name] for name in tie) for tie in fitted.ties)
    detail = _ratios.detail(ratios, fitted.log_likelihood, fitted.exponents, fitted.tau)
    detail["same_meaning"] = [[h.name for h in g] for g in same]
    detail["would_settle"] = _settling(ratios, ties, same)
    return Evidence(
        KIND, role, tuple(r.id for r in runs), likelihood, _summary(role, ratios, fitted.exponents),
        "; ".join(sorted({s.source for r in runs if (s := r.get(role))})),
        estimate=estimate, further=tuple(further),
        equivalent=all(equivalent(e.interval90, k.EQUIVALENCE[role.value]) for e in fitted.exponents),
        ties=ties, notes=ratios.notes, detail={**detail, **fitted.detail},
    )  # fmt: skip


def _settling(
    ratios: _ratios.Ratios, ties: Sequence[Sequence[Hypothesis]], same: Sequence[Sequence[Hypothesis]]
) -> list[dict[str, object]]:
    """For every tie of different meaning, GA and world size of one run that would tell its hypotheses apart."""
    ga = [round(float(np.exp(x))) for x in ratios.log_ga]
    world = [round(float(np.exp(x))) for x in ratios.log_world]
    out: list[dict[str, object]] = []
    for tie in ties:
        # of hypotheses that mean the same, one is enough
        apart = [h for i, h in enumerate(tie) if not any(h in g and set(g) & set(tie[:i]) for g in same)]
        found = settling_run(ga, world, [(h.ga, h.world) for h in apart]) if len(apart) > 1 else None
        if found is not None:
            names = [h.name for h in apart]
            out.append({"tied": names, "gradient_accumulation_steps": found[0], "world_size": found[1]})
    return out


def _summary(role: Role, ratios: _ratios.Ratios, exponents: Sequence[Exponent]) -> str:
    """One sentence: the extreme runs' ratio, and each exponent with its interval."""
    order = np.argsort(ratios.log_ga + ratios.log_world, kind="stable")
    low, high = int(order[0]), int(order[-1])
    ratio = float(np.exp(np.clip(ratios.levels.level[high] - ratios.levels.level[low], -700, 700)))
    first, last = ratios.runs[low], ratios.runs[high]
    told = []
    for e in exponents:
        driver = "GA" if e.axis.startswith("grad") else "world size"
        told.append(f"on {driver} {round(e.median, 3) + 0.0:.3f} [{e.interval95[0]:.3f}, {e.interval95[1]:.3f}]")
    return (
        f"{role.value} of {last.name} is {ratio:.3g} times that of {first.name}; exponent {', '.join(told)} over "
        f"{len(ratios.runs)} runs, {ratios.panel.points} points"
    )
