"""Hypothesis, Evidence, NotApplicable, Finding, BugMatch: what evidence says, as small frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from ga_audit._columns import count
from ga_audit.run import FloatArray, Note, Role, Run


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


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """How the logged value may differ from the intended one: intended x GA**ga x world_size**world.

    Hypotheses are equal when their fields are, NaN exponents (`OTHER`) included.
    """

    name: str
    ga: float
    world: float
    only: frozenset[str] | None = None  # ids of the runs it is about; None = all

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hypothesis) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.name, self.only))

    def _key(self) -> tuple[object, ...]:
        # NaN differs from itself, and its hash from process to process
        exponents = (None if math.isnan(x) else x for x in (self.ga, self.world))
        return (self.name, *exponents, self.only)

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


class Method(StrEnum):
    """How an exponent was estimated."""

    RUN_LEVELS = "run-levels"  # contrast of robust levels, random run effect
    RELEASE_MEANS = "release-means"  # contrast of the mean levels of the runs of each release


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the training that was compared: the first `used` of `bins` bins."""

    used: int
    bins: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """An exponent with its interval, and how it was estimated."""

    value: float
    interval: Interval
    n_runs: int
    n_points: int
    axis: Axis
    method: Method
    driver: str = "gradient_accumulation_steps"  # or "world_size", or a release
    window: Window | None = None

    def __repr__(self) -> str:
        low, high = self.interval.low, self.interval.high
        where = f"{count(self.n_runs, 'run')}, {count(self.n_points, 'point')}, by {self.axis.value}"
        return f"<Estimate {round(self.value, 3) + 0.0:.3f} [{low:.3f}, {high:.3f}] on {self.driver}: {where}>"


_CERTAIN = 0.95  # probability from which matched runs are called so


class Relation(StrEnum):
    """The closest relation of runs that is certain; it sets how far two correct runs may differ."""

    MATCHED = "matched runs"
    MATCHED_OR_OTHER_SEED = "matched runs or another seed"
    SAME_DATA = "same data"
    NOT_RECORDED = "not recorded"
    DIFFERENT = "different data or model"


@dataclass(frozen=True, slots=True)
class Relatedness:
    """What runs have in common: True, False, or None where the logs do not record it."""

    data: bool | None
    model: bool | None
    seed: bool | None
    batch: bool | None  # effective batch size
    learning_rate: bool | None
    shared_noise: bool | None = None  # measured: the curves jump together, as only the same data in the same order do
    matched: float = 0.0  # measured: probability, by the agreement of the curves, of the same batches in the same order
    scatter: float = 0.0  # measured: sd of the log ratio of two runs over the bins

    @property
    def relation(self) -> Relation:
        """The closest relation that is certain, by settings or by the agreement of the curves."""
        return Relation.MATCHED if self.matched >= _CERTAIN else self.recorded

    @property
    def recorded(self) -> Relation:
        """The closest relation that the settings, and noise in common, make certain."""
        if self.data is False or self.model is False:
            return Relation.DIFFERENT
        known = self.data and self.model
        if self.shared_noise and self.batch is not None:
            return Relation.MATCHED if self.batch and self.learning_rate is not False else Relation.SAME_DATA
        if not (known or self.shared_noise) or self.learning_rate is None:
            return Relation.NOT_RECORDED
        if self.batch and self.learning_rate and self.seed is not False and self.shared_noise is not False:
            return Relation.MATCHED if self.seed else Relation.MATCHED_OR_OTHER_SEED
        return Relation.SAME_DATA


class AxisReason(StrEnum):
    """Why runs were aligned on an axis."""

    SAME_BATCH = "same-batch"
    BATCH_UNKNOWN = "batch-unknown"
    LESS_DRIFT = "less-drift"  # the ratio drifts less on it than on the other axis


@dataclass(frozen=True, slots=True)
class SettlingRun:
    """GA and world size of one further run that would tell tied hypotheses apart."""

    tied: tuple[Hypothesis, ...]
    ga: int
    world_size: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Comparison:
    """The numbers of a comparison between n runs."""

    runs: tuple[str, ...]  # ids
    level: FloatArray  # (n,) natural log; only contrasts have a meaning
    covariance: FloatArray  # (n, n) of `level`, noise inside the runs only
    run_effect: float  # posterior sd of the contrast of two runs
    extra: float  # sd of a contrast from the choice of window and axis
    log_ga: FloatArray  # (n,)
    log_world: FloatArray  # (n,), 0 where no run records it
    axis: Axis
    axis_reason: AxisReason
    window: Window
    relatedness: Relatedness
    settling: tuple[SettlingRun, ...] = ()


Fact: TypeAlias = "str | int | float | bool | tuple[Fact, ...] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One measured fact: how far it supports each named hypothesis about one quantity."""

    kind: str  # file name in ga_audit/evidence
    role: Role  # LOSS or GRAD_NORM
    runs: tuple[str, ...]  # run ids
    log_likelihood: Mapping[Hypothesis, float]  # nats, HEALTHY = 0; may hold OTHER
    facts: Mapping[str, Fact]  # what `output.wording.evidence` makes a sentence of; runs by id
    source: str  # where the numbers were read
    estimate: Estimate | None = None
    further: tuple[Estimate, ...] = ()  # on the other settings in which the runs differ
    weak: bool = False  # never decides alone
    equivalent: bool | None = None  # healthy within the margin (two one-sided tests); None = does not apply
    ties: tuple[tuple[Hypothesis, ...], ...] = ()  # hypotheses that this evidence cannot tell apart
    comparison: Comparison | None = None  # between runs
    notes: tuple[Note, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)  # for --explain alone; JSON values

    def __repr__(self) -> str:
        best = max(self.log_likelihood, key=lambda h: self.log_likelihood[h], default=None)
        favours = "" if best is None else f", favours {best.name} by {self.log_likelihood[best]:.1f} nats"
        weak = "weak, " if self.weak else ""
        return f"<Evidence {self.kind} of {self.role.value}: {weak}{count(len(self.runs), 'run')}{favours}>"


class Reason(StrEnum):
    """Why a kind of evidence does not apply."""

    # settings that are not recorded
    GA_UNKNOWN = "ga-unknown"
    VOCABULARY_UNKNOWN = "vocabulary-unknown"
    OBJECTIVE_UNKNOWN = "objective-unknown"
    RELEASE_UNKNOWN = "release-unknown"
    RELEASE_ELSEWHERE = "release-elsewhere"  # known of packages that do not compute the loss
    # quantities that are not logged
    NOT_LOGGED = "not-logged"
    NO_EVAL_LOSS = "no-eval-loss"
    NO_TOKEN_ACCURACY = "no-token-accuracy"  # noqa: S105 (an accuracy, not a secret)
    NO_ENTROPY = "no-entropy"
    NO_EPOCHS = "no-epochs"
    NO_SUMMARY_LOSS = "no-summary-loss"
    NO_COMMON_STEP = "no-common-step"
    ONE_LOG = "one-log"
    # values that cannot be used
    NOT_POSITIVE = "not-positive"
    NO_POSITIVE_VALUE = "no-positive-value"
    LOGGED_AFTER_CLIPPING = "logged-after-clipping"
    SUMMARY_AFTER_RESUME = "summary-after-resume"
    TOO_FEW_POINTS = "too-few-points"
    TOO_NOISY = "too-noisy"
    LATE_START = "late-start"
    STEPS_UNKNOWN = "steps-unknown"
    MIXED_COUNTERS = "mixed-counters"
    START_UNKNOWN = "start-unknown"
    WEIGHTS_UNKNOWN = "weights-unknown"
    # nothing differs
    TOO_FEW_RUNS = "too-few-runs"
    NO_COMMON_RANGE = "no-common-range"
    NO_VARIATION = "no-variation"
    GA_CONSTANT = "ga-constant"
    GA_IS_ONE = "ga-is-one"
    ONE_RUN_PER_RELEASE = "one-run-per-release"
    SAME_RELEASE = "same-release"
    RELEASES_NOT_COMPARABLE = "releases-not-comparable"
    NO_SHORT_STEP = "no-short-step"
    # the observation agrees with every hypothesis
    FITS_ALL = "fits-all"
    LOGS_AGREE = "logs-agree"
    SUMMARY_AGREES = "summary-agrees"
    COPY_OF_LOSS = "copy-of-loss"
    LEARNED_BEFORE = "learned-before"
    # another objective
    NOT_A_LANGUAGE_MODEL = "not-a-language-model"
    NO_KNOWN_START = "no-known-start"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """A kind of evidence that does not apply to runs, and why."""

    kind: str
    reason: Reason
    role: Role | None = None
    runs: tuple[str, ...] = ()  # run ids
    facts: Mapping[str, Fact] = field(default_factory=dict)


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
    retrain: RetrainRule
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
