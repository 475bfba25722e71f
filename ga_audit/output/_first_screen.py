"""The first screen of a diagnosis: verdict, runs, bug, effect on the training, evidence, next commands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ga_audit._notes import LOST
from ga_audit.conclusion import Action, Diagnosis
from ga_audit.finding import Verdict
from ga_audit.output._runs_table import runs_table
from ga_audit.output._safe import plain
from ga_audit.output.wording import advice, summary, verdict
from ga_audit.output.wording._sentence import Code, Sentence, unmarked
from ga_audit.output.wording.notes import note as note_text

_LABEL = 10  # columns of the labels on the left
_MAX_EVIDENCE = 2
_MAX_STEPS = {Verdict.SCALED: 2, Verdict.INCONCLUSIVE: 4, Verdict.HEALTHY: 2}
_MAX_NOTES = 2
_MAX_LOST = 6
_PLAIN = frozenset({Action.WRITE_CORRECTED, Action.WRITE_REPORT})  # the command says what it does


def first_screen(d: Diagnosis, *, width: int, color: bool, hidden: frozenset[Action], more: bool) -> Iterator[str]:
    """Lines below the verdict: about 20 for a clear case."""
    yield from runs_table(d, width=width, color=color)
    blocks = [
        ("Bug", [summary.bug(d.bugs)]),
        ("Training", [unmarked(summary.training(d.retrain))] if d.verdict is Verdict.SCALED else []),
        ("Evidence", verdict.reasons(d)[:_MAX_EVIDENCE]),
        ("Note", _notes(d)),
    ]  # fmt: skip
    shown = [line for label, texts in blocks for line in _block(label, [t for t in texts if t], width)]
    if shown:
        yield ""
        yield from shown
    yield from _next(d, width, hidden)
    if not more:
        return
    yield ""
    yield from _wrapped(summary.hidden(d, _count_notes(d)), width, 0)


def _notes(d: Diagnosis) -> list[str]:
    """Everything that was lost, then the first of the other notes on the runs."""
    notes = [(note.code in LOST, f"{run.name}: {note_text(note)}") for run in d.runs for note in run.notes]
    lost = list(dict.fromkeys(text for is_loss, text in notes if is_loss))
    rest = list(dict.fromkeys(text for is_loss, text in notes if not is_loss))
    return [*lost[:_MAX_LOST], *rest[: max(_MAX_NOTES - len(lost), 0)]]


def _count_notes(d: Diagnosis) -> int:
    return len(d.notes) + sum(len(run.notes) for run in d.runs)


def _block(label: str, texts: list[str] | tuple[str, ...], width: int) -> Iterator[str]:
    """Paragraphs behind a label."""
    for i, text in enumerate(texts):
        first, *rest = _wrapped(text, width, _LABEL)
        yield f"{label if i == 0 else '':<{_LABEL}}{first.strip()}"
        yield from rest


def _next(d: Diagnosis, width: int, hidden: frozenset[Action]) -> Iterator[str]:
    # the fix of the bug has its own line above
    steps = [s for s in d.next_steps if s.action not in hidden and s.action is not Action.FIX_BUG]
    steps = steps[: _MAX_STEPS[d.verdict]]
    if not steps:
        return
    yield ""
    lines: list[str] = []
    commands = [plain(str(Code(s.argv))) for s in steps if s.argv]
    column = max(map(len, commands), default=0) + 3
    for step in steps:
        sentence = advice.next_step(step, d)
        purpose = summary.purpose(step)
        lines += _step(sentence, purpose, column, width, needed=step.action not in _PLAIN)
    for i, line in enumerate(lines):
        yield f"{'Next' if i == 0 else '':<{_LABEL}}{line}".rstrip()


def _step(sentence: Sentence, purpose: str, column: int, width: int, *, needed: bool) -> list[str]:
    """A command with what it is for, on one line where that fits or where it is needed; else a paragraph."""
    last = sentence[-1]
    room = width - _LABEL
    if not isinstance(last, Code):
        return [line.strip() for line in _wrapped(unmarked(sentence), room, 0)]
    command = plain(str(last))
    if column + len(purpose) <= room:
        return [f"{command:<{column}}{purpose}"]
    return [*([f"# {purpose}"] if purpose and needed else []), command]


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(
        plain(text), max(width, indent + 20), initial_indent=" " * indent, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [""]  # fmt: skip
