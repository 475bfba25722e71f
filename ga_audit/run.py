"""Role, Series, Setting, RunSettings, Run, Note, ReadFailure: what was logged, nothing that we conclude."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ga_audit import _columns
from ga_audit._notes import Fact as Fact
from ga_audit._notes import Note as Note
from ga_audit._notes import NoteCode as NoteCode
from ga_audit._settings import IntArray as IntArray
from ga_audit._settings import PlainSettings as PlainSettings
from ga_audit._settings import Schedule as Schedule
from ga_audit._settings import schedule
from ga_audit.errors import AuditError, WrongUsage

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
_UNUSED = frozenset({"no-role", "not-a-number"})  # notes on a series that was seen and not read
_MEMORY = "memory"  # format and source of what was never a log
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
    MARGIN = "margin"  # of rewards: chosen minus rejected


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

    def __post_init__(self) -> None:
        for name in ("gradient_accumulation_steps", "micro_batch_size", "world_size", "seed", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Setting):
                raise TypeError(f"{name} is a Setting, not {value!r}; RunSettings.given({name}={value!r}) makes one")

    @classmethod
    def given(
        cls, *, gradient_accumulation_steps: int | str | Schedule | None = None, **plain: Unpack[PlainSettings]
    ) -> RunSettings:
        """Settings from plain values, marked as given by the user.

        Raises
        ------
        WrongUsage
            GA, micro-batch size or world size is not a positive whole number.

        Examples
        --------
        >>> RunSettings.given(gradient_accumulation_steps=8, micro_batch_size=2).effective_batch_size
        16
        """
        counts = (("micro_batch_size", plain.get("micro_batch_size")), ("world_size", plain.get("world_size")))
        for name, count in counts:
            if count is not None and not _columns.is_count(count):
                raise WrongUsage(f"{name} is a positive whole number, not {count!r}")
        packages = plain.pop("packages", {})
        return cls(
            gradient_accumulation_steps=_given("gradient_accumulation_steps", schedule(gradient_accumulation_steps)),
            packages={name: Setting(release, f"given: {name}", Trust.GIVEN) for name, release in packages.items()},
            **{name: _given(name, value) for name, value in plain.items()},  # type: ignore[arg-type]
        )

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


def _given(name: str, value: T | None) -> Setting[T] | None:
    return None if value is None else Setting(value, f"given: {name}", Trust.GIVEN)


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

    def __repr__(self) -> str:
        if not len(self):
            return f"<Series {self.role.value} {self.name!r}: no points>"
        span = f"{self.counted.value} {self.position[0]} to {self.position[-1]}"
        ends = f"{span}, {self.value[0]:.4g} to {self.value[-1]:.4g}"
        return f"<Series {self.role.value} {self.name!r}: {_columns.count(len(self), 'point')}, {ends} ({self.format})>"

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

    @classmethod
    def from_arrays(
        cls,
        *,
        loss: ArrayLike | None = None,
        grad_norm: ArrayLike | None = None,
        eval_loss: ArrayLike | None = None,
        step: ArrayLike | None = None,
        eval_step: ArrayLike | None = None,
        ga: int | str | Schedule | None = None,
        name: str = "run",
        **settings: Unpack[PlainSettings],
    ) -> Run:
        """A run from sequences of logged values.

        Parameters
        ----------
        loss, grad_norm : array_like of shape (n,)
            Values as logged; NaN is kept.
        eval_loss : array_like of shape (m,)
            Values as logged.
        step : array_like of shape (n,), optional
            Optimizer steps of `loss` and `grad_norm`, ascending. Without it the points are numbered from 1.
        eval_step : array_like of shape (m,), optional
            Optimizer steps of `eval_loss`; `step` where it is not given and the lengths agree.
        ga : int, str or Schedule, optional
            gradient_accumulation_steps: 8, or "2,8@500" for a GA that changes at step 500.
        name : str
            Names the run in results; runs of one audit need names of their own.
        **settings
            What else is known of the run, see `PlainSettings`.

        Raises
        ------
        WrongUsage
            No values, values that are not numbers, or steps that do not fit.

        Examples
        --------
        >>> Run.from_arrays(loss=[2.5, 2.1, 1.9], ga=8, name="ga8")
        <Run 'ga8': GA 8; loss (3 points)>
        """
        if eval_step is None and eval_loss is not None and np.size(step) == np.size(eval_loss):  # type: ignore[arg-type]
            eval_step = step
        columns = {
            role: (role.value, _columns.from_sequence(values, at, role.value), at is not None)
            for role, values, at in (
                (Role.LOSS, loss, step),
                (Role.GRAD_NORM, grad_norm, step),
                (Role.EVAL_LOSS, eval_loss, eval_step),
            )
            if values is not None
        }
        if not columns:
            raise WrongUsage("there are no values", remedy="Give loss=..., grad_norm=... or eval_loss=...")
        known = RunSettings.given(gradient_accumulation_steps=ga, **settings)
        return cls(name, name, name, known, _in_memory(columns), (Source(_MEMORY, name),))

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        ga: int | str | Schedule | None = None,
        name: str = "run",
        step: str | None = None,
        loss: str | None = None,
        grad_norm: str | None = None,
        eval_loss: str | None = None,
        **settings: Unpack[PlainSettings],
    ) -> Run:
        """A run from a table with one row per logged step.

        Parameters
        ----------
        frame : pandas.DataFrame
            Any index. A missing value (NaN) in a column means that the row did not log it.
        ga : int, str or Schedule, optional
            gradient_accumulation_steps: 8, or "2,8@500" for a GA that changes at step 500.
        name : str
            Names the run in results; runs of one audit need names of their own.
        step, loss, grad_norm, eval_loss : str, optional
            Names of columns. Without them the usual names are looked for: `loss` or `train/loss`, `step` or
            `global_step`, and so on (`ga_audit._columns.COMMON`).
        **settings
            What else is known of the run, see `PlainSettings`.

        Raises
        ------
        WrongUsage
            A column that does not exist or holds no numbers, no known column, or two values for one step.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"step": [10, 20, 30], "loss": [2.5, 2.1, 1.9], "grad_norm": [1.2, 1.1, 1.0]})
        >>> Run.from_frame(table, ga=8)
        <Run 'run': GA 8; loss (3 points), grad_norm (3 points)>
        """
        names = {"step": step, "loss": loss, "grad_norm": grad_norm, "eval_loss": eval_loss}
        recorded, found = _columns.from_frame(frame, names)
        columns = {Role(role): (column, points, recorded) for role, (column, points) in found.items()}
        known = RunSettings.given(gradient_accumulation_steps=ga, **settings)
        return cls(name, name, name, known, _in_memory(columns), (Source(_MEMORY, name),))

    def __repr__(self) -> str:
        s = self.settings
        known = (
            ("GA", s.gradient_accumulation_steps),
            ("micro-batch", s.micro_batch_size),
            ("world size", s.world_size),
        )
        settings = (
            ", ".join(f"{what} {setting.value}" for what, setting in known if setting is not None) or "GA unknown"
        )
        roles = dict.fromkeys(series.role for series in self.series)
        series = ", ".join(
            f"{role.value} ({_columns.count(len(found), 'point')})"
            for role in roles
            if (found := self.get(role)) is not None
        )
        return f"<Run {self.name!r}: {settings}; {series or 'no series'}>"

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


def _in_memory(columns: Mapping[Role, tuple[str, _columns.Points, bool]]) -> tuple[Series, ...]:
    """A series for each role: its name, its points, and whether the positions are recorded steps."""
    return tuple(
        Series(
            role=role,
            name=name,
            format=_MEMORY,
            source=_MEMORY,
            position=position,
            value=value,
            counted=Counted.OPTIMIZER_STEP if recorded else Counted.ORDER,
        )
        for role, (name, (position, value), recorded) in columns.items()
    )


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """A log that could not be read, in the stream of those that could."""

    source: str
    error: AuditError
