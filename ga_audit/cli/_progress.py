"""Progress on standard error: one line that is overwritten, where that is a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ga_audit.cli._terminal import is_quiet

if TYPE_CHECKING:
    from ga_audit.repro.plan import Progress

_ERASE = "\r\x1b[K"
_BAR = 30  # characters
_MAX_PATH = 60


@contextmanager
def _line() -> Iterator[Callable[[str], None] | None]:
    """A function that shows a text in place of the one before; None where there is no terminal, or with -q."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or is_quiet():
        yield None
        return
    try:
        yield lambda text: click.echo(f"{_ERASE}{text}", nl=False, err=True)
    finally:
        click.echo(_ERASE, nl=False, err=True)


def _bar(done: int, total: int) -> str:
    """` [###---] 1/2`; of an unknown total, what is done."""
    filled = _BAR * done // total if total else 0
    return f" [{'#' * filled}{'-' * (_BAR - filled)}] {done}/{total}" if total else f" {done}"


@contextmanager
def reading() -> Iterator[Callable[[str], None] | None]:
    """Names the log that is being read."""
    count = 0

    def show(path: str) -> None:
        nonlocal count
        count += 1
        shown = path if len(path) <= _MAX_PATH else f"...{path[3 - _MAX_PATH :]}"
        assert line is not None
        line(f"reading {count}: {shown}")

    with _line() as line:
        yield None if line is None else show


@contextmanager
def tasks() -> Iterator[Callable[[str, int, int], None] | None]:
    """Shows what is being done, how much of it is done, and of how much."""

    def show(what: str, done: int, total: int) -> None:
        assert line is not None
        line(f"{what}{_bar(done, total)}")

    with _line() as line:
        yield None if line is None else show


@contextmanager
def training() -> Iterator[Callable[[Progress], None]]:
    """Shows the cells that are trained, with the time left; without a terminal, a line for each cell."""

    def show(at: Progress) -> None:
        label = f"{at.plan.name} GA {at.cell.ga}" + (f" x {at.cell.world_size} ranks" if at.cell.world_size > 1 else "")
        rest = "" if at.seconds_left is None else f", about {at.seconds_left:.0f} s left"
        if is_quiet():
            return
        if line is None:
            click.echo(f"{at.done}/{at.total} trained{rest}; {label}", err=True)
        else:
            line(f"training{_bar(at.done, at.total)} {label}{rest}")

    with _line() as line:
        yield show
