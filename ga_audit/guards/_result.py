"""What a guard measures and concludes: plain values, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ga_audit.errors import AuditError


class Unit(StrEnum):
    """What the reference loss is a mean over."""

    SHIFTED_TOKENS = "predicted tokens"  # labels[:, 1:] other than -100
    TOKENS = "labels"  # labels other than -100, not shifted
    SAMPLES = "samples"
    GIVEN = "items counted by the caller"


class Fault(StrEnum):
    """What is wrong with the accumulated gradient or the logged loss."""

    SUMMED = "summed"  # over the micro-batches of a step
    DIVIDED_TWICE = "divided-twice"  # by the number of micro-batches
    WORLD_SIZE = "world-size"  # multiplied or divided by the number of ranks
    UNEQUAL_WEIGHTS = "unequal-weights"  # micro-batches count alike although they hold unequal numbers of tokens
    LOST_MICRO_BATCHES = "lost-micro-batches"
    RANKS_APART = "ranks-apart"  # each rank has a gradient of its own
    STALE = "stale-gradient"  # the gradients of an earlier step were not set to zero
    ROTATED = "rotated"  # no weighted sum of the micro-batches' gradients
    LOGGED_LOSS = "logged-loss"  # the gradient is right, the logged loss is not
    LOGGED_GRAD_NORM = "logged-grad-norm"  # the gradient is right, the logged norm is not
    FACTOR = "factor"  # uniform, and no power of GA or the number of ranks


class Reason(StrEnum):
    """Why a guard does not measure."""

    NO_TRAINER = "no-trainer"
    NOTHING_ACCUMULATED = "nothing-accumulated"
    NO_LOSS = "no-loss"
    NO_MICRO_BATCH = "no-micro-batch"
    NOT_REPEATABLE = "not-repeatable"
    WEIGHTS_CHANGE = "weights-change"
    OPTIMIZER_IN_BACKWARD = "optimizer-in-backward"
    SEVERAL_LOSSES = "several-losses"
    OWN_NORMALISATION = "own-normalisation"
    DATA_PARALLEL = "data-parallel"
    SHARDED = "sharded"
    DEEPSPEED = "deepspeed"
    NOT_FINITE = "not-finite"
    CLIPPED = "clipped"
    OUT_OF_MEMORY = "out-of-memory"
    OTHER_RANK = "other-rank"
    ERROR = "error"


class CannotMeasure(Exception):
    """The guard cannot measure this training, for a typed reason."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class GradientFault(AuditError):
    """Raised with `on_fault="raise"`: the gradient or the logged loss is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One optimizer step: what the optimizer receives against the gradient of the whole batch.

    Factors are measured / reference: 1 is right. None: not measured.
    """

    step: int
    micro_batches: int  # on this rank
    world_size: int
    loss_factor: float | None
    grad_factor: float | None  # projection of the accumulated gradient on the reference
    cosine: float | None
    relative_error: float | None  # |accumulated - grad_factor * reference| / |accumulated|
    reference_loss: float | None
    reference_norm: float | None
    accumulated_norm: float | None
    grad_norm_factor: float | None = None  # of the norm that the trainer logs
    received_norm: float | None = None  # by the optimizer, after clipping
    max_grad_norm: float | None = None
    weights: tuple[float, ...] | None = None  # of each micro-batch of all ranks, relative to the right one
    span_error: float | None = None  # what no weights explain, relative
    counts: tuple[float, ...] = ()  # items in each micro-batch of all ranks
    unit: Unit = Unit.SAMPLES
    verified: bool = False  # whether the unit was confirmed from the loss itself
    count_ratio: float = 1.0  # predicted tokens / labels
    share: float = 1.0  # of the trainable parameters that were compared
    tolerance: float = 1e-3  # relative error that arithmetic explains
    stale: bool = False  # whether a gradient was there before the first micro-batch
    ranks_agree: bool = True
    has_labels: bool = True  # whether the micro-batches hold labels under that name

    @property
    def clipped(self) -> bool | None:
        """Whether the gradient as it is exceeds max_grad_norm."""
        return None if self.max_grad_norm is None or self.accumulated_norm is None else (
            self.accumulated_norm > self.max_grad_norm
        )  # fmt: skip

    @property
    def would_be_clipped(self) -> bool | None:
        """Whether the right gradient exceeds max_grad_norm."""
        return None if self.max_grad_norm is None or self.reference_norm is None else (
            self.reference_norm > self.max_grad_norm
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a measurement says; `fault` None: healthy as far as it was measured."""

    fault: Fault | None
    gradient: tuple[int, int] | None = None  # exponents on (GA, ranks); None: no such power, or not measured
    loss: tuple[int, int] | None = None
    micro_batches: tuple[int, ...] = ()  # lost ones, counted from 0
    miscounted: bool = False  # divided by all labels, where one of each sequence is not predicted
    undecided: bool = False  # the weights differ, and what the loss is a mean over is not known
