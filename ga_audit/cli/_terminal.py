"""What the terminal can show: its width and colour, by the conventions of NO_COLOR, FORCE_COLOR and TERM."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

_NARROWEST, _WIDEST = 40, 100  # columns of a line of text
_KEY = "ga_audit.quiet"


def width() -> int:
    """Columns of standard output: COLUMNS, the terminal, else 80."""
    return min(max(_console(err=False).width, _NARROWEST), _WIDEST)


def colour(chosen: bool | None = None, *, err: bool = False) -> bool:
    """Whether to colour.

    Parameters
    ----------
    chosen : by the user, None = by the stream and the environment.
    err : standard error instead of standard output.
    """
    if chosen is not None:
        return chosen
    console = _console(err=err)
    return console.color_system is not None and not console.no_color


def _console(*, err: bool) -> Console:
    from rich.console import Console

    return Console(file=sys.stderr if err else sys.stdout)


def quiet_option(function: click.decorators.FC) -> click.decorators.FC:
    """Add `-q`, which `is_quiet` tells."""

    def keep(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.meta[_KEY] = value

    return click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=keep, help="Print results and errors only."
    )(function)


def is_quiet() -> bool:
    """Whether the user asked for results and errors only."""
    ctx = click.get_current_context(silent=True)
    return bool(ctx is not None and ctx.meta.get(_KEY))


def confirm(text: str) -> None:
    """Print what was done, unless the user asked for results only."""
    if not is_quiet():
        click.echo(text)
