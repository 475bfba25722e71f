"""Options that commands share; an AuditError becomes a message and a status."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from ga_audit.cli._terminal import colour
from ga_audit.errors import AuditError, ExitCode, WrongUsage

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ga_audit.run import Schedule

F = TypeVar("F", bound=Callable[..., Any])


color_option = click.option(
    "--color/--no-color", default=None, help="Colour; by default where the terminal shows it and NO_COLOR is not set."
)


def show_error(error: AuditError) -> None:
    """Print an error and its remedy on standard error, with control characters made visible."""
    rich = colour(err=True)
    click.echo(f"{click.style('error:', fg='red', bold=True)} {_plain(_without_remedy(error))}", err=True, color=rich)
    if error.remedy:
        click.echo(f"  {click.style('->', fg='cyan')} {_plain(error.remedy)}", err=True, color=rich)


def _without_remedy(error: AuditError) -> str:
    return f"{error.where}: {error.message}" if error.where else error.message


def _plain(text: str) -> str:
    # error texts quote file names and log content; a terminal must not obey them
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def errors_to_status(function: F) -> F:
    """Turn an AuditError that reaches the command line into a message and status 3, a WrongUsage into status 2."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except WrongUsage as error:
            show_error(error)
            leave(ExitCode.USAGE)
        except AuditError as error:
            show_error(error)
            leave(ExitCode.UNDECIDED)

    return wrapper  # type: ignore[return-value]


def leave(code: ExitCode) -> NoReturn:
    """End the program with a status."""
    sys.exit(int(code))


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    """NAME=VALUE options as a dict from glob to a positive integer; a bare VALUE is for every run."""
    pairs: dict[str, int] = {}
    for text in values:
        name, _, number = text.rpartition("=")
        try:
            value = int(number)
        except ValueError:
            value = 0
        if value < 1:
            raise click.BadParameter(f"{text!r} is not NAME=N or N with N a positive whole number", ctx, param)
        pairs[name or "*"] = value
    return pairs


def _schedules(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Schedule]:
    """NAME=N or NAME=N,M@STEP options as a dict from glob to a schedule."""
    if not values:
        return {}
    from ga_audit.run import Schedule

    schedules = {}
    for text in values:
        name, _, schedule = text.rpartition("=")
        try:
            schedules[name or "*"] = Schedule.parse(schedule)
        except (ValueError, OverflowError):
            message = f"{text!r} is not NAME=N or N with N a positive whole number, nor NAME=N,M@STEP"
            raise click.BadParameter(message, ctx, param) from None
    return schedules


def _paths(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(typed, type="file")]  # the shell completes files and folders itself


def reading_options(function: F, *, needs_target: bool = True, fetches: bool = True) -> F:
    """Options of every command that reads logs, given to it as `targets` and, all the others in one, `reading`.

    Parameters
    ----------
    function : the command.
    needs_target : False for a command whose targets may be named elsewhere.
    fetches : False for a command that reads no server.
    """

    @functools.wraps(function)
    def reads(*, timeout: int | None = None, no_cache: bool = False, **given: Any) -> Any:
        from ga_audit.pipeline import Options

        if not fetches:
            return function(reading=Options(**_own(given)), timeout=timeout, **given)
        fetch = {"timeout": str(timeout)} if timeout else {}
        fetch |= {"cache": "no"} if no_cache else {}
        return function(reading=Options(**_own(given), fetch=fetch), **given)

    command: Any = reads
    options = (
        click.argument("targets", nargs=-1, required=needs_target, metavar="PATH..." if needs_target else "[PATH]...",
                       shell_complete=_paths),
        click.option("--ga", multiple=True, callback=_schedules, metavar="[NAME=]N",
                     help="gradient_accumulation_steps of the runs that NAME (a glob) fits; 2,8@500: 8 from step 500 on."),
        click.option("--world-size", multiple=True, callback=_pairs, metavar="[NAME=]N",
                     help="Data-parallel ranks of the runs that NAME (a glob) fits."),
        click.option("--loss-key", metavar="KEY", help="Name of the training loss in the logs."),
        click.option("--grad-norm-key", metavar="KEY", help="Name of the gradient norm in the logs."),
        click.option("--eval-loss-key", metavar="KEY", help="Name of the evaluation loss in text logs."),
        click.option("--step-key", metavar="KEY", help="Name of the optimizer step in text logs."),
        click.option("--ga-key", metavar="KEY", help="Name of gradient_accumulation_steps in text logs."),
        click.option("--line", metavar="FORM",
                     help="Form of the lines of text logs: 'Epoch {epoch} it {step} | loss {loss}'; {_} stands for anything."),
        click.option("--stack", multiple=True, metavar="PACKAGE==RELEASE",
                     help="Release of a package that trained the runs, where the logs do not say."),
    )  # fmt: skip
    of_servers = (
        click.option("--timeout", type=click.IntRange(min=1), metavar="SECONDS",
                     help="Longest wait for a server's answer [60]."),
        click.option("--no-cache", is_flag=True, help="Fetch again what was fetched before."),
    )  # fmt: skip
    for option in reversed(options + of_servers if fetches else options):
        command = option(command)
    return command  # type: ignore[no-any-return]


def _own(given: dict[str, Any]) -> dict[str, Any]:
    """The options that say something of the runs, taken out of those that were given."""
    names = (
        "ga", "world_size", "loss_key", "grad_norm_key", "eval_loss_key", "step_key", "ga_key", "line", "stack",
    )  # fmt: skip
    return {name: given.pop(name) for name in names}
