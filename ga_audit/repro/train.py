"""Start the engines: one process for each cell, forked after one import where that is possible."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ga_audit.errors import EngineFailed, RefusedToOverwrite, WrongUsage
from ga_audit.files.manifest import MANIFEST, foreign, write_manifest
from ga_audit.repro.engine import SCRIPTS, USER_COMMAND, engine_named, engines

if TYPE_CHECKING:
    from ga_audit.repro.plan import Cell, Plan

PLAN = "cell.json"
CONSOLE = "console.txt"
RUNNER = SCRIPTS / "_cells.py"
_GROUPS = os.name == "posix"  # a process of its own group can be ended with what it has started


def argv(plan: Plan, cell: Cell) -> list[str]:
    """The command of one cell.

    Raises
    ------
    WrongUsage
        the engine has no such option or choice; the user's command lacks a place for GA or the output.
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
    _check(plan.engine, given)
    if _in_one_process(plan):
        _check_devices(plan)
    command = [plan.python]
    if cell.world_size > 1 and not _in_one_process(plan):
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


def _in_one_process(plan: Plan) -> bool:
    """Whether the ranks of a cell are devices of its process, so that no launcher starts others."""
    return bool(plan.options.get("data-parallel"))


def _check_devices(plan: Plan) -> None:
    if max(cell.world_size for cell in plan.cells) == 1:
        raise WrongUsage("--data-parallel is about several devices", remedy="Give --world-size 1,2 too.")
    if "deepspeed" in str(plan.options.get("variant", "")):
        raise WrongUsage("DeepSpeed has a process for each device", remedy="Leave --data-parallel out.")


def _check(engine: str, given: Mapping[str, object]) -> None:
    """Each option must be one that the engine has, with a value that it takes."""
    known = engine_named(engine).options
    for name, value in given.items():
        if name not in known:
            others = [other.name for other in engines().values() if name in other.options]
            remedy = f"These engines have it: {', '.join(others)}." if others else None
            raise WrongUsage(f"the engine {engine!r} has no option --{name}", remedy=remedy)
        wrong = [
            v for v in (value if isinstance(value, tuple) else (value,)) if known[name] and str(v) not in known[name]
        ]
        if wrong:
            raise WrongUsage(f"--{name} {wrong[0]}: there is none", remedy=f"Choose of: {', '.join(known[name])}.")


def _user_command(script: str, cell: Cell, micro: int) -> list[str]:
    if "{gradient_accumulation_steps}" not in script or "{output_dir}" not in script:
        raise WrongUsage(
            "the command has no place for {gradient_accumulation_steps} and {output_dir}",
            remedy="Write both, and {micro_batch_size}, where your command takes them.",
        )
    if cell.world_size > 1 and "{world_size}" not in script:
        raise WrongUsage(
            f"the command has no place for the {cell.world_size} ranks of --world-size",
            remedy="Write e.g. torchrun --nproc_per_node {world_size} train.py ...",
        )
    values = {
        "{gradient_accumulation_steps}": str(cell.ga), "{micro_batch_size}": str(micro), "{output_dir}": str(cell.out.absolute()),
        "{world_size}": str(cell.world_size),
    }  # fmt: skip
    try:
        words = shlex.split(script, posix=os.name != "nt")  # a backslash of a Windows path is no escape
    except ValueError as error:
        raise WrongUsage(f"the command cannot be split into words: {error}", remedy="Close its quotes.") from error
    if os.name == "nt":
        words = [word.strip('"') for word in words]
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    if unknown := [found for word in words for found in re.findall(r"(?<!\$)\{[a-z_]+\}", word)]:
        raise WrongUsage(
            f"{unknown[0]} in the command is no place for anything", remedy=f"There are {', '.join(values)}."
        )
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
        outcomes = _forked(part) if len(part) > 1 else _alone(*part[0])
        with contextlib.closing(outcomes):
            for (plan, cell), outcome in zip(part, outcomes, strict=True):
                _seal(plan, cell)
                yield outcome
        start = end


def _seal(plan: Plan, cell: Cell) -> None:
    """List what an engine of ours has left: that, and no more, gives way to a training that is resumed."""
    if plan.engine != USER_COMMAND and is_used(cell):
        with contextlib.suppress(OSError):  # without a list it is moved aside
            write_manifest(cell.out, "ga-audit-repro/1", {"cell": plan.identity(cell)})


def _forkable(plan: Plan, cell: Cell) -> bool:
    return hasattr(os, "fork") and plan.engine != USER_COMMAND and cell.world_size == 1


def _alike(first: tuple[Plan, Cell], other: tuple[Plan, Cell]) -> bool:
    key = (first[0].python, first[0].engine)
    return _forkable(*other) and key == (other[0].python, other[0].engine)


def _begin(plan: Plan, cell: Cell) -> Path:
    """The place of the cell's console, in a folder of its own: logs of a training before would be read as its.

    What an engine of ours left there goes; what a user's command or anyone else did is moved aside.

    Raises
    ------
    RefusedToOverwrite
        the folder holds what no cell has left.
    WrongUsage
        the folder cannot be made or written.
    """
    if is_used(cell):
        if not any((cell.out / name).is_file() for name in (CONSOLE, PLAN)):
            raise RefusedToOverwrite(
                "it holds other files than a cell's", where=str(cell.out), remedy="Give another --out."
            )
        if plan.engine == USER_COMMAND or cell.out.is_symlink() or foreign(cell.out):
            # beside the output, whose logs are all read as one matrix
            top = cell.out.parent.absolute()
            aside = (top.with_name(f"{top.name}.before-{n}") / cell.out.name for n in itertools.count(1))
            place = next(place for place in aside if not place.exists())
            place.parent.mkdir(parents=True, exist_ok=True)
            cell.out.rename(place)
        else:
            shutil.rmtree(cell.out)
    try:
        cell.out.mkdir(parents=True, exist_ok=True)
        (cell.out / CONSOLE).touch()
    except OSError as error:
        message = f"cannot write there: {error.strerror}"
        raise WrongUsage(message, where=str(cell.out), remedy="Give a writable folder with --out.") from error
    return cell.out / CONSOLE


def is_used(cell: Cell) -> bool:
    """Whether the cell's folder holds more than the console of a command that was refused."""
    return cell.out.is_dir() and any(path.name not in {CONSOLE, MANIFEST} for path in cell.out.iterdir())


def _finish(plan: Plan, cell: Cell) -> None:
    try:
        (cell.out / PLAN).write_text(json.dumps(plan.identity(cell), indent=1), "utf-8")
    except OSError as error:
        raise EngineFailed(
            f"the cell's folder is gone or cannot be written: {error.strerror}", where=str(cell.out),
            remedy="Let the command write into {output_dir} and leave the folder there.",
        ) from error  # fmt: skip


@contextlib.contextmanager
def _environment(plan: Plan, cell: Cell) -> Generator[dict[str, str]]:
    """Nothing is sent and nothing fetched, and what torchrun and W&B leave in the temporary folder goes at the end.

    A user's command keeps its threads, downloads and temporary files; but its W&B runs lie where they are audited.
    """
    if plan.engine == USER_COMMAND:
        yield {"WANDB_MODE": "offline", **os.environ, "WANDB_DIR": str(cell.out.absolute())}
        return
    with tempfile.TemporaryDirectory(prefix="ga-", ignore_cleanup_errors=True) as temporary:
        yield {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "offline",
            "WANDB_ERROR_REPORTING": "false",
            "DO_NOT_TRACK": "1",
            "TMPDIR": temporary,
            **(_visible(cell.world_size) if cell.world_size == 1 or _in_one_process(plan) else {}),
        }


def _visible(devices: int) -> dict[str, str]:
    """As many GPUs as the process is to use: a Trainer takes all that it sees, and with them a larger batch."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = list(map(str, range(devices))) if seen is None else seen.split(",")
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[:devices])}


def _alone(plan: Plan, cell: Cell) -> Generator[EngineFailed | None]:
    try:
        command, console = argv(plan, cell), _begin(plan, cell)
        with console.open("wb") as stream, _environment(plan, cell) as env:
            try:
                child = subprocess.Popen(
                    command, stdout=stream, stderr=subprocess.STDOUT, env=env, start_new_session=_GROUPS
                )
            except OSError as error:
                remedy = "It is started without a shell; for one, write bash -c '...'." if plan.script else None
                raise EngineFailed(f"cannot be started: {error.strerror}", where=command[0], remedy=remedy) from error
            try:
                status = child.wait(plan.timeout)
            except subprocess.TimeoutExpired:
                remedy = "Give it longer with --timeout SECONDS."
                raise EngineFailed(
                    f"not finished after {plan.timeout:.0f} s", where=str(console), remedy=remedy
                ) from None
            finally:
                _end(child)
        if status:
            raise EngineFailed(last_line(cell, status), where=str(console))
        _finish(plan, cell)
    except EngineFailed as error:
        yield error
    else:
        yield None


def _forked(jobs: Sequence[tuple[Plan, Cell]]) -> Generator[EngineFailed | None]:
    plan = jobs[0][0]
    lines = [json.dumps({"preload": engine_named(plan.engine).preload})]
    lines += [json.dumps({"argv": argv(p, c)[1:], "console": str(_begin(p, c)), "timeout": p.timeout}) for p, c in jobs]
    command = [plan.python, str(RUNNER)]
    with tempfile.TemporaryFile() as said, _environment(*jobs[0]) as env:  # said by the process, not by a cell
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=env,
                start_new_session=_GROUPS,
            )  # fmt: skip
        except OSError as error:
            raise EngineFailed(f"cannot be started: {error.strerror}", where=command[0]) from error
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
                    message = last_line(cell, int(word), otherwise=_last_words(said))
                    yield EngineFailed(message, where=str(cell.out / CONSOLE))
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
    """Interrupted or too slow: ours, so ours to end, with all that it has started."""
    if child.poll() is not None:
        return
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        with contextlib.suppress(ProcessLookupError):
            if _GROUPS:
                os.killpg(child.pid, number)
            else:
                child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(30)
            return


def last_line(cell: Cell, status: int, *, otherwise: str = "") -> str:
    """Why a cell broke: the error itself, where torchrun adds its own summary.

    Parameters
    ----------
    cell, status : the cell and its exit status, a negative signal number.
    otherwise : what the process that runs the cells printed, for a cell without output.
    """
    try:
        lines = [line.strip() for line in (cell.out / CONSOLE).read_text("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    lines = [line for line in lines if line.strip("=-_ ")]
    errors = [line for line in lines if re.match(r"(\[rank\d+\]: )?[A-Za-z_][\w.]*(Error|Exception|Exit)\b", line)]
    ended = _ended(status)
    if error := next((line for line in errors if "ChildFailedError" not in line), ""):
        return f"GA {cell.ga}: {error[:300]}"
    if lines:
        return f"GA {cell.ga}: {ended}; its last line: {lines[-1][:300]}"
    return f"GA {cell.ga}: {ended} and printed nothing{otherwise}"


def _ended(status: int) -> str:
    """How a process ended, with the usual cause where it cannot say so itself."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    killed = status == -getattr(signal, "SIGKILL", 0)
    return f"was ended by {name}{' (often: out of memory)' if killed else ''}"
