"""For a terminal: the verdict and what follows from it on one screen; with `verbose`, all that was found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
import numpy as np

from ga_audit.conclusion import Action, Audit, Diagnosis
from ga_audit.finding import Estimate, Verdict
from ga_audit.output._explain import explanation
from ga_audit.output._first_screen import first_screen
from ga_audit.output._safe import plain
from ga_audit.output._table import table
from ga_audit.output.wording import advice, summary, verdict
from ga_audit.output.wording._numbers import exponent
from ga_audit.output.wording._numbers import factor as times
from ga_audit.output.wording._sentence import Code, Sentence, unmarked
from ga_audit.output.wording.notes import note as note_text
from ga_audit.run import ReadFailure, Role, Run

WIDTH = 100
_COLOURS = {Verdict.HEALTHY: "green", Verdict.SCALED: "red", Verdict.INCONCLUSIVE: "yellow"}
_LABEL = {Verdict.HEALTHY: "HEALTHY", Verdict.SCALED: "SCALED", Verdict.INCONCLUSIVE: "INCONCLUSIVE"}
_MAX_ROWS = 40
_WIDE = 60  # columns from which the verdict is indented below its label


@dataclass(frozen=True, slots=True)
class _Shown:
    """What of a diagnosis is shown, and how; the parameters of `render`."""

    explain: bool
    verbose: bool
    quiet: bool
    color: bool
    width: int
    hidden: frozenset[Action]
    more: bool


def render(
    audit: Audit,
    *,
    explain: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    color: bool = False,
    width: int = WIDTH,
    hidden: frozenset[Action] = frozenset(),
    more: bool = True,
    **_: object,
) -> str:
    """The audit as plain text, at most `width` columns where words allow.

    Parameters
    ----------
    audit : what was found.
    explain : add the arithmetic of each verdict.
    verbose : all evidence, exponents, clipping, known bugs, steps and notes instead of the first screen.
    quiet : the verdict alone.
    color : with ANSI colours.
    width : columns.
    hidden : actions that are not shown as next steps.
    more : name the options that show what the first screen leaves out.
    """
    shown = _Shown(explain, verbose or explain, quiet, color, width, hidden, more)
    blocks = ["\n".join(_diagnosis(d, shown)) for d in audit.diagnoses]
    if audit.set_aside:
        blocks.append("\n".join(_set_aside(audit, width)))
    tail = [f"note: {plain(note_text(note))}" for note in audit.notes]
    for failure in audit.failures:
        tail += _failure(failure, color=color)
    if not audit.diagnoses and not audit.failures and not audit.notes:
        tail.append("Nothing to audit.")
    if tail:
        blocks.append("\n".join(tail))
    return "\n\n".join(blocks)


def _set_aside(audit: Audit, width: int) -> Iterator[str]:
    yield "Set aside"
    for item in audit.set_aside[:_MAX_ROWS]:
        yield from _bullet(f"{item.run.name}: {verdict.set_aside(item)}", width)
    if len(audit.set_aside) > _MAX_ROWS:
        yield f"  ... and {len(audit.set_aside) - _MAX_ROWS} more runs"
    if audit.ask is not None:
        yield from _item(advice.ask(audit.ask), width)


def _diagnosis(diagnosis: Diagnosis, shown: _Shown) -> Iterator[str]:
    yield from _verdict(diagnosis, shown)
    if shown.quiet:
        return
    yield ""
    if shown.verbose:
        yield from _in_full(diagnosis, shown)
    else:
        yield from first_screen(diagnosis, width=shown.width, color=shown.color, hidden=shown.hidden, more=shown.more)


def _verdict(diagnosis: Diagnosis, shown: _Shown) -> Iterator[str]:
    label = _LABEL[diagnosis.verdict]
    painted = click.style(label, fg=_COLOURS[diagnosis.verdict], bold=True) if shown.color else label
    before = len(label) + 2
    indent = before if shown.width >= _WIDE else 0
    # the label takes its room on the first line, where the others are not indented
    text = " " * (before - indent) + summary.headline(diagnosis)
    first, *rest = _wrapped(text, shown.width, indent=indent)
    yield f"{painted}  {first.strip()}"
    yield from rest


def _in_full(diagnosis: Diagnosis, shown: _Shown) -> Iterator[str]:
    width, hidden = shown.width, shown.hidden
    yield from _run_table(diagnosis, width)
    numbers = list(_numbers(diagnosis))
    if numbers:
        yield ""
        yield from numbers
    yield from _section("Evidence", verdict.reasons(diagnosis), width)
    yield from _section("Clipping", _clipping(diagnosis), width)
    yield from _section("Known bug", _bugs(diagnosis), width)
    if diagnosis.verdict is Verdict.SCALED:
        yield from _section("Do I have to retrain?", [advice.retrain(diagnosis.retrain)], width)
    yield from _section("Next", advice.next_steps(diagnosis, hidden), width)
    notes = [note_text(note) for note in diagnosis.notes]
    notes += [f"{run.name}: {note_text(note)}" for run in diagnosis.runs for note in run.notes][:8]
    if differing := diagnosis.group.settings_that_differ:
        notes.insert(0, f"the runs differ in: {', '.join(differing)}")
    yield from _section("Notes", list(dict.fromkeys(notes)), width)
    if shown.explain:
        yield ""
        yield from (plain(line) for line in explanation(diagnosis))


def _wrapped(text: str, width: int, indent: int = 4) -> list[str]:
    return textwrap.wrap(
        plain(text), width, initial_indent=" " * indent, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [""]  # fmt: skip


def _section(title: str, lines: Sequence[str | Sentence], width: int) -> Iterator[str]:
    if not lines:
        return
    yield ""
    yield title
    for line in lines:
        yield from _item((line,) if isinstance(line, str) else line, width)


def _item(sentence: Sentence, width: int) -> Iterator[str]:
    """A list item; a command at its end has a line of its own, to be copied."""
    *before, last = sentence
    if not isinstance(last, Code):
        yield from _bullet(unmarked(sentence), width)
        return
    yield from _bullet(unmarked(tuple(before)).strip(), width)
    yield f"      {plain(str(last))}"


def _bullet(text: str, width: int) -> Iterator[str]:
    first, *rest = _wrapped(text, width, 4)
    yield f"  - {first.strip()}"
    yield from rest


# --- the table of runs -------------------------------------------------------------------------------------------------


def _run_table(diagnosis: Diagnosis, width: int) -> Iterator[str]:
    header = ["run", "GA", "micro-batch", "world", "points", "loss", "grad_norm", "loss is", "norm is"]
    rows = [_row(diagnosis, run) for run in diagnosis.runs[:_MAX_ROWS]]
    keep = [i for i in range(len(header)) if i < 2 or any(row[i] not in {"", "?"} for row in rows)]
    shown = [[row[i] for i in keep] for row in rows]
    yield from table(
        shown, header=[header[i] for i in keep], right=range(1, len(keep)), indent=2, width=width, shorten=0
    )
    if len(diagnosis.runs) > _MAX_ROWS:
        yield f"  ... and {len(diagnosis.runs) - _MAX_ROWS} more runs"


def _row(diagnosis: Diagnosis, run: Run) -> list[str]:
    settings = run.settings
    series = run.get(Role.LOSS) or run.get(Role.GRAD_NORM)
    schedule = settings.gradient_accumulation_steps
    ga = (
        "?"
        if schedule is None
        else (
            "->".join(map(str, schedule.value.value)) if not schedule.value.is_constant else str(schedule.value.first)
        )
    )
    return [
        plain(run.name),
        ga,
        str(settings.micro_batch_size.value) if settings.micro_batch_size else "?",
        str(settings.world_size.value) if settings.world_size else "?",
        str(len(series)) if series else "0",
        _span(run, Role.LOSS),
        _span(run, Role.GRAD_NORM),
        _factor(diagnosis, run, Role.LOSS),
        _factor(diagnosis, run, Role.GRAD_NORM),
    ]


def _span(run: Run, role: Role) -> str:
    series = run.get(role)
    if series is None:
        return ""
    finite = series.value[np.isfinite(series.value)]
    return f"{finite[0]:.4g} .. {finite[-1]:.4g}" if len(finite) > 1 else (f"{finite[0]:.4g}" if len(finite) else "nan")


def _factor(diagnosis: Diagnosis, run: Run, role: Role) -> str:
    """`8x` where a finding says so; empty where nothing is claimed."""
    if not any(f.role is role for f in diagnosis.findings):
        return ""
    return times(math.exp(diagnosis.log_factor(run, role)))


# --- numbers -------------------------------------------------------------------------------------------------------------


def _numbers(diagnosis: Diagnosis) -> Iterator[str]:
    if not diagnosis.exponents:
        return
    yield "Exponents (0: correct, 1: summed, -1: divided one time too many), with 95% intervals"
    rows = [_number_row(diagnosis, role, estimate) for role, estimate in diagnosis.exponents]
    yield from table(rows, indent=2)


def _number_row(diagnosis: Diagnosis, role: Role, estimate: Estimate) -> list[str]:
    posterior = diagnosis.posterior.get(role, {})
    best = max(posterior, key=lambda h: posterior[h]) if posterior else None
    said = f"{best.name} {posterior[best]:.1%}" if best is not None else ""
    driver = "GA" if estimate.driver == "gradient_accumulation_steps" else estimate.driver
    return [
        role.value,
        f"on {driver}",
        exponent(estimate.value),
        f"[{estimate.interval.low:.3f}, {estimate.interval.high:.3f}]",
        f"{estimate.n_runs} runs, {estimate.n_points} points, by {estimate.axis.value}",
        said,
    ]


def _clipping(diagnosis: Diagnosis) -> list[str]:
    return [
        f"{share.run}: {share.as_logged:.0%} of the steps above max_grad_norm {share.max_grad_norm:g} as logged, "
        f"{share.as_corrected:.0%} as corrected"
        for share in diagnosis.clipping
        if share.as_logged != share.as_corrected
    ][:6]


def _bugs(diagnosis: Diagnosis) -> list[str]:
    lines = []
    for bug in diagnosis.bugs[:3]:
        fits = verdict.bug_match(bug, diagnosis.verdict)
        lines.append(f"{bug.bug} ({bug.fit}): {bug.title}. {fits} {'; '.join(bug.links[:1])}".strip())
    return lines


def _failure(failure: ReadFailure, *, color: bool) -> Iterator[str]:
    error = failure.error
    word = click.style("error:", fg="red", bold=True) if color else "error:"
    place = f"{error.where}: " if error.where else ""
    yield f"{word} {plain(place + error.message)}"
    if error.remedy:
        yield f"  -> {plain(error.remedy)}"
