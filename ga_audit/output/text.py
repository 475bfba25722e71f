"""For a terminal: the verdict first, then the runs, the numbers, the evidence, what to do."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence

import click
import numpy as np

from ga_audit.finding import Audit, Diagnosis, Estimate, Verdict
from ga_audit.output._explain import explanation
from ga_audit.output._safe import plain, short
from ga_audit.output.wording.notes import note as note_text
from ga_audit.run import ReadFailure, Role, Run

SUFFIX = ".txt"
WIDTH = 100
_COLOURS = {Verdict.HEALTHY: "green", Verdict.SCALED: "red", Verdict.INCONCLUSIVE: "yellow"}
_LABEL = {Verdict.HEALTHY: "HEALTHY", Verdict.SCALED: "SCALED", Verdict.INCONCLUSIVE: "INCONCLUSIVE"}
_MAX_ROWS = 40


def render(audit: Audit, *, explain: bool = False, color: bool = False, width: int = WIDTH, **_: object) -> str:
    """The audit as plain text, at most `width` columns where words allow."""
    blocks = [
        "\n".join(_diagnosis(diagnosis, explain=explain, color=color, width=width)) for diagnosis in audit.diagnoses
    ]
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
    yield "Set aside, not judged"
    for item in audit.set_aside[:_MAX_ROWS]:
        yield from _bullet(f"{item.run.name}: {item.why}", width)
    if len(audit.set_aside) > _MAX_ROWS:
        yield f"  ... and {len(audit.set_aside) - _MAX_ROWS} more runs"
    before, _, command = audit.set_aside_remedy.rstrip("`").partition("`")
    yield from _bullet(before.strip(), width)
    yield f"      {plain(command)}"


def _diagnosis(diagnosis: Diagnosis, *, explain: bool, color: bool, width: int) -> Iterator[str]:
    label = _LABEL[diagnosis.verdict]
    shown = click.style(label, fg=_COLOURS[diagnosis.verdict], bold=True) if color else label
    # a headline that begins with the verdict does not say it twice
    said = re.sub(rf"^{label}(, |: )?", "", diagnosis.headline, flags=re.IGNORECASE)
    said = said if said.startswith(("because", "grad_norm")) else f"{said[0].upper()}{said[1:]}"
    first, *rest = _wrapped(said, width, indent=len(label) + 2)
    yield f"{shown}  {first.strip()}"
    yield from rest
    yield ""
    yield from _run_table(diagnosis, width)
    numbers = list(_numbers(diagnosis))
    if numbers:
        yield ""
        yield from numbers
    if diagnosis.reasons:
        yield from _section("Evidence", diagnosis.reasons, width)
    yield from _section("Clipping", _clipping(diagnosis), width)
    yield from _section("Known bug", _bugs(diagnosis), width)
    if diagnosis.verdict is Verdict.SCALED:
        yield from _section("Do I have to retrain?", [diagnosis.retrain], width)
    yield from _section("Next", diagnosis.next_steps, width)
    notes = [note_text(note) for note in diagnosis.notes]
    notes += [f"{run.name}: {note_text(note)}" for run in diagnosis.runs for note in run.notes][:8]
    if diagnosis.differing:
        notes.insert(0, f"the runs differ in: {', '.join(diagnosis.differing)}")
    yield from _section("Notes", list(dict.fromkeys(notes)), width)
    if explain:
        yield ""
        yield from (plain(line) for line in explanation(diagnosis))


def _wrapped(text: str, width: int, indent: int = 4) -> list[str]:
    return textwrap.wrap(
        plain(text), width, initial_indent=" " * indent, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [""]  # fmt: skip


def _section(title: str, lines: Sequence[str], width: int) -> Iterator[str]:
    if not lines:
        return
    yield ""
    yield title
    for line in lines:
        before, tick, rest = line.partition("`")
        command, _, after = rest.partition("`")
        if tick and not after.strip(" .") and len(before) > 2:
            # commands stand on lines of their own, to be copied
            yield from _bullet(before.strip(), width)
            yield f"      {plain(command)}"
        else:
            yield from _bullet(line.replace("`", ""), width)


def _bullet(text: str, width: int) -> Iterator[str]:
    first, *rest = _wrapped(text, width, 4)
    yield f"  - {first.strip()}"
    yield from rest


# --- the table of runs -------------------------------------------------------------------------------------------------


def _run_table(diagnosis: Diagnosis, width: int) -> Iterator[str]:
    header = ["run", "GA", "micro-batch", "world", "points", "loss", "grad_norm", "loss is", "norm is"]
    rows = [_row(diagnosis, run) for run in diagnosis.runs[:_MAX_ROWS]]
    keep = [i for i in range(len(header)) if i < 2 or any(row[i] not in {"", "?"} for row in rows)]
    longest = max(width - sum(max(len(r[i]) for r in [header, *rows]) + 2 for i in keep[1:]) - 2, 12)
    for row in rows:
        row[0] = short(row[0], longest)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = [row[i].ljust(widths[i]) if i == 0 else row[i].rjust(widths[i]) for i in keep]
        yield ("  " + "  ".join(cells)).rstrip()
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
    factor = math.exp(diagnosis.log_factor(run, role))
    return f"{factor:g}x" if factor >= 1 else f"1/{1 / factor:g}x"


# --- numbers -------------------------------------------------------------------------------------------------------------


def _numbers(diagnosis: Diagnosis) -> Iterator[str]:
    if not diagnosis.exponents:
        return
    yield "Exponents (0: right, 1: summed, -1: divided once too often), with 95% intervals"
    rows = [_number_row(diagnosis, role, estimate) for role, estimate in diagnosis.exponents]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip()


def _number_row(diagnosis: Diagnosis, role: Role, estimate: Estimate) -> list[str]:
    posterior = diagnosis.posterior.get(role, {})
    best = max(posterior, key=lambda h: posterior[h]) if posterior else None
    said = f"{best.name} {posterior[best]:.1%}" if best is not None else ""
    driver = "GA" if estimate.driver == "gradient_accumulation_steps" else estimate.driver
    return [
        role.value,
        f"on {driver}",
        f"{round(estimate.value, 3) + 0.0:.3f}",
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
        lines.append(f"{bug.bug} ({bug.fit}): {bug.title}. {bug.why} {'; '.join(bug.links[:1])}".strip())
    return lines


def _failure(failure: ReadFailure, *, color: bool) -> Iterator[str]:
    error = failure.error
    word = click.style("error:", fg="red", bold=True) if color else "error:"
    place = f"{error.where}: " if error.where else ""
    yield f"{word} {plain(place + error.message)}"
    if error.remedy:
        yield f"  -> {plain(error.remedy)}"
