"""Role, Series, Setting, RunSettings, Run, Note, ReadFailure: what was logged, nothing that we conclude."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ga_audit.errors import AuditError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
_UNUSED = frozenset({"no-role", "not-a-number"})  # notes on a series that was seen and not read
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Role(StrEnum):
    """What a logged series measures."""

    LOSS = "loss"  # training loss, nats per token unless a note says otherwise
    EVAL_LOSS = "eval_loss"
    GRAD_NORM = "grad_norm"  # global gradient norm of one optimizer step
    LEARNING_RATE = "learning_rate"
    ENTROPY = "entropy"
    TOKEN_ACCURACY = "token_accuracy"  # noqa: S105 (an accuracy, not a secret)
    PERPLEXITY = "perplexity"
    SUMMARY_LOSS = "summary_loss"  # the trainer's closing `train_loss`: mean over the whole run
    EPOCH = "epoch"
    SAMPLES_SEEN = "samples_seen"
    TOKENS_SEEN = "tokens_seen"


class Counted(StrEnum):
    """What the position of a series counts."""

    OPTIMIZER_STEP = "optimizer step"
    MICRO_BATCH = "micro-batch"
    SAMPLES = "samples"
    TOKENS = "tokens"
    EPOCH = "epoch"
    ORDER = "order"  # numbered by us, in the order found: the log holds no counter


class Trust(IntEnum):
    """How far a setting is to be believed; the higher wins."""

    GUESSED = 0  # from the run's name
    DERIVED = 1  # computed from counters of the log
    SIBLING = 2  # a file beside the log
    RECORDED = 3  # the log itself
    GIVEN = 4  # the user


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A value of a setting and where it came from."""

    value: T
    source: str  # "config: gradient_accumulation_steps", "derived: 524288 / (32 x 2048 x 1)"
    trust: Trust
    per_process: bool = False  # of a process, which may split it over several devices


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """A setting that may change in mid-run (GA after a resume)."""

    from_step: IntArray  # (k,), ascending, first 0
    value: IntArray  # (k,)

    @classmethod
    def constant(cls, value: int) -> Schedule:
        """The same value from the first step on."""
        return cls(np.zeros(1, np.int64), np.array([value], np.int64))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """`8`, or `2,8@500`: 2 to begin with, 8 from optimizer step 500 on.

        Raises
        ------
        ValueError
            another form, a value below 1, or steps that do not ascend.
        """
        first, *later = text.split(",")
        pairs = [(0, int(first))]
        for part in later:
            value, sign, step = part.partition("@")
            if not sign:
                raise ValueError(f"{part!r} is not N@STEP")
            pairs.append((int(step), int(value)))
        steps, values = zip(*pairs, strict=True)
        if min(values) < 1 or any(a >= b for a, b in pairwise(steps)):
            raise ValueError("values are positive and steps ascend")
        return cls(np.array(steps, np.int64), np.array(values, np.int64))

    def at(self, step: IntArray) -> IntArray:
        """Value in force at each optimizer step (n,) -> (n,)."""
        index = np.searchsorted(self.from_step, step, side="right") - 1
        return self.value[np.maximum(index, 0)]

    @property
    def is_constant(self) -> bool:
        """Whether one value holds throughout."""
        return bool(np.all(self.value == self.value[0]))

    @property
    def first(self) -> int:
        """The value at the first step."""
        return int(self.value[0])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Schedule)
            and np.array_equal(self.from_step, other.from_step)
            and np.array_equal(self.value, other.value)
        )

    def __hash__(self) -> int:
        return hash((self.from_step.tobytes(), self.value.tobytes()))

    def __str__(self) -> str:
        if self.is_constant:
            return str(self.first)
        return ", ".join(f"{v} from step {s}" for s, v in zip(self.from_step, self.value, strict=True))


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What is known of how a run was trained; None = unknown."""

    gradient_accumulation_steps: Setting[Schedule] | None = None
    micro_batch_size: Setting[int] | None = None
    world_size: Setting[int] | None = None
    seed: Setting[int] | None = None
    logging_steps: Setting[int] | None = None
    vocab_size: Setting[int] | None = None
    learning_rate: Setting[float] | None = None
    max_grad_norm: Setting[float] | None = None
    optimizer: Setting[str] | None = None
    model: Setting[str] | None = None
    dataset: Setting[str] | None = None
    engine: Setting[str] | None = None  # "deepspeed", "fsdp", "ddp", ...
    packages: Mapping[str, Setting[str]] = field(default_factory=dict)  # name -> release
    other: Mapping[str, Setting[Any]] = field(default_factory=dict)  # trainer class, label smoothing, max_steps, ...
    conflicts: tuple[tuple[str, Setting[Any], Setting[Any]], ...] = ()  # (name, believed, contradicted)

    @property
    def ga(self) -> int | None:
        """GA at the first step, or None."""
        return None if self.gradient_accumulation_steps is None else self.gradient_accumulation_steps.value.first

    @property
    def ranks(self) -> int:
        """world_size; 1 where it is unknown."""
        return 1 if self.world_size is None else self.world_size.value

    @property
    def effective_batch_size(self) -> int | None:
        """micro_batch_size x GA x world_size in sequences; world_size counts as 1 where it is unknown."""
        if self.micro_batch_size is None or self.ga is None:
            return None
        return self.micro_batch_size.value * self.ga * self.ranks


class NoteCode(StrEnum):
    """What a note on a log says; `output.wording.notes` has the sentence of each."""

    NO_ROLE = "no-role"
    SECOND_NAME = "second-name"
    NOT_A_NUMBER = "not-a-number"
    NO_STEP = "no-step"  # points or rows without a position are left out
    NUMBERED = "numbered"  # no point has a position
    REPEATED_STEPS = "repeated-steps"
    COUNTER_RESTARTS = "counter-restarts"
    DERIVED_STEP = "derived-step"
    MICRO_BATCH_STEPS = "micro-batch-steps"
    SEVERAL_RUNS = "several-runs"
    COPY = "copy"
    CHECKPOINTS_DIFFER = "checkpoints-differ"
    GA_FROM_NAME = "ga-from-name"
    UNFINISHED = "unfinished"
    INCOMPLETE = "incomplete"
    UNLOGGED_END = "unlogged-end"
    RAGGED_ROWS = "ragged-rows"
    SHORT_COLUMNS = "short-columns"
    BROKEN_LINE = "broken-line"
    BROKEN_RECORD = "broken-record"
    TRUNCATED = "truncated"
    WRONG_CHECKSUM = "wrong-checksum"
    SKIPPED = "skipped"
    GIT_LFS_POINTER = "git-lfs-pointer"


Fact: TypeAlias = str | int | float | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A warning, as data, on the thing that it concerns."""

    code: NoteCode | str
    message: str = ""  # of a code that has no sentence in `output.wording.notes`
    where: str | None = None  # file:line, record, byte, the name of a series
    count: int = 1
    facts: Mapping[str, Fact] = field(default_factory=dict, hash=False)  # what the sentence says


@dataclass(frozen=True, slots=True)
class Source:
    """One log of a training: which format read it, and where it lies."""

    format: str  # leaf name in ga_audit.logs.formats
    path: str  # file or directory as given, "-" for standard input, or a wandb:// address
    part: str = ""  # which run of the log, where one log holds several and the names of the series do not say


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Series:
    """One logged quantity of a run over the positions at which it was logged."""

    role: Role
    name: str  # as logged
    format: str  # leaf name in ga_audit.logs.formats
    source: str  # path of the file
    position: IntArray  # (n,), strictly increasing; `counted` says what it counts
    value: FloatArray  # (n,), as logged; NaN is kept
    counted: Counted = Counted.OPTIMIZER_STEP
    derived: bool = False  # the position was computed from another recorded counter
    window: int | None = None  # optimizer steps that one point averages over; None = unknown
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.position)

    def optimizer_steps(self, gradient_accumulation_steps: int | None) -> FloatArray | None:
        """Positions (n,) in optimizer steps; None where the log does not say which steps they are."""
        if self.counted is Counted.OPTIMIZER_STEP:
            return self.position.astype(np.float64)
        if self.counted is Counted.MICRO_BATCH and gradient_accumulation_steps is not None:
            steps: FloatArray = self.position / float(gradient_accumulation_steps)
            return steps
        return None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run: "resume", "gap", "ga-change"."""

    kind: str
    step: int
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One training as its logs tell it. Console, W&B and TensorBoard of one training are views of one Run."""

    id: str  # unique among the runs of one call
    name: str  # short, for people
    training: str  # names the training that produced the log; equal = the same training
    settings: RunSettings
    series: tuple[Series, ...]
    sources: tuple[Source, ...] = ()
    events: tuple[Event, ...] = ()
    notes: tuple[Note, ...] = ()
    left_out: tuple[Note, ...] = ()  # series that were seen and not used, and why
    corrected_by: str | None = None  # provenance, where ga-audit wrote the log itself
    private: tuple[str, ...] = ()  # people and machines that the log names, to be kept out of what is posted

    @property
    def names(self) -> frozenset[str]:
        """Names of all series as logged, also of those that have no role here."""
        unused = (note.where for note in self.left_out if note.code in _UNUSED and note.where)
        return frozenset((*(series.name for series in self.series), *unused))

    def views(self, role: Role) -> tuple[Series, ...]:
        """Every sink's series of a role: recorded positions before those that we numbered, then the longest first."""
        found = (s for s in self.series if s.role == role)
        return tuple(sorted(found, key=lambda s: (s.counted is Counted.ORDER, -len(s))))

    def get(self, role: Role) -> Series | None:
        """The series of a role from the best sink (most points), or None."""
        found = self.views(role)
        return found[0] if found else None

    def to_frame(self) -> pd.DataFrame:
        """Long table with the columns step, role, name, sink, value."""
        import pandas as pd

        if not self.series:
            return pd.DataFrame({"step": [], "role": [], "name": [], "sink": [], "value": []})
        parts = [
            pd.DataFrame({"step": s.position, "role": s.role.value, "name": s.name, "sink": s.format, "value": s.value})
            for s in self.series
        ]
        return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """A log that could not be read, in the stream of those that could."""

    source: str
    error: AuditError
