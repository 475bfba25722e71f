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

from ga_audit import naming
from ga_audit.errors import UnreadableLog
from ga_audit.formats import Claim, Rewrite, Target, _json_text
from ga_audit.formats._points import STEP_KEYS, Rows, need_series, step_of
from ga_audit.run import Note, Role, Run, RunSettings, Source

SINK = "table"
_JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
_CHART = re.compile(r"^(?P<run>.+?) - (?P<key>[^-].*?)(?P<bound>__MIN|__MAX)?$")
_TENSORBOARD = ("Wall time", "Step", "Value")
PROVENANCE = "ga_audit"


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
    return Claim.MAYBE if _looks_like_csv(head) else Claim.NO


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _has_known_name(line: bytes) -> bool:
    row = json.loads(line)
    return step_of(row) is not None or any(naming.role_of(str(name)) is not None for name in row)


def _looks_like_csv(head: bytes) -> bool:
    line = head.partition(b"\n")[0].decode("utf-8", "replace")
    names = [name.strip().strip('"') for name in line.split(",")]
    return len(names) > 1 and any(naming.role_of(n) in (Role.LOSS, Role.GRAD_NORM) for n in names)


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
        content = _json_text.load(data, target.path)
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
    return [name.strip() for name in rows[0]], rows[1:]


def _csv_runs(data: bytes, target: Target) -> Iterator[Run]:
    header, rows = _csv_rows(data, target)
    notes: list[Note] = []
    ragged = sum(len(row) != len(header) for row in rows)
    if ragged:
        notes.append(
            Note("ragged-rows", f"{ragged} rows have more or fewer cells than the header", target.path, ragged)
        )
    if tuple(header[:3]) == _TENSORBOARD:
        yield _tensorboard_download(target, rows, notes)
        return
    columns = {name: i for i, name in reversed(list(enumerate(header)))}
    charts = _chart_columns(header)
    if charts:
        for name, keys in charts.items():
            run = _run_of_columns(target, name, {key: columns[c] for key, c in keys.items()}, columns, rows, notes)
            # the column is the name: the same key stands once for each run of the chart
            yield replace(run, series=tuple(replace(s, name=keys[s.name]) for s in run.series))
    else:
        own = {name: i for name, i in columns.items() if name not in STEP_KEYS and name.lower() not in STEP_KEYS}
        yield _run_of_columns(target, target.file.stem, own, columns, rows, notes)


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
    made = f"ga-audit ({PROVENANCE} column)" if PROVENANCE in columns else None
    return Run(
        f"{target.path}#{name}", name, f"{target.path}#{name}", found.settings(), series, (Source(SINK, target.path),),
        notes=tuple(notes), left_out=left, corrected_by=made,
    )  # fmt: skip


def _tensorboard_download(target: Target, rows: Sequence[Sequence[str]], notes: Sequence[Note]) -> Run:
    """TensorBoard's download is one tag; which one, only the file's name says: `run-NAME-tag-train_loss.csv`."""
    stem = target.file.stem
    run, _, tag = stem.partition("-tag-")
    key = tag.replace("_", "/", 1) if tag and naming.role_of(tag.replace("_", "/", 1)) else (tag or stem)
    if naming.role_of(key, loss_key=target.loss_key, grad_norm_key=target.grad_norm_key) is None:
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
    """A corrected copy in the same layout; provenance is a key of the first row (JSON) or a column (CSV)."""
    original = Path(source.path)
    data = original.read_bytes()
    path = destination / original.name
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] == b"[":
        rows = _json_text.load(data, source.path)
        for i, row in enumerate(r for r in rows if isinstance(r, dict)):
            _correct(row, rewrite, first=i == 0)
        path.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    elif head[:1] == b"{":
        path.write_bytes(b"".join(_corrected_lines(data, rewrite)))
    else:
        _write_csv(data, Target(source.path), rewrite, path)
    return [path]


def _corrected_lines(data: bytes, rewrite: Rewrite) -> Iterator[bytes]:
    first = True
    for line in data.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield line  # what could not be read is passed on as it is
            continue
        if not isinstance(row, dict) or not (_correct(row, rewrite, first=first)):
            yield line
            continue
        first = False
        end = line[len(line.rstrip(b"\r\n")) :]
        yield json.dumps(row, ensure_ascii=False).encode() + end


def _correct(row: dict[str, Any], rewrite: Rewrite, *, first: bool) -> bool:
    """Correct one row in place; whether it changed."""
    step = step_of(row) or 0
    changed = False
    for name in list(row):
        rescale = rewrite.for_name("train/train_loss" if name == "train_loss" and "train_runtime" in row else name)
        if rescale is not None:
            if rewrite.include_original:
                row[f"original/{name}"] = row[name]
            row[name] = _json_text.rescaled(row[name], rescale, step)
            changed = True
    if changed and first:
        row[PROVENANCE] = dict(rewrite.provenance)
    return changed


def _write_csv(data: bytes, target: Target, rewrite: Rewrite, path: Path) -> None:
    import csv

    header, rows = _csv_rows(data, target)
    columns = {name: i for i, name in enumerate(header)}
    at = _step_column(columns)
    if tuple(header[:3]) == _TENSORBOARD:
        at, chosen = 1, {2: rewrite.rescales[0]} if rewrite.rescales else {}
    else:
        chosen = {}
        for name, i in columns.items():
            if (rescale := rewrite.for_name(name)) is not None:
                chosen[i] = rescale
    kept = list(chosen) if rewrite.include_original else []
    with path.open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f, delimiter=_dialect(data.decode("utf-8-sig")), lineterminator="\n")
        out.writerow([*header, *(f"original/{header[i]}" for i in kept), PROVENANCE])
        for count, row in enumerate(rows):
            step = step_of({"step": row[at]}) if at is not None and at < len(row) else count + 1
            new = list(row)
            for i, rescale in chosen.items():
                if i < len(row) and row[i] != "" and step is not None:
                    new[i] = str(_json_text.rescaled(row[i], rescale, step))
            padding = [""] * (len(header) - len(new))
            original = [row[i] if i < len(row) else "" for i in kept]
            stamp = json.dumps(dict(rewrite.provenance)) if count == 0 else ""
            out.writerow([*new, *padding, *original, stamp])
