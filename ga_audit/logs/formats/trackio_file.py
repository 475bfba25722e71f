"""Trackio: the SQLite database of a project, `~/.cache/huggingface/trackio/PROJECT.db`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import failures
from ga_audit.logs.formats import Claim, Format, Target, _sqlite
from ga_audit.logs.formats._points import need_series
from ga_audit.logs.formats._wandb import run as wandb_run
from ga_audit.run import ReadFailure, Run, Source

SINK = "trackio_file"


def claim(target: Target) -> Claim:
    """YES for a database with Trackio's two tables."""
    found = _sqlite.tables(target)
    return Claim.YES if {"metrics", "configs"} <= found and "params" not in found else Claim.NO


def read(target: Target) -> Iterator[Run | ReadFailure]:
    """Every run of the project; Trackio follows W&B's interface, so its rows are W&B's.

    Raises
    ------
    UnreadableLog
        a damaged database, or one without runs.
    """
    with _sqlite.reading(target.file) as connection:
        # before run ids came a run was known by its name alone; both are names of our own, so the queries are ours
        key = "run_id" if "run_id" in _sqlite.columns(connection, "metrics") else "run_name"
        in_configs = key if key in _sqlite.columns(connection, "configs") else "run_name"
        which = f"select {key}, max(run_name) from metrics group by {key} order by min(id)"  # noqa: S608
        rows_of = f"select step, metrics from metrics where {key} = ? order by id"  # noqa: S608
        config_of = f"select config from configs where {in_configs} = ?"  # noqa: S608
        runs = connection.execute(which).fetchall()
        if not runs:
            raise UnreadableLog("holds no runs", where=target.path, remedy="Give the database of a project with runs.")
        for run_id, name in runs:
            try:
                rows = [{**_object(text), "_step": step} for step, text in connection.execute(rows_of, (run_id,))]
                configs = connection.execute(config_of, (run_id,)).fetchall()
                yield _run(str(run_id), str(name), rows, _object(configs[-1][0]) if configs else {}, target)
            except Exception as error:
                yield failures.of_error(f"{target.path} ({name})", error, reader=SINK)


def _run(
    run_id: str, name: str, rows: list[dict[str, Any]], config: dict[str, Any], target: Target
) -> Run | ReadFailure:
    series, left, notes = wandb_run.series_of(rows, target, SINK)
    try:
        need_series(series, f"{target.path} ({name})", left)
    except UnreadableLog as error:
        return ReadFailure(target.path, error)
    own = {k: v for k, v in config.items() if not k.startswith("_")}
    found = wandb_run.settings_of(own, "", {}, "trackio")
    return Run(
        f"{target.path}#{run_id}", name, f"trackio:{run_id}", found, series, (Source(SINK, target.path),), notes=notes,
        left_out=left,
    )  # fmt: skip


def _object(value: Any) -> dict[str, Any]:
    found = wandb_run.json_value(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
    return found if isinstance(found, dict) else {}


FORMAT = Format(claim=claim, read=read)
