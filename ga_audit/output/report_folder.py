"""The files of a report: an issue text, one HTML page, the numbers as JSON, and the plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.files.atomic import new_directory
from ga_audit.grouping import Group
from ga_audit.output import _redact, html_page, issue, json_v1
from ga_audit.output._safe import redact


def private_names(audit: Audit) -> tuple[str, ...]:
    """Names of machines and people that a report leaves out: those of this machine, and those that the logs record."""
    return (*_redact.names_here(), *_redact.names_in([run for d in audit.diagnoses for run in d.runs]))


def write(
    audit: Audit, output: Path, *, template: str, redacted: bool, names: tuple[str, ...], style: str | None, force: bool,
    inputs: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """The report's files, whole or not at all; returns the names of the pictures."""
    pictures: list[str] = []
    embedded = []
    with new_directory(output, schema="ga-audit-report/1", force=force, inputs=inputs) as draft:
        part = draft.path
        for number, diagnosis in enumerate(audit.diagnoses, 1):
            prefix = f"{number}-" if len(audit.diagnoses) > 1 else ""
            embedded.append(_pictures(diagnosis, part, prefix, style, pictures, redacted, names))
        shown = [name for name in pictures if name.endswith(".png") and "dark" not in name]
        text = issue.render(audit, template=template, figures=shown, redacted=redacted, names=names)
        (part / "issue.md").write_text(text, "utf-8")
        page = html_page.render(audit, figures=embedded, redacted=redacted, names=names)
        (part / "report.html").write_text(page, "utf-8")
        safe = (lambda text: redact(text, names=names)) if redacted else None
        (part / "diagnosis.json").write_text(json_v1.render(audit, explain=True, shown=safe), "utf-8")
    return pictures


def _pictures(
    diagnosis: Diagnosis, folder: Path, prefix: str, style: str | None, written: list[str], redacted: bool,
    names: tuple[str, ...],
) -> dict[str, tuple[bytes, bytes]]:  # fmt: skip
    """Every plot in both variants as files; the SVGs for the page."""
    from ga_audit import plots

    if redacted:
        diagnosis = _redacted(diagnosis, names)
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


def _redacted(diagnosis: Diagnosis, names: tuple[str, ...]) -> Diagnosis:
    """A copy for the plots, in which names of runs are redacted."""
    runs = tuple(replace(run, name=redact(run.name, names=names)) for run in diagnosis.runs)
    clipping = tuple(replace(share, run=redact(share.run, names=names)) for share in diagnosis.clipping)
    return replace(diagnosis, group=Group(runs), clipping=clipping)
