"""The GA x world_size matrix: plan, resume, train."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ga_audit.errors import EngineFailed, RefusedToOverwrite, WrongUsage
from ga_audit.repro import installed
from ga_audit.repro import train as training
from ga_audit.repro.engine import USER_COMMAND


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of the matrix."""

    ga: int
    world_size: int
    out: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be trained, with which interpreter."""

    engine: str  # its name; "script" for the user's own command
    cells: tuple[Cell, ...]
    effective_batch_size: int
    options: Mapping[str, object] = field(default_factory=dict)  # of the engine: {"steps": 20, "variant": "B"}
    python: str = sys.executable
    script: str | None = None  # the user's command, for the engine `script`
    timeout: float | None = 1800.0  # seconds for one cell; None: as long as it takes
    name: str = ""  # what tells it from the other plans: "t5-seq2seq"
    stack: Mapping[str, str] = field(default_factory=dict)  # what trains: releases, and the engine's own script

    def identity(self, cell: Cell) -> dict[str, object]:
        """What makes a finished cell the one that is asked for."""
        return {
            "engine": self.engine, "ga": cell.ga, "world_size": cell.world_size, "python": self.python,
            "effective_batch_size": self.effective_batch_size, "script": self.script, "stack": dict(self.stack),
            "options": {k: v if isinstance(v, int | float | str) else str(v) for k, v in self.options.items()},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a matrix is, before its next cell."""

    done: int
    total: int
    seconds_left: float | None  # None before the first cell was trained
    plan: Plan
    cell: Cell


def plan_cells(out: Path, ga: Iterable[int], world_sizes: Iterable[int], effective_batch_size: int) -> tuple[Cell, ...]:
    """Every GA with every world_size; all at one effective batch.

    Raises
    ------
    WrongUsage
        the effective batch cannot be divided.
    """
    cells = []
    for world in dict.fromkeys(world_sizes):
        for steps in dict.fromkeys(ga):
            if steps < 1 or world < 1 or effective_batch_size % (steps * world):
                raise WrongUsage(
                    f"an effective batch of {effective_batch_size} is no multiple of GA {steps} x world size {world}",
                    remedy=f"Give --effective-batch-size a multiple of {max(1, steps) * max(1, world)}.",
                )
            cells.append(Cell(steps, world, out / f"world{world}-ga{steps}"))
    return tuple(cells)


def is_finished(plan: Plan, cell: Cell) -> bool:
    """Whether the cell was trained to its end with the same options."""
    try:
        kept = json.loads((cell.out / training.PLAN).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(kept == plan.identity(cell)) and (plan.engine == USER_COMMAND or (cell.out / "truth.json").is_file())


def run(
    *plans: Plan,
    resume: bool = False,
    keep_going: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> dict[Path, EngineFailed]:
    """Train every cell that is not finished; what broke, by the output of the cell.

    With `resume`, finished cells with the same options and the same stack are kept; otherwise an output that exists is
    refused.

    Raises
    ------
    EngineFailed
        a cell broke and `keep_going` is not set; the engine or its packages are not there.
    RefusedToOverwrite
        an output exists.
    """
    stacks = {key: installed.releases(*key) for key in dict.fromkeys((plan.engine, plan.python) for plan in plans)}
    plans = tuple(replace(plan, stack=stacks[plan.engine, plan.python]) for plan in plans)
    jobs = [(plan, cell) for plan in plans for cell in plan.cells]
    if not resume and (old := [cell.out for _, cell in jobs if training.is_used(cell)]):
        raise RefusedToOverwrite("the output exists", where=str(old[0]), remedy="Give --resume, or another --out.")
    todo = [(plan, cell) for plan, cell in jobs if not (resume and is_finished(plan, cell))]
    for engine, python in dict.fromkeys((plan.engine, plan.python) for plan, _ in todo):
        installed.check(engine, python)
    for plan, cell in todo:
        training.argv(plan, cell)  # a wrong option is said before anything is trained
    broken: dict[Path, EngineFailed] = {}
    began, kept = time.monotonic(), len(jobs) - len(todo)
    outcomes = training.train(todo)
    try:
        for trained, (plan, cell) in enumerate(todo):
            if progress:
                left = (time.monotonic() - began) / trained * (len(todo) - trained) if trained else None
                progress(Progress(kept + trained, len(jobs), left, plan, cell))
            if failure := next(outcomes):
                if not keep_going:
                    raise failure
                broken[cell.out] = failure
    finally:
        outcomes.close()  # ends a training that is under way
    return broken
