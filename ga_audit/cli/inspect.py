"""Audit logs: is loss or grad_norm scaled, by what, and what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ga_audit import registry
from ga_audit.cli._progress import reading as reading_progress
from ga_audit.cli.options import errors_to_status, leave, reading_options, show_error
from ga_audit.errors import ExitCode

if TYPE_CHECKING:
    from ga_audit.conclusion import Audit
    from ga_audit.pipeline import Options
    from ga_audit.run import ReadFailure


_NOT_FORMATS = frozenset({"html_page", "report_folder", "table"})  # of `report`, or parts of the others


def _formats() -> dict[str, str]:
    """Name on the command line -> leaf: the newest version of a form has the plain name."""
    names = (name for name in registry.names("ga_audit.output") if name not in _NOT_FORMATS)
    return {name.partition("_v")[0]: name for name in names}


@click.command(
    name="inspect", epilog="Exit status: 0 healthy, 1 scaling found, 2 usage, 3 inconclusive or not audited."
)
@reading_options
@click.option("--format", "form", type=click.Choice(list(_formats())), default="text", help="Form of the output.")
@click.option("--explain", is_flag=True, help="Show the arithmetic of the verdict, to be checked by hand.")
@click.option("--show-series", is_flag=True, help="Say what was read, how, and what was left out; no verdict.")
@click.option("--color/--no-color", default=None, help="Colour; by default where standard output is a terminal.")
@errors_to_status
def command(
    targets: tuple[str, ...],
    reading: Options,
    form: str,
    explain: bool,
    show_series: bool,
    color: bool | None,
) -> None:
    """Say whether logged loss and grad_norm scale with gradient accumulation.

    PATH is a log file, a run directory, a tree of them, or - for pasted console lines. Runs that can be compared are
    compared; a run alone is judged by the evidence inside it.

    \b
    ga-audit inspect runs/
    ga-audit inspect ga1/trainer_state.json ga8/trainer_state.json --ga ga1=1 --ga ga8=8
    pbpaste | ga-audit inspect - --ga 8 --stack transformers==4.46.1
    """  # noqa: D301 (\b is Click's)
    from ga_audit import pipeline

    with reading_progress() as progress:
        runs, failures = pipeline.read_runs(targets, reading, progress=progress)
    if show_series:
        from ga_audit.output._series import render_series

        click.echo(render_series(runs), color=color)
        _show_failures(failures)
        leave(ExitCode.HEALTHY if runs else ExitCode.UNDECIDED)
    result = pipeline.audit_runs(runs, failures, targets)
    rich = sys.stdout.isatty() if color is None else color
    renderer = registry.load("ga_audit.output", _formats()[form])
    click.echo(renderer.render(result, explain=explain, color=rich), color=rich)
    if form != "text":
        _show_failures(failures)
    leave(status(result))


def status(audit: Audit) -> ExitCode:
    """The exit status of an audit, worst first: scaled, undecided, healthy."""
    verdicts = {diagnosis.verdict.value for diagnosis in audit.diagnoses}
    if "scaled" in verdicts:
        return ExitCode.SCALED
    if audit.failures or audit.set_aside or verdicts != {"healthy"}:
        return ExitCode.UNDECIDED
    return ExitCode.HEALTHY


def _show_failures(failures: tuple[ReadFailure, ...]) -> None:
    for failure in failures:
        show_error(failure.error)
