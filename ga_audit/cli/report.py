"""Make a report: plots, an issue text to paste, one HTML page, the numbers as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ga_audit.cli._terminal import confirm, quiet_option
from ga_audit.cli.options import errors_to_status, leave, reading_options, show_error
from ga_audit.errors import AuditError, ExitCode

if TYPE_CHECKING:
    from ga_audit.pipeline import Options

TEMPLATES = ("transformers", "trl", "axolotl", "llamafactory")  # as output.issue has them; it loads more than Click


@click.command(name="report", epilog="Exit status: 0 written; 2 usage; 3 nothing to report, or not written.")
@reading_options
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report"), show_default=True, metavar="DIR",
              help="Directory of the report.")  # fmt: skip
@click.option("--template", type=click.Choice(TEMPLATES), default="transformers", show_default=True,
              help="Bug-report form that issue.md follows.")  # fmt: skip
@click.option("--no-redact", is_flag=True, help="Keep keys, names, home directories, hosts and entities.")
@click.option("--plot-style", metavar="STYLE", help="A matplotlib style, by name or file.")
@click.option("--force", is_flag=True, help="Replace an earlier report of ga-audit.")
@quiet_option
@errors_to_status
def command(
    targets: tuple[str, ...],
    reading: Options,
    output: Path,
    template: str,
    no_redact: bool,
    plot_style: str | None,
    force: bool,
) -> None:
    """Write everything that goes into a bug report.

    issue.md to paste, report.html to share, diagnosis.json for machines, and each plot as PNG and SVG, light and dark.
    Keys, user names, home directories, host names and W&B entities are redacted.
    """
    from ga_audit import pipeline
    from ga_audit.files.atomic import check_directory
    from ga_audit.output import _report_folder as report_folder
    from ga_audit.output.wording.verdict import headline

    check_directory(output, force=force, inputs=targets)
    audit = pipeline.audit(targets, reading)
    for failure in audit.failures:
        show_error(failure.error)
    if not audit.diagnoses:
        raise AuditError("there is nothing to report", remedy="See `ga-audit inspect --show-series` for what was read.")
    names = () if no_redact else report_folder.private_names(audit)
    inputs = [*targets, *(source.path for d in audit.diagnoses for run in d.runs for source in run.sources)]
    files = report_folder.write(
        audit, output, template=template, redacted=not no_redact, names=names, style=plot_style, force=force,
        inputs=inputs,
    )  # fmt: skip
    for diagnosis in audit.diagnoses:
        click.echo(headline(diagnosis))
    confirm(f"written: {output} (issue.md, report.html, diagnosis.json, {len(files)} pictures)")
    leave(ExitCode.HEALTHY)
