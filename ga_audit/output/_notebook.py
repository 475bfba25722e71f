"""How a Diagnosis shows itself in a notebook."""

from __future__ import annotations

from html import escape

from ga_audit.conclusion import Diagnosis
from ga_audit.output._safe import plain
from ga_audit.output.markdown import diagnosis_lines
from ga_audit.output.wording import verdict


def markdown(diagnosis: Diagnosis) -> str:
    """The diagnosis as Markdown."""
    return "\n".join(diagnosis_lines(diagnosis))


def html_fragment(diagnosis: Diagnosis) -> str:
    """Verdict and reasons as a few elements; everything escaped."""
    reasons = "".join(f"<li>{escape(plain(reason))}</li>" for reason in verdict.reasons(diagnosis))
    headline = escape(plain(verdict.headline(diagnosis)))
    return f"<p><strong>{diagnosis.verdict.value.upper()}</strong> {headline}</p><ul>{reasons}</ul>"
