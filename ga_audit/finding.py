"""Hypothesis, Evidence, Silence, Finding, Diagnosis, Audit: what we conclude, as small frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ga_audit._columns import count
from ga_audit.run import Note, ReadFailure, Role, Run


class Verdict(StrEnum):
    """About a group of runs; never by default."""

    HEALTHY = "healthy"
    SCALED = "scaled"
    INCONCLUSIVE = "inconclusive"


class Reach(StrEnum):
    """How deep the fault goes, as far as logs can tell."""

    NONE = "none"
    LOG_ONLY = "log-only"
    GRADIENTS = "gradients"
    UNKNOWN = "unknown"


class Axis(StrEnum):
    """What runs are aligned on."""

    STEP = "optimizer step"
    SAMPLES = "samples seen"
    TOKENS = "tokens seen"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A way in which the logged value may differ from the intended one: logged = intended x GA**ga x world_size**world."""

    name: str
    ga: float
    world: float
    only: frozenset[str] | None = None  # ids of the runs it is about; None = all

    def log_factor(self, run: Run) -> float:
        """ln(logged / intended) for a run; NaN where a setting that it needs is unknown."""
        if self.only is not None and run.id not in self.only:
            return 0.0
        total = 0.0
        for exponent, value in (
            (self.ga, run.settings.ga),
            (self.world, run.settings.world_size.value if run.settings.world_size else None),
        ):
            if exponent:
                total += exponent * math.log(value) if value else math.nan
        return total


HEALTHY = Hypothesis("healthy", 0, 0)
SUMMED_GA = Hypothesis("summed-over-ga", 1, 0)
DIVIDED_GA = Hypothesis("divided-by-ga", -1, 0)
DIVIDED_GA2 = Hypothesis("divided-by-ga-squared", -2, 0)
SUMMED_WORLD = Hypothesis("summed-over-world-size", 0, 1)
DIVIDED_WORLD = Hypothesis("divided-by-world-size", 0, -1)
SUMMED_GA_WORLD = Hypothesis("summed-over-ga-and-world-size", 1, 1)
OTHER = Hypothesis("other", math.nan, math.nan)

NAMED: tuple[Hypothesis, ...] = (
    HEALTHY, SUMMED_GA, DIVIDED_GA, DIVIDED_GA2, SUMMED_WORLD, DIVIDED_WORLD, SUMMED_GA_WORLD,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """An exponent with its interval, and how it was come by."""

    value: float
    interval: Interval
    n_runs: int
    n_points: int
    axis: Axis
    method: str
    driver: str = "gradient_accumulation_steps"  # or "world_size"
    window: str = ""  # part of the training that was compared, and why

    def __repr__(self) -> str:
        low, high = self.interval.low, self.interval.high
        where = f"{count(self.n_runs, 'run')}, {count(self.n_points, 'point')}, by {self.axis.value}"
        return f"<Estimate {round(self.value, 3) + 0.0:.3f} [{low:.3f}, {high:.3f}] on {self.driver}: {where}>"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured fact: how much it speaks for each named hypothesis about one quantity."""

    kind: str  # file name in ga_audit/evidence
    role: Role  # LOSS or GRAD_NORM
    runs: tuple[str, ...]  # run ids
    log_likelihood: Mapping[Hypothesis, float]  # nats, HEALTHY = 0; may hold OTHER
    summary: str  # one sentence with its numbers
    source: str  # where the numbers were read
    estimate: Estimate | None = None
    further: tuple[Estimate, ...] = ()  # on the other settings in which the runs differ
    weak: bool = False  # may never convict alone
    equivalent: bool | None = None  # healthy within the margin (two one-sided tests); None = does not apply
    ties: tuple[tuple[Hypothesis, ...], ...] = ()  # hypotheses that this evidence cannot tell apart
    notes: tuple[Note, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)  # for --explain; JSON values only

    def __repr__(self) -> str:
        best = max(self.log_likelihood, key=lambda h: self.log_likelihood[h], default=None)
        favours = "" if best is None else f", favours {best.name} by {self.log_likelihood[best]:.1f} nats"
        weak = "weak, " if self.weak else ""
        return f"<Evidence {self.kind} of {self.role.value}: {weak}{count(len(self.runs), 'run')}{favours}>"


@dataclass(frozen=True, slots=True)
class Silence:
    """Evidence that could not speak, why, and what would let it."""

    kind: str
    why: str
    remedy: str
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What a fault does: exponents (ga, world) on logged loss, logged grad_norm and the real gradient.

    None = no exponent: not known, or, of the gradient of a known bug, that it points elsewhere than that of the whole batch.
    """

    loss: tuple[float, float] | None
    grad_norm: tuple[float, float] | None
    gradient: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class BugMatch:
    """A known bug held against a finding."""

    bug: str  # GA001
    title: str
    fit: str  # "matches", "outside-range", "affected-but-healthy", "possible"
    why: str
    fix: str
    retrain: str
    links: tuple[str, ...]
    prior_odds: float = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A hypothesis that the evidence supports."""

    id: str  # "loss-summed-over-ga"
    role: Role
    hypothesis: Hypothesis
    probability: float  # 0..1
    estimate: Estimate | None
    runs: tuple[str, ...]

    def __repr__(self) -> str:
        estimate = "" if self.estimate is None else f", exponent {round(self.estimate.value, 3) + 0.0:.3f}"
        return f"<Finding {self.id}: probability {self.probability:.3f}{estimate}, {count(len(self.runs), 'run')}>"


@dataclass(frozen=True, slots=True)
class ClipShare:
    """Share of optimizer steps whose gradient was clipped, as logged and as corrected."""

    run: str
    max_grad_norm: float
    as_logged: float  # 0..1
    as_corrected: float  # 0..1
    n_points: int


@dataclass(frozen=True, slots=True, eq=False)
class Diagnosis:
    """The verdict on one group of comparable runs, and all that led to it."""

    runs: tuple[Run, ...]
    verdict: Verdict
    reach: Reach
    headline: str  # one sentence
    reasons: tuple[str, ...]  # the two or three lines that decided
    posterior: Mapping[Role, Mapping[Hypothesis, float]]  # each role sums to 1
    findings: tuple[Finding, ...]
    evidence: tuple[Evidence, ...]
    silences: tuple[Silence, ...]
    bugs: tuple[BugMatch, ...]
    clipping: tuple[ClipShare, ...]
    retrain: str  # "Do I have to retrain?"
    differing: tuple[str, ...]  # settings that differ inside the group
    next_steps: tuple[str, ...]  # sentences; commands to paste stand on their own between backticks
    notes: tuple[Note, ...] = ()
    undecided: Mapping[Role, str] = field(default_factory=dict)  # why nothing is concluded about a quantity

    @property
    def exponents(self) -> tuple[tuple[Role, Estimate], ...]:
        """Every exponent that was estimated, with its quantity."""
        return tuple((p.role, e) for p in self.evidence if p.estimate is not None for e in (p.estimate, *p.further))

    def log_factor(self, run: Run, role: Role) -> float:
        """ln(logged / intended) that the findings give this run for a role; 0 without a finding."""
        return sum(f.hypothesis.log_factor(run) for f in self.findings if f.role is role and run.id in f.runs)


@dataclass(frozen=True, slots=True, eq=False)
class SetAside:
    """A run that was read and is not judged, and why."""

    run: Run
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """All diagnoses of one call, the runs that were set aside, and what could not be read."""

    diagnoses: tuple[Diagnosis, ...]
    failures: tuple[ReadFailure, ...]
    notes: tuple[Note, ...]
    version: str
    command: str | None = None  # what measured it anew, where `repro` did
    set_aside: tuple[SetAside, ...] = ()
    set_aside_remedy: str = ""  # one sentence; the command to paste stands between backticks
