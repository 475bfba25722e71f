"""The `ga-audit` group: a command is a module of this folder that defines `command`.

Commands are imported when they are called: `ga-audit --help` costs what Click costs. So the line that `--help` shows
for each stands here, as the first line of its module's docstring, read from the source without running it.
"""

from __future__ import annotations

import ast
import os
import signal
import sys
import traceback
from pathlib import Path

import click

from ga_audit import __version__, registry

_NOT_COMMANDS = {"options"}


def _first_line(name: str) -> str:
    source = (Path(__file__).parent / f"{name}.py").read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.partition("\n")[0]


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in registry.names("ga_audit.cli") if name not in _NOT_COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = registry.load("ga_audit.cli", name).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(name)) for name in self.list_commands(ctx)] or [("", "")])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ga-audit")
def cli() -> None:
    """Is that training curve really "8x too high"?

    ga-audit reads training logs, finds loss and grad_norm that scale with gradient accumulation, names the known bug,
    writes corrected curves, and confirms on your own installed stack.

    Exit status: 0 healthy, 1 scaling found, 2 wrong usage, 3 could not audit or inconclusive.
    """


def main() -> None:
    """Entry point of the console script."""
    # our matrices are small: threads of the linear algebra would spin and gain nothing
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # as for Ctrl-C: what is half written is taken away before the program ends
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        cli(prog_name="ga-audit")
    except Exception as error:  # a defect of ours; Python would end with 1, which says that scaling was found
        if os.environ.get("GA_AUDIT_TRACEBACK"):
            traceback.print_exc()
        click.echo(f"error: a defect of ga-audit itself: {type(error).__name__}: {str(error)[:300]}", err=True)
        click.echo("  -> Please report it, with the output of the same command under GA_AUDIT_TRACEBACK=1.", err=True)
        sys.exit(3)
