"""Audit logs: is loss or grad_norm scaled, by what, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ga_audit import registry
from ga_audit.cli._progress import reading as reading_progress
from ga_audit.cli._terminal import colour, width
from ga_audit.cli.options import color_option, errors_to_status, leave, reading_options, show_error
from ga_audit.errors import ExitCode

if TYPE_CHECKING:
    from ga_audit.conclusion import Audit
    from ga_audit.pipeline import Options
    from ga_audit.run import ReadFailure


_NOT_FORMATS = frozenset({"html_page"})  # of `report`


def _formats() -> dict[str, str]:
    """Name on the command line -> leaf: the newest version of a form has the plain name."""
    names = (name for name in registry.names("ga_audit.output") if name not in _NOT_FORMATS)
    return {name.partition("_v")[0]: name for name in names}


@click.command(
    name="inspect", epilog="Exit status: 0 healthy, 1 scaling found, 2 usage, 3 inconclusive or not audited."
)
@reading_options
@click.option("--format", "form", type=click.Choice(list(_formats())), default="text", help="Form of the output.")
@click.option("-v", "--verbose", is_flag=True, help="Show all evidence, exponents, possible bugs and notes.")
@click.option("--explain", is_flag=True, help="Show the arithmetic of the verdict.")
@click.option("--show-series", is_flag=True, help="Show what was read, how, and what was left out; no verdict.")
@color_option
@click.option("-q", "--quiet", is_flag=True, help="Show the verdict only.")
@errors_to_status
def command(
    targets: tuple[str, ...],
    reading: Options,
    form: str,
    verbose: bool,
    explain: bool,
    show_series: bool,
    color: bool | None,
    quiet: bool,
) -> None:
    """Report whether logged loss and grad_norm scale with gradient accumulation.

    PATH is a log file, a run directory, a tree of them, or - for pasted console lines. Comparable runs are compared;
    a single run is judged by the evidence in it.

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

        click.echo(render_series(runs), color=colour(color))
        _show_failures(failures)
        leave(ExitCode.HEALTHY if runs else ExitCode.UNDECIDED)
    result = pipeline.audit_runs(runs, failures, targets)
    rich = colour(color)
    renderer = registry.load("ga_audit.output", _formats()[form])
    shown = renderer.render(result, explain=explain, verbose=verbose, quiet=quiet, color=rich, width=width())
    click.echo(shown, color=rich)
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
