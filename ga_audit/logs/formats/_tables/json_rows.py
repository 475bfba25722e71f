"""JSON Lines and JSON lists of rows: LLaMA-Factory's `trainer_log.jsonl`, ms-swift's `logging.jsonl`, anybody's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ga_audit.errors import UnreadableLog
from ga_audit.logs import settings
from ga_audit.logs.formats import HEAD_BYTES, Rewrite, Target, _counters
from ga_audit.logs.formats._points import NO_STEP, Rows, columns_of, need_series
from ga_audit.logs.formats._tables import columns
from ga_audit.logs.formats._text import json_places, json_text
from ga_audit.logs.formats._text import places as value_places
from ga_audit.logs.formats._text.json_places import JsonObject
from ga_audit.logs.formats._values import number as number_of
from ga_audit.run import Note, NoteCode, Run, Source

SINK = "table"
PROVENANCE = "ga_audit"
_Part = tuple[list[int], list[Any]]  # rows and their values


def rows_of(data: bytes, target: Target) -> tuple[list[dict[str, Any]], list[Note]]:
    """The rows of JSON Lines, of a list, or of an object of columns; notes on what was lost."""
    if columns.begins(data[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")) and (whole := columns.load(data)) is not None:
        found = columns.rows(whole)
        if found is not None:
            short = columns.names_left_out(whole, found)
            note = Note(NoteCode.SHORT_COLUMNS, where=target.path, count=len(short), facts={"names": tuple(short)})
            return found, [note] if short else []
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        content = json_text.load(data, target.path)
        return [row for row in content if isinstance(row, dict)], []
    try:
        # one parse for the whole file: half the time of one for each line
        lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
        rows = json_text.parse(b"[%b]" % b",".join(lines))
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
            notes.append(Note(NoteCode.BROKEN_LINE, where=f"{target.path}:{number}", facts={"error": str(error)}))
            continue
        if isinstance(row, dict):
            rows.append(row)
    if not rows:
        raise UnreadableLog("holds no line of JSON", where=target.path, remedy="Give a JSON Lines log.")
    if len(notes) > 5:
        notes = [
            *notes[:4],
            Note(NoteCode.BROKEN_LINE, where=target.path, count=len(notes) - 4),
        ]
    return rows, notes


def run_of_rows(target: Target, found: Sequence[Mapping[str, Any]], notes: Sequence[Note]) -> Run:
    placed = _counters.place(found, target.path)
    rows = Rows(SINK, target.path, placed.counted, placed.derived)
    made = [row[PROVENANCE] for row in found if PROVENANCE in row][-1:]
    steps = np.array([NO_STEP if step is None else step for step in placed.positions], np.int64)
    for name, parts in _columns(found, steps != NO_STEP).items():
        which, values = _by_row(parts)
        rows.add_column(name, steps[which], values)
    series, left = rows.series(target)
    need_series(series, target.path, left)
    return Run(
        target.path, target.file.stem if target.path != "-" else "standard input", target.path,
        settings.merge(rows.settings(), placed.settings), series, (Source(SINK, target.path),),
        notes=(*notes, *placed.notes), left_out=left, corrected_by=_version(made[0]) if made else None,
    )  # fmt: skip


def _version(made: Any) -> str:
    return str(made.get("version", "ga-audit")) if isinstance(made, dict) else "ga-audit"


def _columns(found: Sequence[Mapping[str, Any]], known: NDArray[np.bool_]) -> dict[str, list[_Part]]:
    """Series name -> rows and values, for each name of the log that belongs to it; of rows whose place is known."""
    columns: dict[str, list[_Part]] = {}
    evaluations = _counters.are_evaluations(found)
    any_evaluation, all_known = any(evaluations), bool(np.all(known))
    for name, which, values in columns_of(found):
        if name == PROVENANCE:
            continue
        if not any_evaluation and name != "train_loss" and all_known and _scalars(values):
            if (own := _series_of(name, {}, False)) is not None:
                columns.setdefault(own, []).append((which.tolist(), values))
            continue
        parts: dict[str, _Part] = {}
        for row, value in zip(which.tolist(), values, strict=True):
            own = _series_of(name, found[row], evaluations[row])
            if own is not None and known[row] and _is_scalar(value):
                rows, taken = parts.setdefault(own, ([], []))
                rows.append(row)
                taken.append(value)
        for own, part in parts.items():
            columns.setdefault(own, []).append(part)
    return columns


def _by_row(parts: Sequence[_Part]) -> _Part:
    """One series from the columns of several names, in the order of the rows."""
    if len(parts) == 1:
        return parts[0]
    pairs = sorted(chain(*(zip(*part, strict=True) for part in parts)), key=itemgetter(0))
    return [row for row, _ in pairs], [value for _, value in pairs]


def _scalars(values: Sequence[Any]) -> bool:
    return not {dict, list} & set(map(type, values))


def _series_of(name: str, row: Mapping[str, Any], evaluation: bool) -> str | None:
    """The series that a value of a row belongs to; None of counters."""
    if name == "train_loss" and "train_runtime" in row:
        return "train/train_loss"  # the closing summary, not a curve
    return None if _counters.is_position(name) else _counters.series_name(name, evaluation)


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


def corrected(data: bytes, target: Target, rewrite: Rewrite) -> str:
    text = data.decode("utf-8", "surrogateescape")
    objects = _objects(text)
    if repr([dict(found.values) for found in objects]) != repr(rows_of(data, target)[0]):
        raise value_places.not_writable(target.path, "its lines are not one JSON object each")
    places, owners = _values_read(text, objects)
    made = value_places.corrections(places, rewrite, target.path)
    edits = json_places.edits(text, list(made.values()), include_original=rewrite.include_original)
    if made:
        edits.append(json_places.added_member(text, owners[min(made)], PROVENANCE, dict(rewrite.provenance)))
    new = value_places.edited(text, edits, target.path)
    value_places.check(places, made, _values_read(new, _objects(new))[0], text, target.path)
    return new


def _objects(text: str) -> list[JsonObject]:
    start = text.lstrip("\ufeff \t\r\n")
    if start[:1] == "[":
        return list(json_places.objects_in_list(text, len(text) - len(start)))
    return list(json_places.objects_in_lines(text))


def _values_read(text: str, objects: Sequence[JsonObject]) -> tuple[list[value_places.Place], list[JsonObject]]:
    """The numbers that `read` takes from the rows, and the row that holds each."""
    places, owners = [], []
    rows = [row.values for row in objects]
    for row, step in zip(objects, _counters.place(rows, "", _is_read).positions, strict=True):
        evaluation = _counters.is_evaluation(row.values)
        for key, value in row.values.items():
            number = number_of(value)
            name = _series_of(key, row.values, evaluation)
            if name is None or key.startswith(json_places.ORIGINAL) or number is None or step is None:
                continue
            places.append(value_places.Place("", name, step, number, row.number_span(text, key), key))
            owners.append(row)
    return places, owners


def _is_read(name: str, value: Any) -> bool:
    """Whether `read` takes a value; not what a corrected copy keeps of the original."""
    return not name.startswith(json_places.ORIGINAL) and _counters.is_number(name, value)
