"""What a reader has to say about a log, as codes and facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Fact: TypeAlias = str | int | float | tuple[str, ...]


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
    ITERATIONS_PER_STEP = "iterations-per-step"
    UNPLACED_ROWS = "unplaced-rows"
    OTHER_RANKS = "other-ranks"
    UNREAD_LINES = "unread-lines"
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


LOST = frozenset({
    NoteCode.NOT_A_NUMBER, NoteCode.NO_STEP, NoteCode.UNPLACED_ROWS, NoteCode.UNREAD_LINES, NoteCode.UNFINISHED,
    NoteCode.INCOMPLETE, NoteCode.RAGGED_ROWS, NoteCode.SHORT_COLUMNS, NoteCode.BROKEN_LINE, NoteCode.BROKEN_RECORD,
    NoteCode.TRUNCATED, NoteCode.WRONG_CHECKSUM, NoteCode.SKIPPED, NoteCode.GIT_LFS_POINTER,
})  # fmt: skip
"""Notes on what is in a log and was not read, or may be missing: shown wherever a verdict is."""


@dataclass(frozen=True, slots=True)
class Note:
    """A warning, as data, on the thing that it concerns."""

    code: NoteCode | str
    message: str = ""  # of a code that has no sentence in `output.wording.notes`
    where: str | None = None  # file:line, record, byte, the name of a series
    count: int = 1
    facts: Mapping[str, Fact] = field(default_factory=dict, hash=False)  # what the sentence says
