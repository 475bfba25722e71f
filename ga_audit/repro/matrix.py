"""The GA x world_size matrix: plan, launch, resume, judge."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ga_audit.errors import AuditError, EngineFailed, RefusedToOverwrite

ENGINES = Path(__file__).parent / "engines"
SCRIPTS = {"torch": "torch_loop.py", "transformers": "hf_trainer.py", "trl": "trl_trainer.py"}
NEEDS = {"torch": ("torch",), "transformers": ("torch", "transformers", "accelerate"), "trl": ("torch", "trl")}
PLAN = "cell.json"
CONSOLE = "console.txt"


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of the matrix."""

    ga: int
    world_size: int
    out: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be trained, with which interpreter."""

    engine: str  # "torch", "transformers", "trl" or "script"
    cells: tuple[Cell, ...]
    effective_batch_size: int
    options: Mapping[str, object] = field(default_factory=dict)  # of the engine: {"steps": 20, "variant": "B"}
    python: str = sys.executable
    script: str | None = None  # the user's command, for the engine `script`
    timeout: float = 1800.0  # seconds for one cell

    def identity(self, cell: Cell) -> dict[str, object]:
        """What makes a finished cell the one that is asked for."""
        return {
            "engine": self.engine, "ga": cell.ga, "world_size": cell.world_size, "python": self.python,
            "effective_batch_size": self.effective_batch_size, "script": self.script,
            "options": {k: v if isinstance(v, int | float | str) else str(v) for k, v in self.options.items()},
        }  # fmt: skip


def engines() -> tuple[str, ...]:
    """The engines that are there."""
    return (*(name for name, script in SCRIPTS.items() if (ENGINES / script).is_file()), "script")


def plan_cells(out: Path, ga: Iterable[int], world_sizes: Iterable[int], effective_batch_size: int) -> tuple[Cell, ...]:
    """Every GA with every world_size; all at one effective batch.

    Raises
    ------
    AuditError
        the effective batch cannot be divided.
    """
    cells = []
    for world in dict.fromkeys(world_sizes):
        for steps in dict.fromkeys(ga):
            if steps < 1 or world < 1 or effective_batch_size % (steps * world):
                raise AuditError(
                    f"an effective batch of {effective_batch_size} is no multiple of GA {steps} x world size {world}",
                    remedy=f"Give --effective-batch-size a multiple of {max(1, steps) * max(1, world)}.",
                )
            cells.append(Cell(steps, world, out / f"world{world}-ga{steps}"))
    return tuple(cells)


def check_stack(engine: str, python: str) -> None:
    """Say in one line what to install.

    Raises
    ------
    EngineFailed
        the engine does not exist, or a package that it needs is not there.
    """
    if engine == "script":
        return
    if engine not in engines():
        raise EngineFailed(f"there is no engine {engine!r}", remedy=f"Choose one of: {', '.join(engines())}.")
    wanted = NEEDS[engine]
    code = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
    try:
        found = subprocess.run([python, "-c", code, *wanted], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineFailed(f"the interpreter cannot be run: {error}", where=python) from error
    if missing := found.stdout.split():
        raise EngineFailed(
            f"the engine {engine!r} needs {', '.join(missing)}", remedy=f"Install: pip install {' '.join(missing)}"
        )


def argv(plan: Plan, cell: Cell) -> list[str]:
    """The command of one cell.

    Raises
    ------
    AuditError
        the engine has no such option; the user's command lacks a place for GA or the output.
    """
    micro = plan.effective_batch_size // (cell.ga * cell.world_size)
    if plan.engine == "script":
        return _user_command(plan.script or "", cell, micro)
    path = ENGINES / SCRIPTS[plan.engine]
    known = set(re.findall(r'add_argument\(\s*"--([\w-]+)"', path.read_text("utf-8")))
    given: dict[str, object] = {
        **plan.options, "ga": cell.ga, "effective-batch-size": plan.effective_batch_size, "out": cell.out,
    }  # fmt: skip
    if "world-size" in known or cell.world_size > 1:
        given["world-size"] = cell.world_size
    if unknown := sorted(set(given) - known):
        raise AuditError(f"the engine {plan.engine!r} has no option --{unknown[0]}")
    command = [plan.python]
    if cell.world_size > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={cell.world_size}"]
    command.append(str(path))
    for name, value in given.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return command


def _user_command(script: str, cell: Cell, micro: int) -> list[str]:
    if "{gradient_accumulation_steps}" not in script or "{output_dir}" not in script:
        raise AuditError(
            "the command has no place for {gradient_accumulation_steps} and {output_dir}",
            remedy="Write both, and {micro_batch_size}, where your command takes them.",
        )
    values = {
        "{gradient_accumulation_steps}": str(cell.ga), "{micro_batch_size}": str(micro), "{output_dir}": str(cell.out),
    }  # fmt: skip
    try:
        words = shlex.split(script)
    except ValueError as error:
        raise AuditError(f"the command cannot be split into words: {error}") from error
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


def is_finished(plan: Plan, cell: Cell) -> bool:
    """Whether the cell was trained to its end with the same options."""
    try:
        kept = json.loads((cell.out / PLAN).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(kept == plan.identity(cell)) and (plan.engine == "script" or (cell.out / "truth.json").is_file())


def run_cell(plan: Plan, cell: Cell) -> None:
    """Train one cell; its console is kept beside its logs, and only a finished cell has a `cell.json`.

    Raises
    ------
    EngineFailed
        the engine broke or ran too long; says its last line.
    """
    command = argv(plan, cell)
    cell.out.mkdir(parents=True, exist_ok=True)
    (cell.out / PLAN).unlink(missing_ok=True)
    console = cell.out / CONSOLE
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with console.open("wb") as stream:
        try:
            child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        except OSError as error:
            raise EngineFailed(f"cannot be started: {error}", where=command[0]) from error
        try:
            status = child.wait(plan.timeout)
        except subprocess.TimeoutExpired:
            raise EngineFailed(f"not finished after {plan.timeout:.0f} s", where=str(console)) from None
        finally:
            if child.poll() is None:  # interrupted, or too slow: ours, so ours to end
                child.terminate()
                child.wait(30)
    if status:
        lines = console.read_text("utf-8", "replace").strip().splitlines()
        raise EngineFailed(f"GA {cell.ga}: {lines[-1][:300] if lines else f'status {status}'}", where=str(console))
    (cell.out / PLAN).write_text(json.dumps(plan.identity(cell), indent=1), "utf-8")


def run(
    plan: Plan, *, resume: bool = False, progress: Callable[[int, int, float | None, Cell], None] | None = None
) -> Sequence[Cell]:
    """Train every cell that is not finished; the cells, in order.

    With `resume`, finished cells with the same options are kept; otherwise an output that exists is refused.
    `progress` is called before each cell with (finished, all, seconds left or None, the cell).
    """
    if not resume and (old := [c.out for c in plan.cells if c.out.exists() and any(c.out.iterdir())]):
        raise RefusedToOverwrite("the output exists", where=str(old[0]), remedy="Give --resume, or another --out.")
    check_stack(plan.engine, plan.python)
    done = [cell for cell in plan.cells if resume and is_finished(plan, cell)]
    began, trained = time.monotonic(), 0
    for cell in plan.cells:
        if cell in done:
            continue
        left = len(plan.cells) - len(done)
        if progress:
            progress(len(done), len(plan.cells), (time.monotonic() - began) / trained * left if trained else None, cell)
        run_cell(plan, cell)
        trained += 1
        done.append(cell)
    return plan.cells


def run_together(plans: Sequence[Plan], *, timeout: float = 1800.0) -> None:
    """Train the unfinished cells of plans that share an interpreter, after one import; a broken cell stops no other.

    Where the system cannot fork, one process for each.
    """
    todo = [(plan, cell) for plan in plans for cell in plan.cells if not is_finished(plan, cell)]
    if not hasattr(os, "fork"):
        for plan, cell in todo:
            with contextlib.suppress(EngineFailed):
                run_cell(plan, cell)
        return
    if not todo:
        return
    for _, cell in todo:
        cell.out.mkdir(parents=True, exist_ok=True)
        (cell.out / PLAN).unlink(missing_ok=True)
    jobs = [{"argv": argv(plan, cell)[1:], "console": str(cell.out / CONSOLE)} for plan, cell in todo]
    command = [plans[0].python, str(ENGINES / "_cells.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
            check=True,
        )
        statuses = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise EngineFailed(f"the cells could not be run: {error}", where=command[0]) from error
    for (plan, cell), status in zip(todo, statuses, strict=True):
        if status == 0:
            (cell.out / PLAN).write_text(json.dumps(plan.identity(cell), indent=1), "utf-8")


def last_line(cell: Cell) -> str:
    """What the console of a broken cell ended with."""
    try:
        lines = (cell.out / CONSOLE).read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    return f"GA {cell.ga}: {lines[-1][:300] if lines else 'ended without a word'}"
