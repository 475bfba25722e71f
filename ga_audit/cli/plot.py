"""Draw one plot of an audit into a PNG or SVG file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ga_audit.cli._terminal import confirm, quiet_option
from ga_audit.cli.options import errors_to_status, leave, reading_options, show_error
from ga_audit.errors import AuditError, ExitCode

if TYPE_CHECKING:
    from ga_audit.pipeline import Options

_KINDS = ("curves", "regression", "ratio", "clipping", "evidence")  # as plots.KINDS; plots loads numpy


@click.command(name="plot", epilog="Exit status: 0 written; 2 usage; 3 nothing to draw, or not written.")
@reading_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="PNG, SVG or PDF file."
)
@click.option("--kind", type=click.Choice(_KINDS), default="curves", show_default=True, help="Which plot.")
@click.option("--dark", is_flag=True, help="Light text on a dark background.")
@click.option("--plot-style", metavar="STYLE", help="A matplotlib style, by name or file.")
@click.option("--force", is_flag=True, help="Replace an earlier plot of ga-audit.")
@quiet_option
@errors_to_status
def command(
    targets: tuple[str, ...],
    reading: Options,
    output: Path,
    kind: str,
    dark: bool,
    plot_style: str | None,
    force: bool,
) -> None:
    """Draw one plot: curves, regression, ratio, clipping or evidence.

    Of several groups of runs, the first is drawn.
    """
    from ga_audit import pipeline, plots
    from ga_audit.files.atomic import check_file, new_file

    if output.suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise click.BadParameter("the file's name must end in .png, .svg or .pdf", param_hint="--output")
    check_file(output, force=force, inputs=targets)
    audit = pipeline.audit(targets, reading)
    for failure in audit.failures:
        show_error(failure.error)
    if not audit.diagnoses:
        raise AuditError("there is nothing to draw", remedy="See `ga-audit inspect --show-series` for what was read.")
    figure = plots.draw(audit.diagnoses[0], kind, dark=dark, style=plot_style)
    sources = [source.path for d in audit.diagnoses for run in d.runs for source in run.sources]
    with new_file(output, force=force, inputs=[*targets, *sources]) as part:
        plots.save(figure, part.with_suffix(""), (part.suffix,))
    confirm(f"written: {output}")
    leave(ExitCode.HEALTHY)
