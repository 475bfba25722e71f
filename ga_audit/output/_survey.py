"""A survey of many runs as text, JSON, CSV or one HTML page; everything that came from a log is escaped."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from ga_audit.finding import Diagnosis
from ga_audit.output import _redact
from ga_audit.output._safe import plain, redact, short
from ga_audit.output.wording.notes import note as note_text

if TYPE_CHECKING:
    from ga_audit.run import Run
    from ga_audit.scan.survey import Row, Survey

SCHEMA = "ga-audit-scan/1"
_SHOWN = 40  # rows of each table in a terminal
_COLOURS = {"scaled": "red", "inconclusive": "yellow", "not read": "magenta", "healthy": "green"}
_FIELDS = ("verdict", "run", "gradient_accumulation_steps", "loss_factor", "grad_norm_factor", "group", "why", "source")


def text(survey: Survey, *, color: bool = False, width: int = 100, every: bool = False) -> str:
    """Groups, then runs, the worst first; at most 40 of each unless `every`."""
    limit = None if every else _SHOWN
    blocks = [_headline(survey)]
    groups = [_group_cells(number, d) for number, d in _groups(survey)]
    if groups:
        blocks.append(_table(["verdict", "group", "runs", "GA", "what"], groups[:limit], width, color))
        blocks.append(_more(len(groups), limit, "groups"))
    rows = [_row_cells(row) for row in survey.rows]
    if rows:
        blocks.append(
            _table(["verdict", "run", "GA", "loss is", "norm is", "group", "why"], rows[:limit], width, color)
        )
        blocks.append(_more(len(rows), limit, "runs"))
    if survey.audit.set_aside:
        blocks.append(_set_aside(survey))
    blocks += [f"note: {plain(note_text(note))}" for note in survey.audit.notes[:limit]]
    return "\n\n".join(block for block in blocks if block)


def _set_aside(survey: Survey) -> str:
    """The command that asks for what is missing, on a line of its own."""
    before, _, command = survey.audit.set_aside_remedy.rstrip("`").partition("`")
    count = len(survey.audit.set_aside)
    return f"{count} run{'s' * (count != 1)} set aside, not judged. {plain(before.strip())}\n  {plain(command)}"


def _bare(sentence: str) -> str:
    """Without the verdict, which has a column of its own."""
    return sentence.removeprefix("Inconclusive, because ").removeprefix("Healthy: ")


def _headline(survey: Survey) -> str:
    counts = ", ".join(f"{survey.counts[name]} {name}" for name in _COLOURS if name in survey.counts)
    runs = len(survey.rows)
    groups = len(survey.audit.diagnoses)
    return f"{runs} run{'s' * (runs != 1)} in {groups} group{'s' * (groups != 1)}: {counts or 'nothing to audit'}"


def _groups(survey: Survey) -> list[tuple[int, Diagnosis]]:
    """The diagnoses by number, in the order of their worst rows."""
    order = list(dict.fromkeys(row.group for row in survey.rows if row.group is not None))
    return [(number, survey.audit.diagnoses[number - 1]) for number in order]


def _group_cells(number: int, d: Diagnosis) -> list[str]:
    gas = sorted({run.settings.ga for run in d.runs if run.settings.ga is not None})
    shown = ",".join(map(str, gas)) if len(gas) < 6 else f"{gas[0]}..{gas[-1]}"
    return [d.verdict.value, str(number), str(len(d.runs)), shown or "?", _bare(d.headline)]


def _row_cells(row: Row) -> list[str]:
    group = "" if row.group is None else str(row.group)
    return [
        row.verdict,
        row.run,
        row.ga or "?",
        _times(row.loss_factor),
        _times(row.grad_norm_factor),
        group,
        _bare(row.why),
    ]


def _times(factor: float | None) -> str:
    if factor is None:
        return ""
    return f"{factor:g}x" if factor >= 1 else f"1/{1 / factor:g}x"


def _table(header: list[str], rows: list[list[str]], width: int, color: bool) -> str:
    """Columns; names are shortened in the middle, the last column is cut at the width."""
    cells = [
        [short(" ".join(plain(c).split()), 34 if i < len(row) - 1 else 400) for i, c in enumerate(row)] for row in rows
    ]
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header) - 1)]
    room = max(width - sum(widths) - 2 * len(widths), 24)
    lines = []
    for row in [header, *cells]:
        last = row[-1] if len(row[-1]) <= room else row[-1][: room - 1] + "…"
        line = "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), last]).rstrip()
        colour = _COLOURS.get(row[0])
        lines.append(click.style(row[0], fg=colour, bold=True) + line[len(row[0]) :] if color and colour else line)
    return "\n".join(lines)


def _more(count: int, limit: int | None, what: str) -> str:
    return f"... and {count - limit} more {what}: --all, or --format csv" if limit is not None and count > limit else ""


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
                "group": number, "verdict": d.verdict.value, "reach": d.reach.value, "headline": d.headline,
                "runs": len(d.runs), "findings": [f.id for f in d.findings], "bugs": [b.bug for b in d.bugs],
                "settings_that_differ": list(d.differing), "next_steps": list(d.next_steps),
            }
            for number, d in _groups(survey)
        ],
        "set_aside": [{"run": item.run.name, "why": item.why} for item in survey.audit.set_aside],
        "set_aside_remedy": survey.audit.set_aside_remedy,
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
        row.why,
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
    environment.filters["times"] = lambda value: _times(value) or "–"
    groups = [_group_cells(number, d) for number, d in _groups(survey)]
    page = environment.get_template("survey.html.j2")
    return page.render(
        headline=_headline(survey), groups=groups, rows=survey.rows, version=survey.audit.version,
        remedy=survey.audit.set_aside_remedy,
    )  # fmt: skip
