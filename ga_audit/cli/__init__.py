"""The `ga-audit` group: a command is a module of this folder that defines `command`.

Commands are imported when they are called: `ga-audit --help` costs what Click costs. So the line that `--help` shows
for each is the first line of its module, which is the first line of a docstring, read without running it.
"""

from __future__ import annotations

import difflib
import errno
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import click

from ga_audit import registry
from ga_audit._version import __version__
from ga_audit.errors import ExitCode


class CommandModule(Protocol):
    """What a leaf of this folder defines."""

    @property
    def command(self) -> click.Command:
        """The Click command of the name of the module."""


COMMANDS: registry.Leaves[CommandModule] = registry.Leaves("ga_audit.cli", shared=frozenset({"options"}))


def _first_line(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), f"{name}.py"), encoding="utf-8") as source:
        return source.readline().strip().strip('"')


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS.names())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        return COMMANDS.load(name).command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Commands: {', '.join(self.list_commands(ctx))}."
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _closed_pipe_to_status():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_pipe_to_status():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(name)) for name in self.list_commands(ctx)] or [("", "")])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ga-audit")
def cli() -> None:
    """Is that training curve really "8x too high"?

    ga-audit reads training logs, finds loss and grad_norm that scale with gradient accumulation, names the known bug,
    writes corrected curves, and confirms on your own installed stack.

    Exit status: 0 healthy, 1 scaling found, 2 wrong usage, 3 could not audit or inconclusive, 70 a defect of
    ga-audit, 130 interrupted.
    """


def main() -> None:
    """Entry point of the console script."""
    # our matrices are small: threads of the linear algebra would spin and gain nothing
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # an audit makes few cycles: the collector would run dozens of times while modules are imported, and find nothing
    gc.set_threshold(100_000)
    # as for Ctrl-C: what is half written is taken away before the program ends
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    status = _status()
    gc.freeze()  # nor does the interpreter search all modules for cycles before it ends: a tenth of a short audit
    sys.exit(status)


def _status() -> int:
    """Run the command line; how it ended, in words on standard error where the command has not said so itself."""
    try:
        ended = cli(prog_name="ga-audit", standalone_mode=False)
        _flush()
        return ended if isinstance(ended, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            return _defect(error)
        _say(f"error: cannot write: {error.strerror}{f': {error.filename}' if error.filename else ''}")
        return ExitCode.UNDECIDED
    except Exception as error:  # a defect of ours; Python would end with 1, which says that scaling was found
        return _defect(error)


_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


@contextmanager
def _closed_pipe_to_status() -> Iterator[None]:
    """End with the status of SIGPIPE, before Click ends with 1, which says that scaling was found."""
    try:
        try:
            yield
        except SystemExit:
            _flush()  # what is still buffered is written, or refused, while we can say so
            raise
    except BrokenPipeError:
        sys.exit(_reader_gone())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the shell, as with >&-
            stream.flush()


def _say(text: str) -> None:
    with suppress(OSError):
        click.echo(text, err=True)


def _reader_gone() -> int:
    """The program that read our output (`head`, a pager) has ended: no fault, and nobody is there to read a word."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # Python flushes once more at its end
        os.dup2(nowhere, 2)
    return 128 + getattr(signal, "SIGPIPE", 13)


def _defect(error: Exception) -> int:
    if os.environ.get("GA_AUDIT_TRACEBACK"):
        import traceback

        traceback.print_exc()
    _say(f"error: a defect of ga-audit itself: {type(error).__name__}: {str(error)[:300]}")
    _say("  -> Please report it, with the output of the same command under GA_AUDIT_TRACEBACK=1.")
    return ExitCode.DEFECT
