"""Audit whole projects or trees: hundreds of runs at once, the worst first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ga_audit import registry
from ga_audit.cli._progress import tasks
from ga_audit.cli._terminal import colour, confirm, quiet_option, width
from ga_audit.cli.options import color_option, errors_to_status, leave, reading_options
from ga_audit.errors import AuditError, ExitCode

if TYPE_CHECKING:
    from ga_audit.pipeline import Options
    from ga_audit.scan.selection import Condition
    from ga_audit.scan.survey import Survey

_FORMS = ("text", "json", "csv", "html")
_JOBS = 8  # a W&B server slows down clients that ask for more at once


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    from ga_audit.scan.selection import parse_since

    try:
        return parse_since(value)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is no date as 2026-11-01 and no age as 7d, 12h or 2w", ctx, param
        ) from None


def _conditions(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Condition, ...]:
    if not values:
        return ()
    from ga_audit.scan.selection import parse_condition

    try:
        return tuple(parse_condition(text) for text in values)
    except ValueError as error:
        raise click.BadParameter(f"{str(error)!r} is not KEY=VALUE, KEY!=VALUE, KEY>VALUE, ...", ctx, param) from None


@click.command(name="scan", epilog="Exit status: 0 healthy, 1 scaling found, 2 usage, 3 inconclusive or not audited.")
@reading_options
@click.option("--since", metavar="DATE", callback=_since, help="Runs since a date, or of the last 7d, 12h, 2w.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="W&B runs with this tag.")
@click.option("--filter", "conditions", multiple=True, metavar="KEY=VALUE", callback=_conditions,
              help="Runs with this setting (learning_rate>1e-4) or, on a server, this state, group, name or user.")  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(_FORMS), help="Format of the output [from the suffix of -o, else text]."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File of the output.")
@click.option("--force", is_flag=True, help="Replace an earlier output of ga-audit.")
@click.option(
    "-v",
    "--verbose",
    "--all",
    "every",
    is_flag=True,
    help="List all runs, the healthy ones too, instead of the first 40 others.",
)
@click.option("--jobs", type=click.IntRange(1, 64), default=_JOBS, show_default=True, help="Logs read at once.")
@click.option("--dask", metavar="ADDRESS", help="Use a Dask cluster (tcp://host:8786).")
@click.option("--no-redact", is_flag=True, help="Keep keys, names, home directories and entities in the HTML page.")
@color_option
@quiet_option
@errors_to_status
def command(
    targets: tuple[str, ...],
    reading: Options,
    since: Any,
    tags: tuple[str, ...],
    conditions: tuple[Condition, ...],
    form: str | None,
    output: Path | None,
    force: bool,
    every: bool,
    jobs: int,
    dask: str | None,
    no_redact: bool,
    color: bool | None,
) -> None:
    """Audit every run of W&B projects or directory trees.

    Comparable runs are judged together, and each run alone. A run that cannot be read has a row with the reason.

    \b
    ga-audit scan entity/project --since 7d --filter state=finished
    ga-audit scan runs/ -o scan.html
    ga-audit scan entity/project --dask tcp://scheduler:8786 --format csv
    """  # noqa: D301 (\b is Click's)
    from ga_audit.files.atomic import check_file
    from ga_audit.scan.selection import Selection
    from ga_audit.scan.survey import survey

    form = form or _form_of(output)
    if output is not None:
        check_file(output, force=force, inputs=targets)
    with _executor(jobs, dask) as executor, tasks() as progress:
        selection = Selection(since, tags, conditions)
        found = survey(targets, reading, executor=executor, selection=selection, progress=progress)
    rich = colour(color) and output is None
    text = _rendered(
        found, form, every=every, redacted=not no_redact, color=rich, columns=width() if output is None else 100
    )
    if output is None:
        click.echo(text.rstrip("\n"), color=rich)
    else:
        _write(output, text, force=force, inputs=[*targets, *(row.source for row in found.rows)])
        confirm(f"written: {output} ({len(found.rows)} runs)")
    leave(_status(found))


def _form_of(output: Path | None) -> str:
    suffix = output.suffix.lower().lstrip(".") if output is not None else ""
    return {"htm": "html"}.get(suffix, suffix if suffix in _FORMS else "text")


def _rendered(found: Survey, form: str, *, every: bool, redacted: bool, color: bool, columns: int) -> str:
    drawn = registry.load("ga_audit.output", "_survey")
    makers: dict[str, Callable[[], str]] = {
        "text": lambda: drawn.text(found, color=color, every=every, width=columns),
        "json": lambda: drawn.json_text(found),
        "csv": lambda: drawn.csv_text(found),
        "html": lambda: drawn.html(found, redacted=redacted),
    }
    return makers[form]()


def _write(output: Path, text: str, *, force: bool, inputs: Sequence[str]) -> None:
    """The file whole or not at all."""
    from ga_audit.files.atomic import new_file

    with new_file(output, force=force, inputs=inputs) as part:
        part.write_text(text if text.endswith("\n") else f"{text}\n", "utf-8")


def _status(found: Survey) -> ExitCode:
    """Worst first: scaled, undecided, healthy."""
    verdicts = set(found.counts)
    if "scaled" in verdicts:
        return ExitCode.SCALED
    return ExitCode.HEALTHY if verdicts == {"healthy"} else ExitCode.UNDECIDED


@contextmanager
def _executor(jobs: int, dask: str | None) -> Iterator[Executor]:
    """Threads of this process (reading waits for a server or a disk), or a Dask cluster."""
    if dask is None:
        pool = ThreadPoolExecutor(jobs)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return
    try:
        from distributed import Client
    except ImportError:
        raise AuditError("Dask is not installed", where="--dask", remedy="pip install 'ga-audit[dask]'") from None
    try:
        client = Client(dask, timeout=5, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        message = f"no Dask scheduler answers: {type(error).__name__}"
        raise AuditError(message, where=dask, remedy="Check the address, as tcp://host:8786.") from None
    with client:
        yield client.get_executor()
