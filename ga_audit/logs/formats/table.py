"""JSON Lines, JSON lists and CSV of logged values, as `_tables` reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from ga_audit.logs import roles
from ga_audit.logs.formats import Claim, Format, Rewrite, Target, _counters, _values
from ga_audit.logs.formats._tables import columns, csv_rows, json_rows, runs
from ga_audit.run import Role, Run, Source

SINK = "table"


def claim(target: Target) -> Claim:
    """YES for lines of JSON objects or a list of them, and for CSV with a header of known names."""
    if target.is_dir or b"\x00" in target.head[:4096]:
        return Claim.NO
    head = target.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    suffix = target.file.suffix.lower()
    if head[:1] == b"{" and b'"log_history"' not in head:
        line = head.partition(b"\n")[0].strip()
        if columns.begins(head) or (_is_object(line) and _has_known_name(line, target)):
            return Claim.YES
        if suffix not in {".jsonl", ".ndjson"}:
            return Claim.NO
        return Claim.YES if not _is_object(line) and _SERIES_WORD.search(line) else Claim.MAYBE
    if head[:1] == b"[" and suffix == ".json":
        return Claim.YES if b"loss" in head or b"grad" in head else Claim.MAYBE
    if suffix in {".csv", ".tsv"}:  # a data set is no log that failed
        return Claim.YES if _names_a_series(head, target) else Claim.MAYBE
    return Claim.MAYBE if head[:1] not in (b"{", b"[") and _looks_like_csv(head) else Claim.NO


_SERIES_WORD = re.compile(rb"loss|grad|ppl|perplexity|Wall time,Step,Value", re.IGNORECASE)


def _names_a_series(head: bytes, target: Target) -> bool:
    """Whether a header names something that trainers log, or what the user asks for."""
    line = head.partition(b"\n")[0]
    keys = (target.loss_key, target.grad_norm_key)
    return bool(_SERIES_WORD.search(line)) or any(key is not None and key.encode() in line for key in keys)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _has_known_name(line: bytes, target: Target) -> bool:
    """Whether a row names something that trainers log, or a step beside numbers."""
    row = json.loads(line)
    known = any(roles.role_of(name) is not None for name in row) or {target.loss_key, target.grad_norm_key} & set(row)
    numbers = sum(_values.number(value) is not None for value in row.values())
    return bool(known) or (numbers > 1 and any(_counters.is_position(name) for name in row))


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
        rows, notes = json_rows.rows_of(data, target)
        if runs.is_table_of_runs(rows):
            yield from runs.runs(rows, target)
            return
        yield json_rows.run_of_rows(target, rows, notes)
    else:
        yield from csv_rows.runs(data, target)


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
        new = json_rows.corrected(data, target, rewrite)
    else:
        new = csv_rows.corrected(data, target, rewrite)
    path = destination / original.name
    path.write_bytes(new.encode("utf-8", "surrogateescape"))
    return [path]


FORMAT = Format(claim=claim, read=read, write=write, several_runs=True)
