"""Start the engines: one process for each cell, forked after one import where that is possible."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ga_audit.errors import AuditError, EngineFailed
from ga_audit.repro.engine import SCRIPTS, USER_COMMAND, Engine, engines

if TYPE_CHECKING:
    from ga_audit.repro.matrix import Cell, Plan

PLAN = "cell.json"
CONSOLE = "console.txt"
RUNNER = SCRIPTS / "_cells.py"


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises
    ------
    EngineFailed
        there is none.
    """
    if name not in engines():
        raise EngineFailed(
            f"there is no engine {name!r}", remedy=f"Choose one of: {', '.join([*engines(), USER_COMMAND])}."
        )
    return engines()[name]


def chosen(option: str, text: str | None, *, engine: str = "transformers") -> list[tuple[str, dict[str, object]]]:
    """A comma-separated list of names, or `all`, as (name, option of the engine) of each; nothing for None.

    Raises
    ------
    AuditError
        there is no such name.
    """
    if text is None or engine == USER_COMMAND:
        return []
    known = {"model": engine_named(engine).models, "variant": engine_named(engine).variants}[option]
    names = tuple(name.strip() for name in text.split(",")) if text != "all" or not known else known
    if known and (unknown := [name for name in names if name not in known]):
        raise AuditError(f"there is no {option} {unknown[0]!r}", remedy=f"Choose of: {', '.join(known)}, or all.")
    return [(name, {option: name}) for name in names]


def lacking(engine: str, python: str) -> dict[str, str]:
    """Variants that need a package which the interpreter does not have, and that package."""
    if engine == USER_COMMAND:
        return {}
    needs = engine_named(engine).variant_needs
    gone = missing(tuple(set(needs.values())), python) if needs else []
    return {variant: need for variant, need in needs.items() if need in gone}


def check_stack(engine: str, python: str) -> None:
    """Say in one line what to install.

    Raises
    ------
    EngineFailed
        the engine does not exist, or a package that it needs is not there.
    """
    if engine == USER_COMMAND:
        return
    if gone := missing(engine_named(engine).needs, python):
        raise EngineFailed(f"the engine {engine!r} needs {', '.join(gone)}", remedy=f"Install: {install(gone)}")


def missing(modules: Sequence[str], python: str) -> list[str]:
    """Those that the interpreter cannot import.

    Raises
    ------
    EngineFailed
        the interpreter cannot be run.
    """
    code = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
    try:
        found = subprocess.run([python, "-c", code, *modules], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineFailed(f"the interpreter cannot be run: {error}", where=python) from error
    return found.stdout.split()


def install(modules: Sequence[str]) -> str:
    """The command that installs what is missing."""
    return f"pip install {' '.join(name.replace('_', '-') for name in modules)}"


def argv(plan: Plan, cell: Cell) -> list[str]:
    """The command of one cell.

    Raises
    ------
    AuditError
        the engine has no such option; the user's command lacks a place for GA or the output.
    """
    micro = plan.effective_batch_size // (cell.ga * cell.world_size)
    if plan.engine == USER_COMMAND:
        return _user_command(plan.script or "", cell, micro)
    engine = engine_named(plan.engine)
    known = engine.options
    given: dict[str, object] = {
        **plan.options, "ga": cell.ga, "effective-batch-size": plan.effective_batch_size, "out": cell.out,
    }  # fmt: skip
    if "world-size" in known or cell.world_size > 1:
        given["world-size"] = cell.world_size
    if cell == plan.cells[0] and "benchmark" in known:  # what the device can do is measured once for the matrix
        given["benchmark"] = True
    if unknown := sorted(set(given) - known):
        raise AuditError(f"the engine {plan.engine!r} has no option --{unknown[0]}")
    command = [plan.python]
    if cell.world_size > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={cell.world_size}"]
    command.append(str(engine.script))
    for name, value in given.items():
        if value is True:
            command.append(f"--{name}")
        elif isinstance(value, tuple):
            command += [f"--{name}", *map(str, value)]
        elif value is not False:
            command += [f"--{name}", str(value)]
    return command


def _user_command(script: str, cell: Cell, micro: int) -> list[str]:
    if "{gradient_accumulation_steps}" not in script or "{output_dir}" not in script:
        raise AuditError(
            "the command has no place for {gradient_accumulation_steps} and {output_dir}",
            remedy="Write both, and {micro_batch_size}, where your command takes them.",
        )
    if cell.world_size > 1 and "{world_size}" not in script:
        raise AuditError(
            f"the command has no place for the {cell.world_size} ranks of --world-size",
            remedy="Write e.g. torchrun --nproc_per_node {world_size} train.py ...",
        )
    values = {
        "{gradient_accumulation_steps}": str(cell.ga), "{micro_batch_size}": str(micro), "{output_dir}": str(cell.out),
        "{world_size}": str(cell.world_size),
    }  # fmt: skip
    try:
        words = shlex.split(script)
    except ValueError as error:
        raise AuditError(f"the command cannot be split into words: {error}") from error
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


def train(jobs: Sequence[tuple[Plan, Cell]]) -> Generator[EngineFailed | None]:
    """Train the cells in order; after each, None or why it broke. A broken cell stops no other.

    The console of a cell is kept beside its logs, and only a finished cell has a `cell.json`. Cells of one rank that
    share an interpreter and an engine of ours run in processes forked after one import.
    """
    start = 0
    while start < len(jobs):
        end = start + 1
        while end < len(jobs) and _forkable(*jobs[start]) and _alike(jobs[start], jobs[end]):
            end += 1
        part = jobs[start:end]
        yield from _forked(part) if len(part) > 1 else _alone(*part[0])
        start = end


def _forkable(plan: Plan, cell: Cell) -> bool:
    return hasattr(os, "fork") and plan.engine != USER_COMMAND and cell.world_size == 1


def _alike(first: tuple[Plan, Cell], other: tuple[Plan, Cell]) -> bool:
    key = (first[0].python, first[0].engine, first[0].environment)
    return _forkable(*other) and key == (other[0].python, other[0].engine, other[0].environment)


def _begin(cell: Cell) -> Path:
    """The place of the cell's console; a `cell.json` of before is taken away."""
    cell.out.mkdir(parents=True, exist_ok=True)
    (cell.out / PLAN).unlink(missing_ok=True)
    (cell.out / "truth.json").unlink(missing_ok=True)
    return cell.out / CONSOLE


def _finish(plan: Plan, cell: Cell) -> None:
    (cell.out / PLAN).write_text(json.dumps(plan.identity(cell), indent=1), "utf-8")


def _environment(plan: Plan) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "DO_NOT_TRACK": "1",
        **dict(plan.environment),
    }


def _alone(plan: Plan, cell: Cell) -> Generator[EngineFailed | None]:
    try:
        command, console = argv(plan, cell), _begin(cell)
        with console.open("wb") as stream:
            try:
                child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=_environment(plan))
            except OSError as error:
                raise EngineFailed(f"cannot be started: {error}", where=command[0]) from error
            try:
                status = child.wait(plan.timeout)
            except subprocess.TimeoutExpired:
                raise EngineFailed(f"not finished after {plan.timeout:.0f} s", where=str(console)) from None
            finally:
                _end(child)
        if status:
            raise EngineFailed(last_line(cell, status), where=str(console))
    except EngineFailed as error:
        yield error
    else:
        _finish(plan, cell)
        yield None


def _forked(jobs: Sequence[tuple[Plan, Cell]]) -> Generator[EngineFailed | None]:
    plan = jobs[0][0]
    lines = [json.dumps({"preload": engine_named(plan.engine).preload})]
    lines += [json.dumps({"argv": argv(p, c)[1:], "console": str(_begin(c)), "timeout": p.timeout}) for p, c in jobs]
    command = [plan.python, str(RUNNER)]
    with tempfile.TemporaryFile() as said:  # by the process itself; each cell has its own console
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=_environment(plan)
            )
        except OSError as error:
            raise EngineFailed(f"cannot be started: {error}", where=command[0]) from error
        assert child.stdin
        assert child.stdout
        # from a thread: the list may be longer than a pipe holds while the child still imports
        writer = threading.Thread(target=_feed, args=(child.stdin, "\n".join(lines)), daemon=True)
        writer.start()
        try:
            for p, cell in jobs:
                word = child.stdout.readline().strip()
                if word == "0":
                    _finish(p, cell)
                    yield None
                elif not word:
                    yield EngineFailed(f"the process that runs the cells ended{_last_words(said)}", where=command[0])
                else:
                    yield EngineFailed(last_line(cell, int(word)), where=str(cell.out / CONSOLE))
        finally:
            _end(child)


def _last_words(stream: IO[bytes]) -> str:
    stream.seek(0)
    lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


def _feed(stream: IO[str], text: str) -> None:
    try:
        stream.write(text)
        stream.close()
    except OSError:  # the child has ended, which its output tells
        pass


def _end(child: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Interrupted or too slow: ours, so ours to end."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()


def last_line(cell: Cell, status: int) -> str:
    """What the console of a broken cell ended with: the error itself, where torchrun adds its own summary."""
    try:
        lines = [line.strip() for line in (cell.out / CONSOLE).read_text("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    lines = [line for line in lines if line.strip("=-_ ")]
    errors = [line for line in lines if re.match(r"(\[rank\d+\]: )?[A-Za-z_][\w.]*(Error|Exception|Exit)\b", line)]
    word = next((line for line in errors if "ChildFailedError" not in line), lines[-1] if lines else "")
    ended = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"GA {cell.ga}: {word[:300] or f'{ended}, without a word'}"
