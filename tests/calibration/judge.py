"""A verdict from the evidence of ratios alone, by the rule that the diagnosis follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ga_audit.evidence import ratio_regression, version_contrast
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Hypothesis, Silence
from ga_audit.grouping import Group, group
from ga_audit.run import Role, Run
from ga_audit.stats import constants as k
from ga_audit.stats.decision import coupled_prior, decide, posterior

_NAMES = {(0, 0): "healthy", (1, 0): "summed", (-1, 0): "divided", (0, 1): "world", (1, 1): "ga-world"}


@dataclass(frozen=True)
class Reading:
    verdict: str  # "healthy", a hypothesis' name, or "inconclusive"
    probability: float
    evidence: Evidence | None
    posterior: dict[Hypothesis, float]
    silences: tuple[Silence, ...] = ()
    why: str = ""

    @property
    def interval(self) -> tuple[float, float]:
        assert self.evidence is not None
        assert self.evidence.estimate is not None
        return self.evidence.estimate.interval.low, self.evidence.estimate.interval.high


def prior() -> dict[Hypothesis, float]:
    """Prior over the named hypotheses."""
    out = {h: k.PRIOR.get(_NAMES.get((h.ga, h.world), ""), k.PRIOR_RARE) for h in NAMED}
    return {**out, OTHER: k.PRIOR["other"]}


def coupling() -> dict[Hypothesis, dict[Hypothesis, float]]:
    """`constants.COUPLING` by hypothesis."""
    by_name = {_NAMES[h.ga, h.world]: h for h in NAMED if (h.ga, h.world) in _NAMES}
    return {by_name[a]: {by_name[b]: p for b, p in row.items()} for a, row in k.COUPLING.items()}


def read(runs: Sequence[Run] | Group, role: Role = Role.LOSS, given: Reading | None = None) -> Reading:
    """The verdict on one quantity; `given` is the reading of the loss, to which that of the norm is coupled."""
    one = runs if isinstance(runs, Group) else group(runs)[0]
    pieces = [p for p in ratio_regression.gather(one) if getattr(p, "role", None) is role]
    silences = tuple(p for p in pieces if isinstance(p, Silence))
    evidence = [p for p in pieces if isinstance(p, Evidence)]
    if not evidence:
        return Reading("inconclusive", 0.0, None, {}, silences, "silence")
    base = prior() if given is None or not given.posterior else coupled_prior(prior(), given.posterior, coupling())
    world_varies = len({r.settings.world_size.value if r.settings.world_size else 1 for r in one.runs}) > 1
    if not world_varies:  # a power of a world size that all runs share is a common factor: never visible, not weighed
        base = {h: p for h, p in base.items() if h == OTHER or h.world == 0}
    weight = posterior(base, [p.log_likelihood for p in evidence])
    names = set(weight)
    ties = [[h for h in t if h in names] for p in evidence for t in p.ties]
    said = decide(weight, healthy=HEALTHY, other=OTHER, ties=ties, is_equivalent=all(p.equivalent for p in evidence))
    name = said.chosen.name if isinstance(said.chosen, Hypothesis) else "inconclusive"
    return Reading(name, said.probability, evidence[0], weight, silences, said.why)


def both(runs: Sequence[Run]) -> tuple[Reading, Reading]:
    """Loss and, coupled to it, grad_norm."""
    one = group(runs)[0]
    loss = read(one)
    return loss, read(one, Role.GRAD_NORM, loss)


def releases(runs: Sequence[Run], role: Role = Role.LOSS) -> list[Evidence]:
    """Evidence from contrasts between releases."""
    return [p for p in version_contrast.gather(group(runs)[0]) if isinstance(p, Evidence) and p.role is role]


def covers(reading: Reading, truth: float) -> bool:
    """Whether the interval holds the true exponent, token weighting aside."""
    low, high = reading.interval
    return low <= truth + 0.03 and truth - 0.01 <= high and not math.isnan(low)
