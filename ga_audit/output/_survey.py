"""A survey of many runs as text, JSON, CSV or one HTML page; everything that came from a log is escaped."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import Verdict
from ga_audit.output import _redact
from ga_audit.output._safe import plain, redact, short
from ga_audit.output._table import paint_first, table
from ga_audit.output.wording import advice, summary
from ga_audit.output.wording import survey as rows
from ga_audit.output.wording._numbers import counted
from ga_audit.output.wording._numbers import factor as times
from ga_audit.output.wording._sentence import Code, in_backticks, unmarked
from ga_audit.output.wording.notes import note as note_text
from ga_audit.output.wording.verdict import headline, set_aside, statement
from ga_audit.scan.survey import RowReason

if TYPE_CHECKING:
    from ga_audit.run import Run
    from ga_audit.scan.survey import Row, Survey

SCHEMA = "ga-audit-scan/1"
_SHOWN = 40  # rows of each table in a terminal
_COLOURS = {"scaled": "red", "inconclusive": "yellow", "not read": "magenta", "healthy": "green"}
_HEADER = ("verdict", "run", "GA", "loss is", "norm is", "loss / eval loss", "group", "why")
_INDENT = " " * 14
_OF_GROUP = frozenset({RowReason.FINDINGS, RowReason.DIAGNOSIS, RowReason.UNCHANGED})  # said of the group
_FIELDS = ("verdict", "run", "gradient_accumulation_steps", "loss_factor", "grad_norm_factor", "group", "why", "source")


def text(survey: Survey, *, color: bool = False, width: int = 100, every: bool = False) -> str:
    """A sentence for each group, the worst first, then the runs that are not healthy; all runs with `every`."""
    limit = None if every else _SHOWN
    blocks = [_headline(survey)]
    groups = _groups(survey)
    blocks += ["\n".join(_group_lines(number, d, width, color)) for number, d in groups[:limit]]
    blocks.append(_more(len(groups), limit, "groups"))
    shown = [row for row in survey.rows if every or row.verdict != Verdict.HEALTHY]
    if shown:
        cells = _filled([_row_cells(row, _over_eval(survey)) for row in shown])
        blocks.append(_table(cells[0], cells[1 : limit + 1 if limit else None], width, color))
        blocks.append(_more(len(shown), limit, "runs"))
    if healthy := len(survey.rows) - len(shown):
        blocks.append(f"{counted(healthy, 'healthy run')} not listed: -v, or --format csv")
    if survey.audit.set_aside:
        blocks.append(_set_aside(survey))
    blocks += [f"note: {plain(note_text(note))}" for note in survey.audit.notes[:limit]]
    return "\n\n".join(block for block in blocks if block)


def _group_lines(number: int, d: Diagnosis, width: int, color: bool) -> Iterator[str]:
    """The verdict on a group, its size, and the sentence on it."""
    verdict, _, runs, gas, _ = _group_cells(number, d)
    label = f"{verdict.upper():<12}"
    shown = click.style(label, fg=_COLOURS[verdict], bold=True) if color else label
    yield f"{shown}  group {number}: {counted(int(runs), 'run')}, GA {gas}"
    yield from textwrap.wrap(
        plain(summary.headline(d)), width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _over_eval(survey: Survey) -> dict[tuple[str, str], str]:
    """(name, path) of a run -> its loss over its eval loss, where that is evidence."""
    found = {}
    for d in survey.audit.diagnoses:
        runs = {run.id: run for run in d.runs}
        for piece in d.evidence:
            ratio = piece.facts.get("ratio")
            if piece.kind != "eval_gap" or not isinstance(ratio, float):
                continue
            for run in (runs[i] for i in piece.runs if i in runs and runs[i].sources):
                found[(run.name, run.sources[0].path)] = f"{ratio:.3g}x"
    return found


def _filled(cells: list[list[str]]) -> list[list[str]]:
    """The header and the rows, without the columns that are empty in every row."""
    keep = [i for i in range(len(_HEADER)) if i < 3 or any(row[i] for row in cells)]
    return [[row[i] for i in keep] for row in (list(_HEADER), *cells)]


def _set_aside(survey: Survey) -> str:
    """The command that asks for what is missing, on a line of its own."""
    assert survey.audit.ask is not None
    *before, command = advice.ask(survey.audit.ask)
    runs = counted(len(survey.audit.set_aside), "run")
    return f"{runs} set aside. {plain(unmarked(tuple(before)).strip())}\n  {plain(str(command))}"


def _headline(survey: Survey) -> str:
    counts = ", ".join(f"{survey.counts[name]} {name}" for name in _COLOURS if name in survey.counts)
    runs, groups = counted(len(survey.rows), "run"), counted(len(survey.audit.diagnoses), "group")
    return f"{runs} in {groups}: {counts or 'nothing to audit'}"


def _groups(survey: Survey) -> list[tuple[int, Diagnosis]]:
    """The diagnoses by number, in the order of their worst rows."""
    order = list(dict.fromkeys(row.group for row in survey.rows if row.group is not None))
    return [(number, survey.audit.diagnoses[number - 1]) for number in order]


def _group_cells(number: int, d: Diagnosis) -> list[str]:
    gas = sorted({run.settings.ga for run in d.runs if run.settings.ga is not None})
    shown = ",".join(map(str, gas)) if len(gas) < 6 else f"{gas[0]}..{gas[-1]}"
    return [d.verdict.value, str(number), str(len(d.runs)), shown or "?", statement(d)]


def _row_cells(row: Row, over_eval: Mapping[tuple[str, str], str]) -> list[str]:
    """The cells of `_HEADER`; the reason is left out where it is that of the group."""
    group = "" if row.group is None else str(row.group)
    return [
        row.verdict,
        row.run,
        row.ga or "?",
        _times(row.loss_factor),
        _times(row.grad_norm_factor),
        over_eval.get((row.run, row.source), ""),
        group,
        "" if row.reason in _OF_GROUP and group else rows.why_in_table(row),
    ]


def _times(factor: float | None) -> str:
    return "" if factor is None else times(factor)


def _table(header: list[str], rows: list[list[str]], width: int, color: bool) -> str:
    """Columns; names are shortened in the middle, the last column is cut at the width."""
    cells = [
        [short(" ".join(plain(c).split()), 34 if i < len(row) - 1 else 400) for i, c in enumerate(row)] for row in rows
    ]
    lines = table(cells, header=header, width=width, shorten=len(header) - 1)
    return "\n".join(paint_first(lines, [header[0], *(row[0] for row in cells)], _COLOURS) if color else lines)


def _more(count: int, limit: int | None, what: str) -> str:
    return f"... and {count - limit} more {what}: -v, or --format csv" if limit is not None and count > limit else ""


# --- for machines ----------------------------------------------------------------------------------------------------


def json_text(survey: Survey) -> str:
    """Rows, groups and counts, as a JSON object with a `schema` key."""
    content = {
        "schema": SCHEMA,
        "version": survey.audit.version,
        "counts": survey.counts,
        "rows": [dict(zip(_FIELDS, _values(row), strict=True)) for row in survey.rows],
        "groups": [
            {
                "group": number, "verdict": d.verdict.value, "reach": d.impact.value, "headline": headline(d),
                "runs": len(d.runs), "findings": [f.id for f in d.findings], "bugs": [b.bug for b in d.bugs],
                "settings_that_differ": list(d.group.settings_that_differ),
                "next_steps": list(map(in_backticks, advice.next_steps(d))),
            }
            for number, d in _groups(survey)
        ],
        "set_aside": [{"run": item.run.name, "why": set_aside(item)} for item in survey.audit.set_aside],
        "set_aside_remedy": "" if (ask := survey.audit.ask) is None else in_backticks(advice.ask(ask)),
        "notes": [note_text(note) for note in survey.audit.notes],
    }  # fmt: skip
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(survey: Survey) -> str:
    """A line for each run; a cell that a spreadsheet would take for a formula is quoted with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_FIELDS)
    for row in survey.rows:
        writer.writerow([_cell(value) for value in _values(row)])
    return out.getvalue()


def _values(row: Row) -> Iterator[Any]:
    yield from (
        row.verdict,
        row.run,
        row.ga or None,
        row.loss_factor,
        row.grad_norm_factor,
        row.group,
        rows.why(row),
        row.source,
    )


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return "" if value is None else value
    shown = " ".join(plain(value).split("\n"))
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def _runs(survey: Survey) -> list[Run]:
    audit = survey.audit
    return [*(run for d in audit.diagnoses for run in d.runs), *(item.run for item in audit.set_aside)]


def html(survey: Survey, *, redacted: bool = True) -> str:
    """One self-contained page without scripts; keys, people, homes and W&B entities are taken out."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ga_audit.output", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    names = _redact.names_in(_runs(survey))
    shown: Callable[[str], str] = (lambda value: redact(plain(value), names=names)) if redacted else plain
    environment.filters["shown"] = lambda value: shown(str(value))
    environment.tests["code"] = lambda part: isinstance(part, Code)
    environment.filters["times"] = lambda value: _times(value) or "–"
    groups = [_group_cells(number, d) for number, d in _groups(survey)]
    page = environment.get_template("survey.html.j2")
    return page.render(
        headline=_headline(survey), groups=groups, version=survey.audit.version,
        rows=[(row, "" if row.reason in _OF_GROUP and row.group else rows.why(row)) for row in survey.rows],
        over_eval=_over_eval(survey),
        ask=() if survey.audit.ask is None else advice.ask(survey.audit.ask),
    )  # fmt: skip
