"""Markdown: for an issue, a pull request, a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.finding import Verdict
from ga_audit.output._safe import cell
from ga_audit.output.wording import advice as advised
from ga_audit.output.wording import summary, verdict
from ga_audit.output.wording._numbers import exponent
from ga_audit.output.wording._numbers import factor as times
from ga_audit.output.wording._sentence import Code, Sentence
from ga_audit.output.wording.notes import note as note_text
from ga_audit.run import Role, Run

_MAX_ROWS = 60


def render(audit: Audit, **_: object) -> str:
    """The audit as Markdown; everything from a log is escaped."""
    parts = ["\n".join(diagnosis_lines(d)) for d in audit.diagnoses]
    if audit.set_aside:
        parts.append("\n".join(_set_aside(audit)))
    parts += [f"Could not read {cell(str(f.error))}" for f in audit.failures]
    parts += [f"Note: {cell(note_text(n))}" for n in audit.notes]
    return "\n\n".join(parts) + "\n"


def _set_aside(audit: Audit) -> Iterator[str]:
    yield "**Set aside**"
    yield ""
    yield from (f"- {cell(item.run.name)}: {cell(verdict.set_aside(item))}" for item in audit.set_aside)
    if audit.ask is not None:
        yield f"- {_with_code(advised.ask(audit.ask))}"


def diagnosis_lines(d: Diagnosis, *, advice: bool = True) -> Iterator[str]:
    """One diagnosis, a line at a time; with `advice`, also what to do next, which is for the one who asked."""
    yield f"**{d.verdict.value.upper()}**: {cell(summary.headline(d))}"
    yield ""
    yield from run_table(d)
    if d.exponents:
        yield ""
        yield "| quantity | exponent | 95% interval | on | runs, points | aligned on |"
        yield "|---|---|---|---|---|---|"
        for role, e in d.exponents:
            yield (
                f"| {role.value} | {exponent(e.value)} | [{e.interval.low:.3f}, {e.interval.high:.3f}] | {e.driver} "
                f"| {e.n_runs}, {e.n_points} | {e.axis.value} |"
            )
    yield from _list("Evidence", verdict.reasons(d))
    bugs = (f"{b.bug} ({b.fit}): {b.title}. {verdict.bug_match(b, d.verdict)} {b.fix}" for b in d.bugs[:3])
    yield from _list("Known bug", bugs)
    if d.verdict is Verdict.SCALED:
        yield from _list("Do I have to retrain?", [advised.retrain(d.retrain)])
    if advice:
        yield from _list("Next", advised.next_steps(d))


def run_table(d: Diagnosis) -> Iterator[str]:
    """The runs with GA, batch, world size and the factor found."""
    yield "| run | GA | micro-batch | world size | loss, first to last | loss is | grad_norm is |"
    yield "|---|---|---|---|---|---|---|"
    for run in d.runs[:_MAX_ROWS]:
        s = run.settings
        cells = [
            cell(run.name),
            str(s.gradient_accumulation_steps.value) if s.gradient_accumulation_steps else "?",
            str(s.micro_batch_size.value) if s.micro_batch_size else "?",
            str(s.world_size.value) if s.world_size else "?",
            _span(run),
            _factor(d, run, Role.LOSS),
            _factor(d, run, Role.GRAD_NORM),
        ]
        yield f"| {' | '.join(cells)} |"
    if len(d.runs) > _MAX_ROWS:
        yield f"| ... and {len(d.runs) - _MAX_ROWS} more | | | | | | |"


def _span(run: Run) -> str:
    series = run.get(Role.LOSS)
    return "" if series is None or not len(series) else f"{series.value[0]:.4g} to {series.value[-1]:.4g}"


def _factor(d: Diagnosis, run: Run, role: Role) -> str:
    if not any(f.role is role for f in d.findings):
        return "correct" if d.verdict is Verdict.HEALTHY and run.get(role) is not None else ""
    return times(math.exp(d.log_factor(run, role)))


def _list(title: str, lines: Iterable[str | Sentence]) -> Iterator[str]:
    lines = list(lines)
    if not lines:
        return
    yield ""
    yield f"**{title}**"
    yield ""
    for line in lines:
        yield f"- {cell(line) if isinstance(line, str) else _with_code(line)}"


def _with_code(sentence: Sentence) -> str:
    """Commands as code, everything else escaped."""
    return "".join(f"`{str(p).replace('`', '')}`" if isinstance(p, Code) else cell(p) for p in sentence)


def corrections(rows: Sequence[dict[str, Any]], audit: Audit | None, reasons: Sequence[str]) -> str:
    """`DIAGNOSIS.md`: what was changed, why, and what a correction does not do."""
    lines = ["# What ga-audit corrected here", ""]
    lines += ["| run | series | divided by | first value | last value |", "|---|---|---|---|---|"]
    for row in rows:
        factor = factors_text(row["factor"])
        first = f"{_shown(row['first_logged'])} to {_shown(row['first_corrected'])}"
        last = f"{_shown(row['last_logged'])} to {_shown(row['last_corrected'])}"
        lines.append(f"| {cell(row['run'])} | {cell(row['series'])} | {factor} | {first} | {last} |")
    lines += [
        "",
        "Nothing else is changed: eval loss, learning rate and all other records are as they were logged.",
        "",
    ]
    lines += [f"Reason: {cell(reason)}" for reason in dict.fromkeys(reasons)]
    if any("grad" in row["series"] for row in rows):
        lines += [
            "",
            "The corrected grad_norm is what a mean over the micro-batches would have given *at those parameters*. It is "
            "not a repaired run: where clipping or an optimizer without scale invariance acted on the wrong gradient, the "
            "parameters themselves differ.",
        ]
    if audit is not None:
        for d in audit.diagnoses:
            lines += ["", "## Diagnosis", "", *diagnosis_lines(d)]
            if d.clipping:
                lines += ["", "**Steps above max_grad_norm**", ""]
                lines += [
                    f"- {cell(c.run)}: {c.as_logged:.0%} as logged, {c.as_corrected:.0%} as corrected"
                    for c in d.clipping
                ]
    return "\n".join(lines) + "\n"


def factors_text(factors: Sequence[float]) -> str:
    """The factors of one series, the range where they are many."""
    if len(factors) <= 4:
        return ", ".join(f"{f:g}" for f in factors)
    return f"{min(factors):g} to {max(factors):g}"


def _shown(value: float | None) -> str:
    return "nan" if value is None else f"{value:.5g}"
