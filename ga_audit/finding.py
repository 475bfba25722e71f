"""Hypothesis, Evidence, Silence, Finding, Diagnosis, Audit: what we conclude, as small frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ga_audit.run import Note, ReadFailure, Role, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


class Fit(StrEnum):
    """How well a known bug explains what was found."""

    MATCHES = "matches"
    POSSIBLE = "possible"
    AFFECTED_BUT_HEALTHY = "affected-but-healthy"
    OUTSIDE_RANGE = "outside-range"


class Basis(StrEnum):
    """What a match with a known bug rests on."""

    SIGNATURE = "signature"  # the exponents that were found are those of the bug
    RELEASE = "release"  # the release alone
    MEASUREMENT = "measurement"  # the gradient was measured on this stack


class RetrainRule(StrEnum):
    """Whether a training under a known bug has to be repeated: the cases of the catalogue."""

    LOG_ONLY = "log-only"
    SUMMED_OVER_GA = "summed-over-ga"
    SUMMED_OVER_DEVICES = "summed-over-devices"
    SCALED_BY_GENERATIONS = "scaled-by-generations"
    DIVIDED_BY_GA = "divided-by-ga"
    DIVIDED_BY_WORLD_SIZE = "divided-by-world-size"
    DIVIDED_OR_PART_OF_BATCH = "divided-or-part-of-batch"
    RANKS_DIVERGED = "ranks-diverged"
    LAST_MICRO_BATCH_ONLY = "last-micro-batch-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class BugMatch:
    """A known bug held against a finding.

    Attributes
    ----------
    bug, title : id (GA001) and title of the entry.
    fit, basis : how well the bug explains the runs, and what says so.
    package, releases_held : the package of the bug, and the releases of it in the runs.
    affected : PEP 440 specifier of the row that fits; of every row, joined by `; `, where none does.
    open : the conditions of that row that the logs leave open, each with the value that it needs.
    fix : what to do on these releases, one sentence.
    retrain : whether the training has to be repeated.
    links : reports and fixes.
    """

    bug: str
    title: str
    fit: Fit
    basis: Basis
    package: str
    releases_held: tuple[str, ...]
    affected: str
    open: tuple[tuple[str, str], ...]
    fix: str
    retrain: RetrainRule
    links: tuple[str, ...]


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

    def plot(self, kind: str = "curves", **options: Any) -> Figure:
        """Draw one of the figures of `ga_audit.plots`."""
        import importlib

        figure: Figure = importlib.import_module("ga_audit.plots").draw(self, kind, **options)
        return figure

    def _repr_markdown_(self) -> str:
        return self._shown_as("markdown")

    def _repr_html_(self) -> str:
        return self._shown_as("html_fragment")

    def _shown_as(self, how: str) -> str:
        # by name at call time: the value knows nothing of its renderers, a notebook still shows it
        import importlib

        text: str = getattr(importlib.import_module("ga_audit.output._notebook"), how)(self)
        return text


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
