"""Make a report: plots, an issue text to paste, one HTML page, the numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ga_audit import registry
from ga_audit.cli.options import errors_to_status, leave, reading_options, show_error
from ga_audit.errors import AuditError, ExitCode

if TYPE_CHECKING:
    from ga_audit.finding import Audit, Diagnosis
    from ga_audit.pipeline import Options

TEMPLATES = ("transformers", "trl", "axolotl", "llamafactory")  # as render.issue has them; it loads more than Click


@click.command(name="report", epilog="Exit status: 0 written; 2 usage; 3 nothing to report, or not written.")
@reading_options
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report"), show_default=True, metavar="DIR",
              help="Directory of the report.")  # fmt: skip
@click.option("--template", type=click.Choice(TEMPLATES), default="transformers", show_default=True,
              help="Bug-report form that issue.md follows.")  # fmt: skip
@click.option("--no-redact", is_flag=True, help="Keep keys, names, home directories, hosts and entities.")
@click.option("--plot-style", metavar="STYLE", help="A matplotlib style, by name or file.")
@click.option("--force", is_flag=True, help="Replace an earlier report of ga-audit.")
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
    Keys, user names, home directories, host names and W&B entities are taken out.
    """
    from ga_audit import pipeline
    from ga_audit.files.atomic import check_directory

    check_directory(output, force=force, inputs=targets)
    audit = pipeline.audit(targets, reading)
    for failure in audit.failures:
        show_error(failure.error)
    if not audit.diagnoses:
        raise AuditError("there is nothing to report", remedy="See `ga-audit inspect --show-series` for what was read.")
    names = () if no_redact else private_names(audit)
    inputs = [*targets, *(source.path for d in audit.diagnoses for run in d.runs for source in run.sources)]
    files = write(
        audit, output, template=template, redacted=not no_redact, names=names, style=plot_style, force=force,
        inputs=inputs,
    )  # fmt: skip
    for diagnosis in audit.diagnoses:
        click.echo(diagnosis.headline)
    click.echo(f"written: {output} (issue.md, report.html, diagnosis.json, {len(files)} pictures)")
    leave(ExitCode.HEALTHY)


def private_names(audit: Audit) -> tuple[str, ...]:
    """Names of machines and people that a report leaves out: those of this machine, and those that the logs record."""
    from ga_audit.output import _redact

    return (*_redact.names_here(), *_redact.names_in([run for d in audit.diagnoses for run in d.runs]))


def write(
    audit: Audit, output: Path, *, template: str, redacted: bool, names: tuple[str, ...], style: str | None, force: bool,
    inputs: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """The report's files, whole or not at all; returns the names of the pictures."""
    from ga_audit.files.atomic import new_directory
    from ga_audit.output._safe import redact

    pictures: list[str] = []
    embedded = []
    with new_directory(output, schema="ga-audit-report/1", force=force, inputs=inputs) as draft:
        part = draft.path
        for number, diagnosis in enumerate(audit.diagnoses, 1):
            prefix = f"{number}-" if len(audit.diagnoses) > 1 else ""
            embedded.append(_pictures(diagnosis, part, prefix, style, pictures, redacted, names))
        issue = registry.load("ga_audit.output", "issue")
        shown = [name for name in pictures if name.endswith(".png") and "dark" not in name]
        options = {"redacted": redacted, "names": names}
        (part / "issue.md").write_text(issue.render(audit, template=template, figures=shown, **options), "utf-8")
        page = registry.load("ga_audit.output", "html_page").render(audit, figures=embedded, **options)
        (part / "report.html").write_text(page, "utf-8")
        json_v1 = registry.load("ga_audit.output", "json_v1")
        safe = (lambda text: redact(text, names=names)) if redacted else None
        (part / "diagnosis.json").write_text(json_v1.render(audit, explain=True, shown=safe), "utf-8")
    return pictures


def _pictures(
    diagnosis: Diagnosis, folder: Path, prefix: str, style: str | None, written: list[str], redacted: bool,
    names: tuple[str, ...],
) -> dict[str, tuple[bytes, bytes]]:  # fmt: skip
    """Every plot in both variants as files; the SVGs for the page."""
    import dataclasses

    from ga_audit import plots
    from ga_audit.output._safe import redact

    if redacted:
        runs = tuple(dataclasses.replace(run, name=redact(run.name, names=names)) for run in diagnosis.runs)
        clipping = tuple(dataclasses.replace(c, run=redact(c.run, names=names)) for c in diagnosis.clipping)
        diagnosis = dataclasses.replace(diagnosis, runs=runs, clipping=clipping)
    found = {}
    for kind in plots.KINDS:
        drawn = plots.pictures(diagnosis, kind, style=style)
        if drawn is None:  # a ratio of one run, gradient norms that nobody logged
            continue
        files = {".png": drawn.png, "-dark.png": drawn.png_dark, ".svg": drawn.svg, "-dark.svg": drawn.svg_dark}
        for ending, content in files.items():
            (folder / f"{prefix}{kind}{ending}").write_bytes(content)
            written.append(f"{prefix}{kind}{ending}")
        found[kind] = (drawn.svg, drawn.svg_dark)
    return found
