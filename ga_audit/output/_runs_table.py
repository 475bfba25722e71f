"""The table of runs of the first screen: what fits into the width, names told apart, factors in colour."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import click
import numpy as np

from ga_audit.conclusion import Diagnosis
from ga_audit.output._safe import plain
from ga_audit.output._table import names_in, table
from ga_audit.output.wording._numbers import factor as times
from ga_audit.run import Role, Run, Trust

_MAX_ROWS = 8  # the first and the last half of more
_LEAST_NAME = 12  # columns of a shortened name
_FACTOR = "factor"
_SINGLE = "loss / eval loss"
_GAP = 2
# what goes first where the width does not hold all columns
_DROPPED = ("batch", "grad_norm", "loss", "eval loss")


def runs_table(diagnosis: Diagnosis, *, width: int, color: bool) -> Iterator[str]:
    """Lines: a header, a row for each run, and how many are left out."""
    runs, left_out = _shown(diagnosis.runs)
    header, rows = _filled(*_columns(diagnosis, runs))
    header, rows = _fitting(header, rows, width - 2)
    taken = sum(max(len(row[i]) for row in (header, *rows)) + _GAP for i in range(1, len(header)))
    names = names_in([row[0] for row in rows], max(width - 2 - taken, _LEAST_NAME))
    rows = [[name, *row[1:]] for name, row in zip(names, rows, strict=True)]
    lines = table(
        rows, header=header, right=range(1, len(header)), indent=2,
        paint=(lambda row, column, text: _painted(header[column], rows[row][column], text)) if color else None,
    )  # fmt: skip
    if left_out:
        at = 1 + len(rows) // 2
        lines.insert(at, f"  ... {left_out} more runs")
    yield from lines
    if any(_guessed(run) for run in runs):
        yield "  ? guessed from the name of the run"


def _shown(runs: Sequence[Run]) -> tuple[Sequence[Run], int]:
    if len(runs) <= _MAX_ROWS:
        return runs, 0
    half = _MAX_ROWS // 2
    return (*runs[:half], *runs[-half:]), len(runs) - _MAX_ROWS


def _columns(d: Diagnosis, runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    header = ["run", "GA", "batch", "loss", _FACTOR, "grad_norm", _FACTOR]
    rows = [
        [
            plain(run.name), _ga(run), _batch(run), _span(run, Role.LOSS), _factor(d, run, Role.LOSS),
            _span(run, Role.GRAD_NORM), _factor(d, run, Role.GRAD_NORM),
        ]
        for run in runs
    ]  # fmt: skip
    if len(d.runs) == 1:
        header[4:4] = ["eval loss", _SINGLE]
        rows[0][4:4] = [_span(runs[0], Role.EVAL_LOSS), _over_eval(d)]
    return header, rows


def _filled(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Without the columns that are empty in every row."""
    keep = [i for i in range(len(header)) if i < 2 or any(row[i] for row in rows)]
    return [header[i] for i in keep], [[row[i] for i in keep] for row in rows]


def _fitting(header: list[str], rows: list[list[str]], width: int) -> tuple[list[str], list[list[str]]]:
    """Without the columns that say least, where the width does not hold all of them."""
    for dropped in ("", *_DROPPED):
        keep = [i for i, name in enumerate(header) if name != dropped]
        # the factors follow their quantity: without its name, their own has to say of what they are
        header, rows = _renamed(header, dropped, keep), [[row[i] for i in keep] for row in rows]
        taken = sum(max(len(row[i]) for row in (header, *rows)) + _GAP for i in range(1, len(header)))
        longest = max(len(row[0]) for row in rows)
        if taken + min(longest, _LEAST_NAME * 2) <= width:
            break
    return header, rows


def _renamed(header: list[str], dropped: str, keep: Sequence[int]) -> list[str]:
    named = [
        f"{header[i - 1]} x" if name == _FACTOR and header[i - 1] == dropped else name for i, name in enumerate(header)
    ]
    return [named[i] for i in keep]


def _painted(column: str, cell: str, text: str) -> str:
    is_factor = column == _FACTOR or column.endswith(" x")
    return click.style(text, fg="red", bold=True) if is_factor and cell not in {"", "1x"} else text


def _ga(run: Run) -> str:
    schedule = run.settings.gradient_accumulation_steps
    if schedule is None:
        return "?"
    mark = "?" if schedule.trust is Trust.GUESSED else ""
    if schedule.value.is_constant:
        return f"{schedule.value.first}{mark}"
    return f"{'->'.join(map(str, schedule.value.value))}{mark}"


def _guessed(run: Run) -> bool:
    schedule = run.settings.gradient_accumulation_steps
    return schedule is not None and schedule.trust is Trust.GUESSED


def _batch(run: Run) -> str:
    """Micro-batch x ranks; empty where the micro-batch is unknown."""
    micro, ranks = run.settings.micro_batch_size, run.settings.world_size
    if micro is None:
        return ""
    return f"{micro.value}x{ranks.value}" if ranks is not None else str(micro.value)


def _span(run: Run, role: Role) -> str:
    series = run.get(role)
    if series is None:
        return ""
    finite = series.value[np.isfinite(series.value)]
    if len(finite) < 2:
        return f"{finite[0]:.3g}" if len(finite) else ""
    return f"{finite[0]:.3g} -> {finite[-1]:.3g}"


def _factor(d: Diagnosis, run: Run, role: Role) -> str:
    """`8x` where a finding says so; empty where nothing is claimed."""
    if not any(f.role is role for f in d.findings):
        return ""
    log_factor = d.log_factor(run, role)
    return "?" if math.isnan(log_factor) else times(math.exp(log_factor))


def _over_eval(d: Diagnosis) -> str:
    """The median that the evidence rests on."""
    found = next((p.facts["ratio"] for p in d.evidence if p.kind == "eval_gap"), None)
    return f"{found:.3g}x" if isinstance(found, float) else ""
