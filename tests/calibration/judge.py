"""A verdict from the evidence of ratios alone, by the rule of `ga_audit.diagnosis` itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ga_audit.diagnosis import Reading as Diagnosed
from ga_audit.diagnosis import read_role
from ga_audit.evidence import ratio_regression, version_contrast
from ga_audit.finding import Evidence, Hypothesis, NotApplicable, Verdict
from ga_audit.grouping import Group, group
from ga_audit.run import Role, Run


@dataclass(frozen=True)
class Reading:
    verdict: str  # "healthy", a hypothesis' name, or "inconclusive"
    probability: float
    evidence: Evidence | None
    posterior: dict[Hypothesis, float]
    silences: tuple[NotApplicable, ...] = ()
    why: str = ""
    diagnosed: Diagnosed | None = None

    @property
    def interval(self) -> tuple[float, float]:
        assert self.evidence is not None
        assert self.evidence.estimate is not None
        return self.evidence.estimate.interval.low, self.evidence.estimate.interval.high


def read(runs: Sequence[Run] | Group, role: Role = Role.LOSS, given: Reading | None = None) -> Reading:
    """The verdict on one quantity; `given` is the reading of the loss, to which that of the norm is coupled."""
    one = runs if isinstance(runs, Group) else group(runs)[0]
    pieces = [p for p in ratio_regression.gather(one) if getattr(p, "role", None) is role]
    silences = tuple(p for p in pieces if isinstance(p, NotApplicable))
    evidence = [p for p in pieces if isinstance(p, Evidence)]
    if not evidence:
        return Reading("inconclusive", 0.0, None, {}, silences, "silence")
    said = read_role(role, one, evidence, given.diagnosed if given else None)
    spoken = said.verdict in (Verdict.HEALTHY, Verdict.SCALED)
    name = said.top.name if spoken else "inconclusive"
    probability = sum(said.posterior[h] for h in {said.top, *said.tied})
    return Reading(
        name, probability, evidence[0], dict(said.posterior), silences, said.why.reason if said.why else "", said
    )


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
