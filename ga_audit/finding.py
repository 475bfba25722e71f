"""Hypothesis, Evidence, Silence, Finding, BugMatch: what evidence says, as small frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ga_audit.run import Note, Role, Run


class Verdict(StrEnum):
    """About a group of runs; never by default."""

    HEALTHY = "healthy"
    SCALED = "scaled"
    INCONCLUSIVE = "inconclusive"


class Impact(StrEnum):
    """What a fault affects, as far as logs can tell."""

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


class Missing(StrEnum):
    """What only the user can supply."""

    GA = "gradient_accumulation_steps"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Silence:
    """Evidence that could not speak, why, and what would let it."""

    kind: str
    why: str
    remedy: str
    role: Role | None = None
    missing: Missing | None = None  # what the remedy asks the user for


@dataclass(frozen=True, slots=True)
class Signature:
    """What a fault does: exponents (ga, world) on logged loss, logged grad_norm and the real gradient.

    None = no exponent: not known, or, of the gradient of a known bug, that it points elsewhere than that of the whole batch.
    """

    loss: tuple[float, float] | None
    grad_norm: tuple[float, float] | None
    gradient: tuple[float, float] | None


class Fit(StrEnum):
    """How a known bug fits what was found."""

    MATCHES = "matches"  # release, conditions and signature agree
    POSSIBLE = "possible"  # a condition, or the verdict, is open
    HEALTHY = "affected-but-healthy"  # the release is affected and the logs are healthy
    OUTSIDE_RANGE = "outside-range"  # the signature agrees, the release does not


@dataclass(frozen=True, slots=True, kw_only=True)
class BugMatch:
    """A known bug compared with a diagnosis.

    Attributes
    ----------
    bug, title, fix, retrain, links : of the entry; `fix` leaves out what does not help on the releases held.
    fit : how it fits.
    package, releases_held : the package of the bug and its releases in the runs.
    affected : releases of the row that fits, PEP 440 specifiers; of all rows where none holds.
    open : conditions of the row that the logs leave open, each with the value that it needs.
    measured : a measurement has shown the bug on these releases.
    """

    bug: str
    fit: Fit
    package: str
    releases_held: tuple[str, ...]
    affected: str
    open: tuple[tuple[str, str], ...] = ()
    title: str
    fix: str
    retrain: str
    links: tuple[str, ...]
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A hypothesis that the evidence supports."""

    id: str  # "loss-summed-over-ga"
    role: Role
    hypothesis: Hypothesis
    probability: float  # 0..1
    estimate: Estimate | None
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClipShare:
    """Share of optimizer steps whose gradient was clipped, as logged and as corrected."""

    run: str
    max_grad_norm: float
    as_logged: float  # 0..1
    as_corrected: float  # 0..1
    n_points: int
