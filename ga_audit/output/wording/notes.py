"""The sentence of each note."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ga_audit.run import Note, NoteCode


def note(item: Note) -> str:
    """The sentence of a note; its own message where the code has none here."""
    make = SENTENCES.get(item.code)
    return item.message if make is None or item.message else make(item)


def _no_step(item: Note) -> str:
    if "name" in item.facts:
        return f"{item.facts['name']!r}: {item.count} points have no step and are left out"
    return f"{item.count} rows have no {item.facts['counter']} and are left out"


def _repeated_steps(item: Note) -> str:
    how = "the log goes back (a resume)" if item.facts["backwards"] else "the same step again"
    return f"{item.facts['name']!r}: {item.count} repeated steps, {how}; the last value counts"


def _derived_step(item: Note) -> str:
    steps = item.facts["steps"]
    how = "a step to a line" if steps == 1 else f"{steps} steps to a line"
    return f"the lines hold no step: numbered in order, {how}"


def _micro_batch_steps(item: Note) -> str:
    if "ga" in item.facts:
        return f"iterations are micro-batches: divided by GA {item.facts['ga']}"
    return "this trainer counts micro-batches, not optimizer steps; give --ga to convert"


def _several_runs(item: Note) -> str:
    what = "runs" if item.facts["what"] == "text" else "trainings"
    return f"the {item.facts['what']} holds several {what}; this is number {item.facts['number']}"


def _checkpoints_differ(item: Note) -> str:
    each = (f"{name} ({', '.join(v)})" for name, v in item.facts.items() if isinstance(v, tuple))
    return f"not taken from checkpoints that differ: {'; '.join(each)}"


def _unfinished(item: Note) -> str:
    if "state" in item.facts:
        return f"the run is {item.facts['state']}: its history may grow"
    why = f"{item.facts['missing']}: " if "missing" in item.facts else ""
    return f"{why}the run is going on, or it crashed"


def _broken_line(item: Note) -> str:
    if "error" in item.facts:
        return f"line is no JSON and is skipped: {item.facts['error']}"[:120]
    return f"{item.count} more lines are no JSON and are skipped"


def _truncated(item: Note) -> str:
    if "size" in item.facts:
        return f"ends inside a record: read up to byte {item.facts['byte']} of {item.facts['size']}"
    if "byte" in item.facts:
        return f"ends inside a record (byte {item.facts['byte']})"
    return "the last record is not whole"


def _wrong_checksum(item: Note) -> str:
    if item.facts.get("unit") == "block":
        return f"{item.count} blocks hold a record with a wrong checksum; the rest of each is left out"
    return f"{item.count} records fail their checksum and are left out"


def _not_a_number(item: Note) -> str:
    which = ", the closing mean" if "closing" in item.facts else ""
    return f"{item.facts['name']!r}{which}: {item.count} values are no numbers"


SENTENCES: Mapping[str, Callable[[Note], str]] = {
    NoteCode.NO_ROLE: lambda n: f"{n.facts['name']!r} ({n.facts['points']} points) has no role here",
    NoteCode.SECOND_NAME: lambda n: (
        f"{n.facts['name']!r} ({n.facts['points']} points) is {n.facts['role']} too; {n.facts['used']!r} is used"
    ),
    NoteCode.NOT_A_NUMBER: _not_a_number,
    NoteCode.NO_STEP: _no_step,
    NoteCode.NUMBERED: lambda n: f"{n.facts['name']!r} has no step: points are numbered in order",
    NoteCode.REPEATED_STEPS: _repeated_steps,
    NoteCode.COUNTER_RESTARTS: lambda n: f"{n.facts['counter']!r} restarts with each epoch: made cumulative",
    NoteCode.DERIVED_STEP: _derived_step,
    NoteCode.MICRO_BATCH_STEPS: _micro_batch_steps,
    NoteCode.SEVERAL_RUNS: _several_runs,
    NoteCode.COPY: lambda n: f"the same log is also at {n.facts['path']}",
    NoteCode.CHECKPOINTS_DIFFER: _checkpoints_differ,
    NoteCode.GA_FROM_NAME: lambda n: (
        f"GA {n.facts['ga']} is read from the run's name only; confirm it with --ga '{n.facts['run']}={n.facts['ga']}'"
    ),
    NoteCode.UNFINISHED: _unfinished,
    NoteCode.INCOMPLETE: lambda n: str(n.facts["why"]),
    NoteCode.UNLOGGED_END: lambda n: f"logged to step {n.facts['last']} of {n.facts['total']}",
    NoteCode.RAGGED_ROWS: lambda n: f"{n.count} rows have more or fewer cells than the header",
    NoteCode.SHORT_COLUMNS: lambda n: f"shorter than the other columns and left out: {', '.join(_names(n))}",
    NoteCode.BROKEN_LINE: _broken_line,
    NoteCode.BROKEN_RECORD: lambda n: f"a record cannot be read: {n.facts['error']}",
    NoteCode.TRUNCATED: _truncated,
    NoteCode.WRONG_CHECKSUM: _wrong_checksum,
    NoteCode.SKIPPED: lambda n: f"{n.facts['bytes']} bytes without a valid record are skipped",
    NoteCode.GIT_LFS_POINTER: lambda n: "is a git-lfs pointer, not the events; `git lfs pull`",
}


def _names(item: Note) -> tuple[str, ...]:
    names = item.facts["names"]
    assert isinstance(names, tuple)
    return names
