"""JSON Lines, JSON lists and CSV of logged values.

JSON Lines: LLaMA-Factory's `trainer_log.jsonl`, ms-swift's `logging.jsonl`, one object a step of anybody's own. CSV:
W&B's chart export (one column a run) and history export, TensorBoard's download, Lightning's `metrics.csv`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import roles
from ga_audit.logs.formats import Claim, Rewrite, Target
from ga_audit.logs.formats._points import STEP_KEYS, Rows, need_series, step_of
from ga_audit.logs.formats._text import csv_cells, json_places, json_text
from ga_audit.logs.formats._text import places as value_places
from ga_audit.logs.formats._text.csv_cells import CellRow
from ga_audit.logs.formats._text.json_places import JsonObject
from ga_audit.logs.formats._values import number as number_of
from ga_audit.run import Note, Role, Run, RunSettings, Source

SINK = "table"
SEVERAL_RUNS = True
_JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
_CHART = re.compile(r"^(?P<run>.+?) - (?P<key>[^-].*?)(?P<bound>__MIN|__MAX)?$")
_TENSORBOARD = ("Wall time", "Step", "Value")
PROVENANCE = "ga_audit"
_CORRECTED = f"ga-audit ({PROVENANCE} column)"


def claim(target: Target) -> Claim:
    """YES for lines of JSON objects or a list of them, and for CSV with a header of known names."""
    if target.is_dir or b"\x00" in target.head[:4096]:
        return Claim.NO
    head = target.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    suffix = target.file.suffix.lower()
    if head[:1] == b"{" and b'"log_history"' not in head:
        line = head.partition(b"\n")[0].strip()
        if suffix in {".jsonl", ".ndjson"} or (_is_object(line) and _has_known_name(line)):
            return Claim.YES
        return Claim.NO
    if head[:1] == b"[" and suffix == ".json":
        return Claim.YES if b"loss" in head or b"grad" in head else Claim.MAYBE
    if suffix in {".csv", ".tsv"}:
        return Claim.YES
    return Claim.MAYBE if head[:1] not in (b"{", b"[") and _looks_like_csv(head) else Claim.NO


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _has_known_name(line: bytes) -> bool:
    row = json.loads(line)
    return step_of(row) is not None or any(roles.role_of(str(name)) is not None for name in row)


def _looks_like_csv(head: bytes) -> bool:
    line = head.partition(b"\n")[0].decode("utf-8", "replace")
    names = [name.strip().strip('"') for name in line.split(",")]
    return len(names) > 1 and any(roles.role_of(n) in (Role.LOSS, Role.GRAD_NORM) for n in names)


def read(target: Target) -> Iterator[Run]:
    """One run, or one for each run of a chart export.

    Raises
    ------
    UnreadableLog
        nothing to read, or no series of ours.
    """
    data = target.read_bytes()
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] in (b"{", b"["):
        rows, notes = _json_rows(data, target)
        yield _run_of_rows(target, rows, notes)
    else:
        yield from _csv_runs(data, target)


# --- JSON ------------------------------------------------------------------------------------------------------------


def _json_rows(data: bytes, target: Target) -> tuple[list[dict[str, Any]], list[Note]]:
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        content = json_text.load(data, target.path)
        return [row for row in content if isinstance(row, dict)], []
    try:
        # one parse for the whole file: half the time of one for each line
        lines = [line for line in data.decode("utf-8-sig").splitlines() if line.strip()]
        rows = json.loads("[" + ",".join(lines) + "]")
        return [row for row in rows if isinstance(row, dict)], []
    except (ValueError, RecursionError):
        return _json_lines_one_by_one(data, target)


def _json_lines_one_by_one(data: bytes, target: Target) -> tuple[list[dict[str, Any]], list[Note]]:
    rows: list[dict[str, Any]] = []
    notes: list[Note] = []
    for number, line in enumerate(data.splitlines(), 1):
        text = line.strip(b"\x00 \t\r\n")
        if not text:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            notes.append(
                Note("broken-line", f"line is no JSON and is skipped: {error}"[:120], f"{target.path}:{number}")
            )
            continue
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        raise UnreadableLog("holds no line of JSON", where=target.path, remedy="Give a JSON Lines log.")
    if len(notes) > 5:
        notes = [
            *notes[:4],
            Note("broken-line", f"{len(notes) - 4} more lines are no JSON and are skipped", target.path),
        ]
    return rows, notes


def _run_of_rows(target: Target, found: Sequence[Mapping[str, Any]], notes: Sequence[Note]) -> Run:
    rows = Rows(SINK, target.path)
    made = ""
    for row in found:
        step = step_of(row)
        for name, value in row.items():
            if name == PROVENANCE:
                made = str(value.get("version", "ga-audit")) if isinstance(value, dict) else "ga-audit"
            elif name == "train_loss" and "train_runtime" in row:
                rows.add("train/train_loss", step, value)  # the closing summary, not a curve
            elif name not in STEP_KEYS and not isinstance(value, dict | list):
                rows.add(name, step, value)
    series, left = rows.series(target)
    need_series(series, target.path, left)
    return Run(
        target.path, target.file.stem if target.path != "-" else "standard input", target.path, rows.settings(), series,
        (Source(SINK, target.path),), notes=tuple(notes), left_out=left, corrected_by=made or None,
    )  # fmt: skip


# --- CSV -------------------------------------------------------------------------------------------------------------


def _dialect(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _csv_rows(data: bytes, target: Target) -> tuple[list[str], list[list[str]]]:
    rows = _csv_cells_read(data, target)
    return [name.strip() for name in rows[0]], rows[1:]


def _csv_cells_read(data: bytes, target: Target) -> list[list[str]]:
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


def _csv_runs(data: bytes, target: Target) -> Iterator[Run]:
    header, rows = _csv_rows(data, target)
    notes: list[Note] = []
    ragged = sum(len(row) != len(header) for row in rows)
    if ragged:
        notes.append(
            Note("ragged-rows", f"{ragged} rows have more or fewer cells than the header", target.path, ragged)
        )
    if tuple(header[:3]) == _TENSORBOARD:
        run = _tensorboard_download(target, rows, notes)
        yield replace(run, corrected_by=_CORRECTED if PROVENANCE in header else None)
        return
    columns = {name: i for i, name in reversed(list(enumerate(header)))}
    charts = _chart_columns(header)
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
    return [name for name in columns if name not in STEP_KEYS and name.lower() not in STEP_KEYS]


def _chart_columns(header: Sequence[str]) -> dict[str, dict[str, str]]:
    """Columns of W&B's chart export by run: `my-run - train/loss`, with `__MIN` and `__MAX` beside it."""
    runs: dict[str, dict[str, str]] = {}
    for column in header:
        match = _CHART.match(column)
        if match and match["bound"] is None and match["key"] != "_step":
            runs.setdefault(match["run"], {})[match["key"]] = column
    return runs


def _step_column(columns: Mapping[str, int]) -> int | None:
    lower = {name.lower(): i for name, i in columns.items()}
    for key in STEP_KEYS:
        if key in columns or key in lower:
            return columns.get(key, lower.get(key))
    return None


def _run_of_columns(
    target: Target, name: str, own: Mapping[str, int], columns: Mapping[str, int], rows: Sequence[Sequence[str]],
    notes: Sequence[Note],
) -> Run:  # fmt: skip
    found = Rows(SINK, target.path)
    at = _step_column(columns)
    for row in rows:
        step = step_of({"step": row[at]}) if at is not None and at < len(row) else None
        if at is not None and step is None:
            continue  # a footer, a torn last line
        for key, i in own.items():
            if i < len(row) and row[i] not in ("", "NULL", "null", "None"):
                found.add(key, step, row[i])
    series, left = found.series(target)
    need_series(series, target.path, left)
    made = _CORRECTED if PROVENANCE in columns else None
    return Run(
        f"{target.path}#{name}", name, f"{target.path}#{name}", found.settings(), series, (Source(SINK, target.path),),
        notes=tuple(notes), left_out=left, corrected_by=made,
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
        if len(row) >= 3 and (step := step_of({"step": row[1]})) is not None:
            found.add(key, step, row[2])
    series, left = found.series(target)
    need_series(series, target.path, left)
    name = run.removeprefix("run-") if tag else stem
    return Run(target.path, name, target.path, RunSettings(), series, (Source(SINK, target.path),),
               notes=tuple(notes), left_out=left)  # fmt: skip


# --- writing ---------------------------------------------------------------------------------------------------------


def write(source: Source, rewrite: Rewrite, destination: Path) -> list[Path]:
    """A corrected copy: the numbers of the rescaled series change, every other byte stays.

    Provenance is a key of the first row that changes (JSON) or a last column (CSV).

    Raises
    ------
    AuditError
        a value to be corrected has no place of its own in the text.
    """
    original = Path(source.path)
    data = original.read_bytes()
    target = Target(source.path)
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] in (b"{", b"["):
        new = _corrected_json(data, target, rewrite)
    else:
        new = _corrected_csv(data, target, rewrite)
    path = destination / original.name
    path.write_bytes(new.encode("utf-8", "surrogateescape"))
    return [path]


def _corrected_json(data: bytes, target: Target, rewrite: Rewrite) -> str:
    text = data.decode("utf-8", "surrogateescape")
    objects = _json_objects(text)
    if repr([dict(found.values) for found in objects]) != repr(_json_rows(data, target)[0]):
        raise value_places.not_writable(target.path, "its lines are not one JSON object each")
    places, owners = _json_values(text, objects)
    made = value_places.corrections(places, rewrite, target.path)
    edits = json_places.edits(text, list(made.values()), include_original=rewrite.include_original)
    if made:
        edits.append(json_places.added_member(text, owners[min(made)], PROVENANCE, dict(rewrite.provenance)))
    new = value_places.edited(text, edits, target.path)
    value_places.check(places, made, _json_values(new, _json_objects(new))[0], text, target.path)
    return new


def _json_objects(text: str) -> list[JsonObject]:
    start = text.lstrip("\ufeff \t\r\n")
    if start[:1] == "[":
        return list(json_places.objects_in_list(text, len(text) - len(start)))
    return list(json_places.objects_in_lines(text))


def _json_values(text: str, objects: Sequence[JsonObject]) -> tuple[list[value_places.Place], list[JsonObject]]:
    """The numbers that `read` takes from the rows, and the row that holds each."""
    places, owners = [], []
    for row in objects:
        step = step_of(row.values)
        for key, value in row.values.items():
            number = number_of(value)
            if key in STEP_KEYS or key.startswith(json_places.ORIGINAL) or number is None:
                continue
            name = "train/train_loss" if key == "train_loss" and "train_runtime" in row.values else key
            places.append(value_places.Place("", name, step, number, row.number_span(text, key), key))
            owners.append(row)
    return places, owners


def _corrected_csv(data: bytes, target: Target, rewrite: Rewrite) -> str:
    text = data.decode()
    header, *rows = _cell_rows(text)
    if [list(row.values) for row in (header, *rows)] != _csv_cells_read(data, target):
        raise value_places.not_writable(target.path, "its cells are not where their quotes say")
    # the least and the greatest value of a bin are scaled as its mean is
    bounds = [replace(r, name=r.name + bound, steps=None) for r in rewrite.rescales for bound in ("__MIN", "__MAX")]
    rewrite = replace(rewrite, rescales=[*rewrite.rescales, *bounds])
    places = _csv_values(text, rewrite)
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
    value_places.check(places, made, _csv_values(new, rewrite), text, target.path)
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


def _csv_values(text: str, rewrite: Rewrite) -> list[value_places.Place]:
    """The numbers that `read` takes from the cells."""
    header, *rows = _cell_rows(text)
    names = [name.strip() for name in header.values]
    at = 1 if tuple(names[:3]) == _TENSORBOARD else _step_column({n: i for i, n in reversed(list(enumerate(names)))})
    columns = {i: n for i, n in _columns_read(names, rewrite).items() if not n.startswith(json_places.ORIGINAL)}
    places = []
    for row in rows:
        step = step_of({"step": row.values[at]}) if at is not None and at < len(row.values) else None
        if at is not None and step is None:
            continue
        for i, name in columns.items():
            number = number_of(row.values[i]) if i < len(row.values) else None
            if number is not None:
                span = csv_cells.number_span(text, row.spans[i])
                places.append(value_places.Place("", name, step, number, span))
    return places
