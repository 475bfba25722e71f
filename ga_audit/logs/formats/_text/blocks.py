"""Records in the order of a text -> blocks, one for each training that it shows.

A block keeps its numbers in columns, 8 bytes each, so that memory grows with the points and not with the text.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field

from ga_audit.logs import roles
from ga_audit.logs.formats._text.banner import Banner
from ga_audit.logs.formats._text.names import Kind
from ga_audit.logs.formats._text.record import Record, Span
from ga_audit.run import Counted, Role

_NAN = math.nan
_TRAINING = frozenset({Role.LOSS, Role.GRAD_NORM})
SUMMARY = "train/train_loss"
_NEAR_LABEL = 6  # lines below a label, at most, at which its block begins
_PLACES = (Kind.STEP, Kind.ITER, Kind.MICRO, Kind.INDEX)


def _column() -> array[float]:
    return array("d")


@dataclass(slots=True)
class Values:
    """The values of one name and the records that hold them."""

    row: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=_column)
    place: list[Span | None] = field(default_factory=list)  # filled where a copy is to be written


@dataclass(slots=True)
class Block:
    """The rows of one training."""

    number: int = 0  # of the run in the text, from 1; 0 where there is one
    label: str = ""
    banner: Banner = field(default_factory=Banner)
    labelled: Banner = field(default_factory=Banner)  # what of the banner a label above the block stated
    values: dict[str, Values] = field(default_factory=dict)
    counters: dict[Kind, array[float]] = field(default_factory=lambda: {kind: _column() for kind in Kind})
    totals: dict[Kind, array[float]] = field(
        default_factory=lambda: {kind: _column() for kind in (*_PLACES, Kind.EPOCH)}
    )
    bar_before: array[float] = field(default_factory=_column)
    bar_after: array[float] = field(default_factory=_column)
    training: array[int] = field(default_factory=lambda: array("b"))
    iterations: Counted | None = None  # what the trainer's iterations count, where it is known
    at_multiples: bool = False
    trainer: str = ""
    closed: bool = False
    first: Record | None = None  # of training
    last: Record | None = None
    first_rank: int | None = None
    other_ranks: int = 0
    unread_lines: int = 0  # of the text, in its first block: they look like rows and are none

    def __len__(self) -> int:
        return len(self.training)

    @property
    def part(self) -> str:
        """The run as `Source.part` names it."""
        return str(self.number) if self.number else ""

    def add(self, record: Record, *, places: bool) -> None:
        """Take a record."""
        row = len(self.training)
        for kind, column in self.counters.items():
            column.append(record.counters.get(kind, _NAN))
        for kind, column in self.totals.items():
            column.append(record.totals.get(kind, _NAN))
        self.bar_before.append(record.bar[0] if record.bar else _NAN)
        self.bar_after.append(_NAN)
        self.training.append(record.is_training)
        for name, value in record.values.items():
            kept = self.values.get(name)
            if kept is None:
                kept = self.values[name] = Values()
            kept.row.append(row)
            kept.value.append(value)
            if places:
                kept.place.append(record.place(name))
        if record.is_training:
            self.first = self.first or record
            self.last = record


def is_training(record: Record, loss_key: str | None = None, grad_norm_key: str | None = None) -> bool:
    """Whether a record is a row of the training curve."""
    if record.closing:
        return False
    return any(
        roles.role_of(name, loss_key=loss_key, grad_norm_key=grad_norm_key) in _TRAINING for name in record.values
    ) or (not any(roles.role_of(name) is Role.EVAL_LOSS for name in record.values) and _has_component(record))


def _has_component(record: Record) -> bool:
    return any("loss" in name.lower() and not name.lower().startswith(("eval", "val")) for name in record.values)


@dataclass(slots=True)
class Splitter:
    """Collects records into blocks; a new one begins where a new training does."""

    places: bool = False
    blocks: list[Block] = field(default_factory=lambda: [Block()])
    pending: Banner = field(default_factory=Banner)  # stated since the last row
    pending_label: Banner = field(default_factory=Banner)
    label: str = ""
    label_age: int = 0  # lines since the label
    starts: bool = False  # a trainer said that it begins
    resumes: bool = False
    other_runs_rows: Counter[str] = field(default_factory=Counter)

    def note_label(self, text: str, stated: Banner) -> None:
        """A label or heading: it belongs to the rows below it."""
        self.label, self.label_age = text, 0
        self.pending.update(stated)
        self.pending_label.update(stated)

    def note_banner(self, stated: Banner) -> None:
        """Settings of a trainer's banner, a dump or a command line."""
        self.pending.update(stated)
        if "num_examples" in stated.values or "total_steps" in stated.values:
            self.starts = True

    def add(self, record: Record) -> Block:
        """Put a record where it belongs; the block that took it."""
        block = self.blocks[-1]
        if record.closing:
            if block.closed and SUMMARY in block.values:  # the trainer repeats its summary as a list
                return block
            block.add(record, places=self.places)
            block.closed = True
            return block
        if _is_of_another_rank(block, record):
            block.other_ranks += 1
            return block
        if record.is_training:
            if self.label_age > _NEAR_LABEL and not self.pending_label:
                self.label = ""
            if block.last is not None and self._begins(block, record):
                block = self._new(block)
            self._settle(block)
        block.add(record, places=self.places)
        return block

    def begin(self, label: str, stated: Banner) -> Block:
        """A block that a table states: one for each of its runs."""
        block = self.blocks[-1]
        if len(block):
            block = Block(banner=_copy(block.banner))
            self.blocks.append(block)
        self.label = label
        self.pending.update(stated)
        self._settle(block)
        return block

    def _new(self, before: Block) -> Block:
        block = Block(
            banner=_copy(before.banner), first_rank=before.first_rank, iterations=before.iterations,
            at_multiples=before.at_multiples, trainer=before.trainer,
        )  # fmt: skip
        if self.label or self.starts:  # a label says what differs: what the one before said is not taken over
            for name in before.labelled.values:
                block.banner.values.pop(name, None)
            for name in before.labelled.packages:
                block.banner.packages.pop(name, None)
        self.blocks.append(block)
        return block

    def _settle(self, block: Block) -> None:
        """What was stated since the last row goes to the block of this one."""
        if self.pending:
            block.banner.update(self.pending)
            block.labelled.update(self.pending_label)
            self.pending, self.pending_label = Banner(), Banner()
        if block.last is None and self.label:
            block.label = self.label
        self.label, self.starts, self.resumes = "", False, False

    def _begins(self, block: Block, record: Record) -> bool:
        """Whether a row is the first of a new training."""
        if block.closed or self.starts:
            return True
        last = block.last
        assert last is not None
        differs = self.pending.contradicts(block.banner)
        between = bool(self.label) or differs
        for kind in _PLACES:
            new, old = record.counters.get(kind), last.counters.get(kind)
            if new is not None and old is not None:
                return self._goes_back(kind, new, old, last, record, between=between)
        new, old = record.counters.get(Kind.EPOCH), last.counters.get(Kind.EPOCH)
        if new is not None and old is not None:
            if new < old - 1e-9:
                return not self.resumes
            if new > old + 1e-9:
                return bool(self.pending_label) and self.pending.contradicts(block.banner)
            assert block.first is not None
            # a line of noise may look like a label: it divides only where the block above it began with this epoch
            again = differs or bool(self.pending_label) or block.first.counters.get(Kind.EPOCH) == new
            return (between and again) or _bar_goes_back(last, record)
        return between or _bar_goes_back(last, record)

    def _goes_back(self, kind: Kind, new: float, old: float, last: Record, record: Record, *, between: bool) -> bool:
        epoch, before = record.counters.get(Kind.EPOCH), last.counters.get(Kind.EPOCH)
        if new > old:
            return bool(self.pending_label) and self.pending.contradicts(self.blocks[-1].banner)
        if epoch is not None and before is not None:
            if epoch > before:
                return False  # the counter restarts with each epoch
            if epoch < before and kind is not Kind.STEP:
                return not self.resumes
        if new == old:
            return between
        return not self.resumes


def _copy(banner: Banner) -> Banner:
    return Banner(dict(banner.values), dict(banner.packages))


def _bar_goes_back(last: Record, record: Record) -> bool:
    return last.bar is not None and record.bar is not None and record.bar[0] < last.bar[0]


def _is_of_another_rank(block: Block, record: Record) -> bool:
    """Whether a rank other than the first printed a row: rows of equal place from several ranks are one."""
    if record.rank is None:
        return False
    if block.first_rank is None:
        block.first_rank = record.rank
    return record.rank != block.first_rank
