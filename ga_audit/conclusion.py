"""Diagnosis and Audit: what is concluded about runs, as facts; `ga_audit.output.wording` has the sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ga_audit.finding import (
    HEALTHY,
    BugMatch,
    ClipShare,
    Estimate,
    Evidence,
    Finding,
    Hypothesis,
    Impact,
    NotApplicable,
    Verdict,
)
from ga_audit.grouping import Group
from ga_audit.run import Note, ReadFailure, Role, Run

if TYPE_CHECKING:
    pass


class UndecidedReason(StrEnum):
    """Why nothing is concluded about a quantity, or about a group."""

    UNEXPLAINED_FACTOR = "unexplained-factor"  # no power of GA or world size
    UNEXPLAINED_DIFFERENCE = "unexplained-difference"  # the same, between runs
    WIDE_INTERVAL = "wide-interval"
    ONLY_WEAK_EVIDENCE = "only-weak-evidence"
    ONE_WEAK_EVIDENCE = "one-weak-evidence"
    LOOK_ALIKE = "look-alike"  # a sum over something else would look the same
    TIED = "tied"
    BELOW_THRESHOLD = "below-threshold"
    UNKNOWN_GA = "unknown-ga"
    CONTRADICTED = "contradicted"  # the evidence on single runs contradicts the group
    RUNS_DIFFER = "runs-differ"  # all runs, by more than GA and chance explain
    ODD_RUNS = "odd-runs"  # some runs do not fit the others
    NOTHING_SCALES = "nothing-scales"  # one run of GA 1 on one rank
    NOT_APPLICABLE = "not-applicable"  # no evidence applies
    # the loss does not scale, no gradient was measured, and grad_norm ...
    NORM_UNDECIDED = "norm-undecided"
    NORM_WITHOUT_EVIDENCE = "norm-without-evidence"
    NORM_NOT_LOGGED = "norm-not-logged"
    NOTHING_TO_COMPARE = "nothing-to-compare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """Why nothing is concluded.

    Attributes
    ----------
    reason : the code; the other fields are its parameters.
    role : the quantity; None = the group.
    runs : names of the runs that keep it open.
    factors : of these runs, the factor over the level of the others, where they were compared.
    right : of these runs, the probability that each is not scaled by its own evidence, where known.
    hypotheses : the hypotheses between which it is open, with their probabilities, the likeliest first.
    single_run : the group is one run.
    leaning, confidence : what it likely is, and how likely, where more than the release says so.
    setting, value : a setting over which a sum would look the same, and its value.
    not_applicable : the evidence that would decide, and why it does not apply.
    """

    reason: UndecidedReason
    role: Role | None = None
    runs: tuple[str, ...] = ()
    factors: tuple[float, ...] = ()
    right: tuple[float, ...] = ()
    hypotheses: tuple[tuple[str, float], ...] = ()
    single_run: bool = False
    leaning: Verdict | None = None
    confidence: float | None = None
    setting: str = ""
    value: int | None = None
    not_applicable: NotApplicable | None = None


class RetrainAnswer(StrEnum):
    """The answer to "do I have to retrain?"."""

    NOT_SCALED = "not-scaled"
    UNSETTLED = "unsettled"  # whether anything is scaled
    LOG_ONLY = "log-only"
    UNKNOWN = "unknown"  # whether the gradients are affected
    GRADIENTS = "gradients"  # depends on clipping and the optimizer


class ClippingEffect(StrEnum):
    """What scaled gradients did to clipping."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    UNKNOWN = "unknown"


class OptimizerKind(StrEnum):
    """How the updates of an optimizer depend on the scale of the gradient."""

    INVARIANT = "invariant"  # nearly: eps and clipping apart
    DEPENDENT = "dependent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EffectiveRate:
    """The learning rate that a scaled gradient amounts to in one run."""

    run: str
    learning_rate: float
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """Whether to retrain, and what the answer depends on.

    Attributes
    ----------
    answer : the code; the other fields are set for `UNKNOWN` (`logs_grad_norm`) and `GRADIENTS`.
    logs_grad_norm : a run logs grad_norm.
    clipping, clipped : effect on clipping, and the run in which it changed most.
    optimizer, optimizers : kind of the optimizers, and their names, sorted.
    effective_rate : of the run that is furthest off, for an optimizer that depends on the scale.
    weight_decay : values of a decay that acted relative to the gradient, () = unknown; None = no such decay.
    """

    answer: RetrainAnswer
    logs_grad_norm: bool = False
    clipping: ClippingEffect = ClippingEffect.UNKNOWN
    clipped: ClipShare | None = None
    optimizer: OptimizerKind = OptimizerKind.UNKNOWN
    optimizers: tuple[str, ...] = ()
    effective_rate: EffectiveRate | None = None
    weight_decay: tuple[float, ...] | None = None


class Action(StrEnum):
    """What to do next."""

    FIX_BUG = "fix-bug"
    CHECK_BUG = "check-bug"
    WRITE_CORRECTED = "write-corrected"
    WRITE_REPORT = "write-report"
    MEASURE = "measure"
    MEASURE_INSTEAD = "measure-instead"
    MEASURE_GRADIENTS = "measure-gradients"
    GIVE_GA = "give-ga"
    RESOLVE = "resolve"  # what keeps evidence from applying
    LOG_MORE_STEPS = "log-more-steps"
    ADD_TO_TELL_APART = "add-to-tell-apart"
    ADD_OTHER_GA = "add-other-ga"
    ADD_OTHER_RANKS = "add-other-ranks"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """Something to do next.

    Attributes
    ----------
    action : the code; the other fields are its parameters.
    argv : the words of the command to run, where there is one.
    bug : to fix or to check.
    not_applicable : the evidence whose remedy it is.
    shown, of : of how many runs a command asks, and how many there are.
    points : that the shortest run logs.
    hypotheses, ga, world_size : the run that tells the hypotheses apart.
    """

    action: Action
    argv: tuple[str, ...] = ()
    bug: BugMatch | None = None
    not_applicable: NotApplicable | None = None
    shown: int = 0
    of: int = 0
    points: int = 0
    hypotheses: tuple[str, ...] = ()
    ga: int = 0
    world_size: int = 0


class Outcome(StrEnum):
    """What a measurement of the real gradient shows."""

    HEALTHY = "healthy"
    LOG_ONLY = "logging only"
    GRADIENTS = "gradients"
    SOME_STEPS = "gradients at some steps"
    UNEQUAL_WEIGHTS = "unequally weighted"

    @property
    def verdict(self) -> Verdict:
        """The verdict that follows."""
        return Verdict.HEALTHY if self is Outcome.HEALTHY else Verdict.SCALED

    @property
    def impact(self) -> Impact:
        """The impact that follows."""
        return {Outcome.HEALTHY: Impact.NONE, Outcome.LOG_ONLY: Impact.LOG_ONLY}.get(self, Impact.GRADIENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredOutcome:
    """A measurement, as an input of a diagnosis: it decides verdict, impact and known bugs.

    Attributes
    ----------
    outcome : what it shows.
    bugs : the known bugs that it has shown.
    logs_alone : the diagnosis of the logs without it.
    notes : on how the two compare.
    """

    outcome: Outcome
    bugs: tuple[BugMatch, ...]
    logs_alone: Diagnosis
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Diagnosis:
    """The verdict on one group of comparable runs, and the facts that led to it.

    Attributes
    ----------
    group : the runs.
    verdict, impact : what is concluded.
    posterior : over hypotheses, for each quantity with evidence; each sums to 1.
    findings : the hypotheses that the evidence supports.
    evidence, not_applicable : what was measured, and what does not apply.
    deciding : the strongest evidence, one piece a kind and quantity.
    undecided : why nothing is concluded about a quantity.
    why_inconclusive : why the verdict is inconclusive; empty otherwise.
    bugs : known bugs, the best fit first.
    clipping : share of clipped steps, as logged and as corrected.
    retrain, next_steps : what follows.
    measured : a measurement that decides in place of the logs.
    only_measured : the evidence on logged values does not give verdict and impact, the measured gradient does.
    """

    group: Group
    verdict: Verdict
    impact: Impact
    posterior: Mapping[Role, Mapping[Hypothesis, float]]
    findings: tuple[Finding, ...]
    evidence: tuple[Evidence, ...]
    not_applicable: tuple[NotApplicable, ...]
    deciding: tuple[Evidence, ...]
    undecided: Mapping[Role, Undecided] = field(default_factory=dict)
    why_inconclusive: tuple[Undecided, ...] = ()
    bugs: tuple[BugMatch, ...]
    clipping: tuple[ClipShare, ...]
    retrain: Retrain
    next_steps: tuple[NextStep, ...]
    notes: tuple[Note, ...] = ()
    measured: MeasuredOutcome | None = None
    only_measured: bool = False

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of the group."""
        return self.group.runs

    @property
    def likely(self) -> tuple[Verdict, float] | None:
        """What an inconclusive group likely is, with its probability: scaled where any quantity is, else healthy."""
        found = [(why.leaning, why.confidence) for why in self.why_inconclusive]
        known = [(leaning, p) for leaning, p in found if leaning is not None and p is not None]
        scaled = [p for leaning, p in known if leaning is Verdict.SCALED]
        if scaled:
            return Verdict.SCALED, max(scaled)
        if known and len(known) == len(found):
            return Verdict.HEALTHY, min(p for _, p in known)
        return None

    @property
    def confidence(self) -> float | None:
        """Probability of the verdict, or of what an inconclusive group likely is; None where neither is known."""
        if self.verdict is Verdict.INCONCLUSIVE:
            return None if self.likely is None else self.likely[1]
        if self.only_measured:
            return None
        if self.findings:
            return max(finding.probability for finding in self.findings)
        healthy = [p[HEALTHY] for role, p in self.posterior.items() if role not in self.undecided]
        return min(healthy, default=None)

    @property
    def exponents(self) -> tuple[tuple[Role, Estimate], ...]:
        """Every exponent that was estimated, with its quantity."""
        return tuple((p.role, e) for p in self.evidence if p.estimate is not None for e in (p.estimate, *p.further))

    def hypothesis(self, role: Role) -> Hypothesis | None:
        """The hypothesis found for a quantity."""
        return next((f.hypothesis for f in self.findings if f.role is role), None)

    def log_factor(self, run: Run, role: Role) -> float:
        """ln(logged / intended) that the findings give this run for a role; 0 without a finding."""
        return sum(f.hypothesis.log_factor(run) for f in self.findings if f.role is role and run.id in f.runs)


@dataclass(frozen=True, slots=True, eq=False)
class SetAside:
    """A run that was read and is not judged, and why."""

    run: Run
    reason: UndecidedReason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """All diagnoses of one call, the runs that were set aside, and what could not be read.

    Attributes
    ----------
    diagnoses : one for each group of comparable runs.
    failures : what could not be read.
    notes : on the call as a whole.
    version : of ga-audit.
    command : the words of the command that measured it, where `repro` did.
    set_aside, ask : runs that are not judged, and the command that supplies what is missing.
    """

    diagnoses: tuple[Diagnosis, ...]
    failures: tuple[ReadFailure, ...] = ()
    notes: tuple[Note, ...] = ()
    version: str
    command: tuple[str, ...] | None = None
    set_aside: tuple[SetAside, ...] = ()
    ask: NextStep | None = None
