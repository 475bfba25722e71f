"""A table with a row for each run: W&B's runs table, or `GA | loss` as a bug report shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ga_audit.logs import settings
from ga_audit.logs.formats import Target, _counters
from ga_audit.logs.formats._points import Rows
from ga_audit.logs.roles import CONFIG_KEYS
from ga_audit.run import Run, Source, Trust

SINK = "table"
_NAMES = ("name", "run", "run_name", "run name", "id")
# columns that W&B's table of runs has and no log of one run
_OF_WANDB = frozenset({"state", "created", "runtime", "user", "notes", "tags", "sweep", "end time", "hostname"})
_SHORT_GA = frozenset({"ga", "gas", "grad_accum", "grad accum"})


def is_table_of_runs(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each row is a run: W&B's columns stand there, or GA differs between rows that hold no counter."""
    names = {name for row in rows for name in row}
    low = {name.strip().lower() for name in names}
    if len(low & _OF_WANDB) >= 2 and "name" in low:
        return True
    if any(_counters.kind_of(name) is not None for name in names):
        return False
    found = [settings.from_mapping(_named(row), source="", trust=Trust.RECORDED).ga for row in rows]
    return len(rows) > 1 and None not in found and len(set(found)) > 1


def runs(rows: Sequence[Mapping[str, Any]], target: Target) -> Iterator[Run]:
    """A run of one point for each row that holds a value of ours."""
    for number, row in enumerate(rows, 1):
        placed = _counters.place([row], target.path)
        points = Rows(SINK, target.path, placed.counted)
        for name, value in row.items():
            if not _counters.is_position(name) and not isinstance(value, dict | list):
                points.add(name, placed.positions[0], value)
        series, left = points.series(target)
        if not series:
            continue
        found = settings.from_mapping(_named(row), source=f"table, row {number}", trust=Trust.RECORDED)
        name = _name(row) or (f"GA {found.ga}" if found.ga is not None else f"row {number}")
        run_id = f"{target.path}#{number}"
        yield Run(run_id, name, run_id, found, series, (Source(SINK, target.path, str(number)),), left_out=left)


def _name(row: Mapping[str, Any]) -> str | None:
    for name, value in row.items():
        if name.strip().lower() in _NAMES and isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as a configuration: `GA` is short for gradient accumulation steps."""
    key = CONFIG_KEYS["gradient_accumulation_steps"][0]
    return {key if name.strip().lower() in _SHORT_GA else name.strip(): value for name, value in row.items()}
