"""Follow logs while they grow, and say when the verdict is reached."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import click

from ga_audit.cli.options import errors_to_status, leave, reading_options
from ga_audit.errors import ExitCode

if TYPE_CHECKING:
    from ga_audit.pipeline import Options
    from ga_audit.watch import Look

_STATUS = {"scaled": ExitCode.SCALED, "healthy": ExitCode.HEALTHY, "inconclusive": ExitCode.UNDECIDED}
_STANDARD_ERROR = 2  # standard output is for the verdicts


@click.command(
    name="watch",
    epilog="Exit status, of the last verdict, with --once or after --timeout: 0 healthy, 1 scaling found, 2 usage, "
    "3 inconclusive or no log. 130 interrupted.",
)
@partial(reading_options, fetches=False)
@click.option("--interval", type=click.FloatRange(min=0.1), default=5.0, show_default=True, metavar="SECONDS",
              help="Time between two looks.")  # fmt: skip
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS",
              help="End after this time.  [default: when interrupted]")  # fmt: skip
@click.option("--exec", "execute", metavar="COMMAND",
              help="Run when a verdict is reached or changes; GA_AUDIT_VERDICT says which.")  # fmt: skip
@errors_to_status
def command(
    targets: tuple[str, ...],
    reading: Options,
    interval: float,
    once: bool,
    timeout: float | None,
    execute: str | None,
) -> None:
    """Follow growing logs; print a line, and ring a terminal's bell, when the verdict is reached or changes.

    PATH is a log, or a folder that holds logs or will. Logs that are cut, replaced or resumed are read again.

    \b
    ga-audit watch runs/
    ga-audit watch train.jsonl --ga 8 --exec "notify-send training"
    ga-audit watch runs/ --once
    """  # noqa: D301 (\b is Click's)
    from ga_audit.commands import split_command
    from ga_audit.watch import Watcher

    words = split_command(execute, "--exec") if execute is not None else []
    watcher = Watcher(targets, reading)
    shown = _Display(words)
    end = None if timeout is None else time.monotonic() + timeout
    status = ExitCode.UNDECIDED
    while True:
        look = watcher.look()
        if look is not None:
            shown.show(look)
            status = _STATUS[look.verdict.value]
        left = interval if end is None else min(interval, end - time.monotonic())
        if once or left <= 0:
            shown.close()
            leave(status)
        time.sleep(left)


@dataclass
class _Display:
    """A line for each change of what is known; on a terminal a status line below, that is written over."""

    words: Sequence[str]
    is_terminal: bool = field(default_factory=lambda: sys.stderr.isatty())
    last: str = ""
    reached: str = "inconclusive"  # the last verdict that rang

    def show(self, look: Look) -> None:
        from ga_audit.output._watch import line, status_line

        for name in look.shrunk:
            self._print(f"{name!r} was cut or replaced: read from the start")
        now = line(look)
        verdict = look.verdict.value
        if now != self.last:
            self._print(now)
            self.last = now
        if verdict not in ("inconclusive", self.reached):
            self.reached = verdict
            self._ring(look)
        if self.is_terminal:
            click.echo(f"\r\x1b[K{status_line(look)}", nl=False, err=True)

    def close(self) -> None:
        if self.is_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _print(self, text: str) -> None:
        self.close()
        click.echo(f"{time.strftime('%H:%M:%S')}  {text}")
        sys.stdout.flush()  # whoever reads a pipe waits for it

    def _ring(self, look: Look) -> None:
        if self.is_terminal:
            click.echo("\a", nl=False, err=True)
        if not self.words:
            return
        facts = {"GA_AUDIT_VERDICT": look.verdict.value, "GA_AUDIT_FINDINGS": ",".join(look.findings)}
        try:
            done = subprocess.run(
                list(self.words),
                env={**os.environ, **facts},
                stdin=subprocess.DEVNULL,
                stdout=_STANDARD_ERROR,
                check=False,
            )
        except OSError as error:
            self._print(f"--exec: cannot be started: {error.strerror}")
            return
        if done.returncode:
            self._print(f"--exec: ended with status {done.returncode}")
