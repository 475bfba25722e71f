"""MLflow: a directory `mlruns/`, an experiment or a run in it, or the database `mlflow.db`.

Read without MLflow: the directory holds a text file for each metric and parameter, the database a table of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import failures, settings
from ga_audit.logs.formats import Claim, Format, Target, _sqlite, _values
from ga_audit.logs.formats._points import Rows, need_series
from ga_audit.run import Note, NoteCode, ReadFailure, Run, Source, Trust

SINK = "mlflow_store"
_TABLES = frozenset({"experiments", "runs", "metrics", "params"})
_LARGEST = 1.7976931348623157e308  # the database keeps an infinity as the largest number
_WORDS = {"None": None, "True": True, "False": False}


def claim(target: Target) -> Claim:
    """YES for a store, an experiment or a run of MLflow, and for its database."""
    if target.text is None and target.is_dir:
        return Claim.YES if next(_run_folders(target.file), None) is not None else Claim.NO
    return Claim.YES if _sqlite.tables(target) >= _TABLES else Claim.NO


def read(target: Target) -> Iterator[Run | ReadFailure]:
    """Every run that is not deleted; one that cannot be read is a failure in the stream.

    Raises
    ------
    UnreadableLog
        a damaged database, or a store without runs.
    """
    if target.is_dir:
        for folder in _run_folders(target.file):
            try:
                yield _run(str(folder), folder.name, target, *_from_folder(folder))
            except Exception as error:
                yield failures.of_error(str(folder), error, reader=SINK)
    else:
        yield from _from_database(target)


def _run(
    path: str, run_id: str, target: Target, name: str, params: Mapping[str, Any], points: Rows
) -> Run | ReadFailure:
    points.without_default_steps()
    series, left = points.series(target)
    try:
        need_series(series, f"{path} ({name})", left)
    except UnreadableLog as error:
        return ReadFailure(path, error)
    found = settings.from_mapping(params, source="mlflow: params", trust=Trust.RECORDED)
    return Run(f"{path}#{run_id}", name, f"mlflow:{run_id}", found, series, (Source(SINK, path),), left_out=left)


def _value(text: str) -> Any:
    """A parameter as it was logged: MLflow keeps the text of it."""
    return _WORDS.get(text, text)


# --- the directory ---------------------------------------------------------------------------------------------------


def _run_folders(top: Path) -> Iterator[Path]:
    """Folders of the runs of a store, of an experiment, or of the run that `top` is; what is deleted is left out."""
    if _is_run(top):
        yield top
        return
    try:
        experiments = [top] if _has_record(top) else [p for p in _folders(top) if _has_record(p) and not _is_run(p)]
        for experiment in experiments:
            yield from (run for run in _folders(experiment) if _is_run(run) and not _is_deleted(run))
    except OSError:
        return


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))  # .trash


def _has_record(folder: Path) -> bool:
    return (folder / "meta.yaml").is_file()


def _is_run(folder: Path) -> bool:
    return _has_record(folder) and (folder / "metrics").is_dir()


def _is_deleted(run: Path) -> bool:
    return "lifecycle_stage: deleted" in _text(run / "meta.yaml")


def _from_folder(folder: Path) -> tuple[str, dict[str, Any], Rows]:
    # these may not be passed over where they cannot be read: the run would look whole
    params = {_name(f, folder / "params"): _value(_content(f)) for f in _files(folder / "params")}
    points = Rows(SINK, str(folder))
    for file in _files(folder / "metrics"):
        name = _name(file, folder / "metrics")
        for line in sorted(_content(file).splitlines(), key=_timestamp):
            parts = line.split()
            if len(parts) >= 2:  # timestamp, value, and since 1.0 the step
                points.add(name, _values.step(parts[2]) if len(parts) > 2 else None, parts[1])
    return _text(folder / "tags" / "mlflow.runName") or folder.name, params, points


def _timestamp(line: str) -> int:
    return _values.step(line.partition(" ")[0]) or 0


def _files(folder: Path) -> list[Path]:
    """Files below a folder: a `/` in the name of a metric makes a folder."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _name(file: Path, top: Path) -> str:
    return file.relative_to(top).as_posix()


def _text(path: Path) -> str:
    try:
        return _content(path) if path.is_file() else ""
    except OSError:
        return ""


def _content(path: Path) -> str:
    return path.read_text("utf-8", "replace").strip()


# --- the database ----------------------------------------------------------------------------------------------------


def _from_database(target: Target) -> Iterator[Run | ReadFailure]:
    path = target.path
    with _sqlite.reading(target.file) as connection:
        runs = connection.execute(
            "select run_uuid, name, status from runs where lifecycle_stage is not 'deleted' order by start_time, run_uuid"
        ).fetchall()
        if not runs:
            raise UnreadableLog("holds no runs", where=path, remedy="Give the database of runs that have logged.")
        for run_id, name, status in runs:
            params = connection.execute("select key, value from params where run_uuid = ?", (run_id,))
            points = Rows(SINK, path)
            for key, value, step, is_nan in connection.execute(
                "select key, value, step, is_nan from metrics where run_uuid = ? order by timestamp, step", (run_id,)
            ):
                points.add(str(key), _values.step(step), float("nan") if is_nan else _number(value))
            made = _run(path, run_id, target, str(name or run_id), {str(k): _value(str(v)) for k, v in params}, points)
            if isinstance(made, Run) and status == "RUNNING":
                made = replace(made, notes=(*made.notes, Note(NoteCode.UNFINISHED, where=path)))
            yield made


def _number(value: Any) -> Any:
    number = _values.number(value)
    if number is not None and abs(number) == _LARGEST:
        return math.copysign(math.inf, number)
    return value if number is None else number


FORMAT = Format(claim=claim, read=read, owns_directory=True)
