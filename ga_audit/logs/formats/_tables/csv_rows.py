"""CSV: W&B's chart and history exports, TensorBoard's download, Lightning's `metrics.csv`, anybody's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ga_audit.errors import UnreadableLog
from ga_audit.logs import roles, settings
from ga_audit.logs.formats import Rewrite, Target, _counters, _values
from ga_audit.logs.formats._counters import Placement
from ga_audit.logs.formats._points import Rows, need_series
from ga_audit.logs.formats._tables import runs as table_of_runs
from ga_audit.logs.formats._text import csv_cells, json_places
from ga_audit.logs.formats._text import places as value_places
from ga_audit.logs.formats._text.csv_cells import CellRow
from ga_audit.logs.formats._values import number as number_of
from ga_audit.run import Note, NoteCode, Run, RunSettings, Source

SINK = "table"
PROVENANCE = "ga_audit"
_CHART = re.compile(r"^(?P<run>.+?) - (?P<key>[^-].*?)(?P<bound>__MIN|__MAX)?$")
_TENSORBOARD = ("Wall time", "Step", "Value")
_CORRECTED = f"ga-audit ({PROVENANCE} column)"
_BLANK = frozenset({"", "NULL", "null", "None"})


def _dialect(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _header_and_rows(data: bytes, target: Target) -> tuple[list[str], list[list[str]]]:
    rows = _cells_read(data, target)
    return [name.strip() for name in rows[0]], rows[1:]


def _cells_read(data: bytes, target: Target) -> list[list[str]]:
    import csv
    import io

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableLog(
            f"is no UTF-8 text (byte {error.start})", where=target.path, remedy="Give a CSV file."
        ) from None
    text = text.replace("\x00", "")
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=_dialect(text)) if row]
    except csv.Error as error:
        raise UnreadableLog(f"broken CSV: {error}", where=target.path, remedy="Export it again.") from None
    if len(rows) < 2:
        raise UnreadableLog(
            "has no row below the header", where=target.path, remedy="Give the log of a run that logged."
        )
    return rows


def runs(data: bytes, target: Target) -> Iterator[Run]:
    header, rows = _header_and_rows(data, target)
    notes: list[Note] = []
    ragged = sum(len(row) != len(header) for row in rows)
    if ragged:
        notes.append(Note(NoteCode.RAGGED_ROWS, where=target.path, count=ragged))
    if tuple(header[:3]) == _TENSORBOARD:
        run = _tensorboard_download(target, rows, notes)
        yield replace(run, corrected_by=_CORRECTED if PROVENANCE in header else None)
        return
    columns = {name: i for i, name in reversed(list(enumerate(header)))}
    charts = _chart_columns(header)
    dicts = _dicts(rows, columns)
    if not charts and PROVENANCE not in columns and table_of_runs.is_table_of_runs(dicts):
        yield from table_of_runs.runs(dicts, target)
        return
    if charts:
        for name, keys in charts.items():
            run = _run_of_columns(target, name, {key: columns[c] for key, c in keys.items()}, columns, rows, notes)
            # the column is the name: the same key stands once for each run of the chart
            yield replace(run, series=tuple(replace(s, name=keys[s.name]) for s in run.series))
    else:
        own = {name: columns[name] for name in _own_columns(columns)}
        yield _run_of_columns(target, target.file.stem, own, columns, rows, notes)


def _own_columns(columns: Mapping[str, int]) -> list[str]:
    """Names of the columns that are no step."""
    return [name for name in columns if not _counters.is_position(name)]


def _chart_columns(header: Sequence[str]) -> dict[str, dict[str, str]]:
    """Columns of W&B's chart export by run: `my-run - train/loss`, with `__MIN` and `__MAX` beside it."""
    runs: dict[str, dict[str, str]] = {}
    for column in header:
        match = _CHART.match(column)
        if match and match["bound"] is None and match["key"] != "_step":
            runs.setdefault(match["run"], {})[match["key"]] = column
    return runs


def _dicts(rows: Sequence[Sequence[str]], columns: Mapping[str, int]) -> list[dict[str, str]]:
    """Rows by name, without blank cells."""
    return [{name: row[i] for name, i in columns.items() if i < len(row) and row[i] not in _BLANK} for row in rows]


def _placed(rows: Sequence[Sequence[str]], columns: Mapping[str, int], where: str) -> tuple[Placement, list[bool]]:
    """Where the rows of a table lie, and which of them are evaluations."""
    dicts = _dicts(rows, columns)
    return _counters.place(dicts, where), [_counters.is_evaluation(row) for row in dicts]


def _run_of_columns(
    target: Target, name: str, own: Mapping[str, int], columns: Mapping[str, int], rows: Sequence[Sequence[str]],
    notes: Sequence[Note],
) -> Run:  # fmt: skip
    placed, evaluations = _placed(rows, columns, target.path)
    found = Rows(SINK, target.path, placed.counted, placed.derived)
    for row, step, evaluation in zip(rows, placed.positions, evaluations, strict=True):
        for key, i in own.items():
            if step is not None and i < len(row) and row[i] not in _BLANK:
                found.add(_counters.series_name(key, evaluation), step, row[i])
    series, left = found.series(target)
    need_series(series, target.path, left)
    made = _CORRECTED if PROVENANCE in columns else None
    return Run(
        f"{target.path}#{name}", name, f"{target.path}#{name}", settings.merge(found.settings(), placed.settings),
        series, (Source(SINK, target.path),), notes=(*notes, *placed.notes), left_out=left, corrected_by=made,
    )  # fmt: skip


def _tensorboard_download(target: Target, rows: Sequence[Sequence[str]], notes: Sequence[Note]) -> Run:
    """TensorBoard's download is one tag; which one, only the file's name says: `run-NAME-tag-train_loss.csv`."""
    stem = target.file.stem
    run, _, tag = stem.partition("-tag-")
    key = tag.replace("_", "/", 1) if tag and roles.role_of(tag.replace("_", "/", 1)) else (tag or stem)
    if roles.role_of(key, loss_key=target.loss_key, grad_norm_key=target.grad_norm_key) is None:
        key = target.loss_key or ("loss" if "loss" in stem.lower() else key)
    found = Rows(SINK, target.path)
    for row in rows:
        if len(row) >= 3 and (step := _values.step(row[1])) is not None:
            found.add(key, step, row[2])
    series, left = found.series(target)
    need_series(series, target.path, left)
    name = run.removeprefix("run-") if tag else stem
    return Run(target.path, name, target.path, RunSettings(), series, (Source(SINK, target.path),),
               notes=tuple(notes), left_out=left)  # fmt: skip


def corrected(data: bytes, target: Target, rewrite: Rewrite) -> str:
    text = data.decode()
    header, *rows = _cell_rows(text)
    if [list(row.values) for row in (header, *rows)] != _cells_read(data, target):
        raise value_places.not_writable(target.path, "its cells are not where their quotes say")
    # the least and the greatest value of a bin are scaled as its mean is
    bounds = [replace(r, name=r.name + bound, steps=None) for r in rewrite.rescales for bound in ("__MIN", "__MAX")]
    rewrite = replace(rewrite, rescales=[*rewrite.rescales, *bounds])
    places = _values_read(text, rewrite)
    made = value_places.corrections(places, rewrite, target.path)
    edits: list[value_places.Edit] = [
        (*c.span, value_places.text_like(text[slice(*c.span)], c.number)) for c in made.values()
    ]
    columns = _columns_read([name.strip() for name in header.values], rewrite)
    changed = {made[i].place.name for i in made}
    kept = [i for i, name in columns.items() if name in changed] if rewrite.include_original else []
    stamp = json.dumps(dict(rewrite.provenance))
    delimiter, width = _dialect(text.lstrip("\ufeff")), len(header.values)
    for row in (header, *rows):
        name = json_places.ORIGINAL if row is header else ""
        cells = [name + row.values[i].strip() if i < len(row.values) else "" for i in kept]
        edit = csv_cells.appended(row, width, [*cells, PROVENANCE if row is header else stamp], delimiter)
        if edit is not None:
            edits.append(edit)
            stamp = stamp if row is header else ""
    new = value_places.edited(text, edits, target.path)
    value_places.check(places, made, _values_read(new, rewrite), text, target.path)
    return new


def _cell_rows(text: str) -> list[CellRow]:
    start = 1 if text.startswith("\ufeff") else 0
    return list(csv_cells.rows(text, _dialect(text[start:]), start))


def _columns_read(header: Sequence[str], rewrite: Rewrite) -> dict[int, str]:
    """Index and series name of each column that `read` takes, with the bounds of W&B's charts."""
    if tuple(header[:3]) == _TENSORBOARD:
        return {2: rewrite.rescales[0].name}
    columns = {name: i for i, name in reversed(list(enumerate(header)))}
    charts = _chart_columns(header)
    names = [c for keys in charts.values() for c in keys.values()] if charts else _own_columns(columns)
    bounds = [name + bound for name in names for bound in ("__MIN", "__MAX") if charts]
    return {columns[name]: name for name in (*names, *bounds) if name in columns}


def _values_read(text: str, rewrite: Rewrite) -> list[value_places.Place]:
    """The numbers that `read` takes from the cells."""
    header, *rows = _cell_rows(text)
    names = [name.strip() for name in header.values]
    cells = [row.values for row in rows]
    if tuple(names[:3]) == _TENSORBOARD:
        steps = [_values.step(row[1]) if len(row) > 1 else None for row in cells]
        evaluations = [False] * len(rows)
    else:
        indices = {n: i for i, n in reversed(list(enumerate(names))) if not n.startswith(json_places.ORIGINAL)}
        placed, evaluations = _placed(cells, indices, "")
        steps = placed.positions
    columns = {i: n for i, n in _columns_read(names, rewrite).items() if not n.startswith(json_places.ORIGINAL)}
    places = []
    for row, step, evaluation in zip(rows, steps, evaluations, strict=True):
        if step is None:
            continue
        for i, column in columns.items():
            name = _counters.series_name(column, evaluation)
            number = number_of(row.values[i]) if i < len(row.values) else None
            if number is not None:
                span = csv_cells.number_span(text, row.spans[i])
                places.append(value_places.Place("", name, step, number, span))
    return places
