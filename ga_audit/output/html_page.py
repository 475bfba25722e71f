"""One self-contained HTML page: light and dark, printable, with the values behind each plot as tables."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.finding import Verdict
from ga_audit.output import _redact, _values
from ga_audit.output._explain import explanation
from ga_audit.output._safe import plain, redact
from ga_audit.output.wording import advice, summary, verdict
from ga_audit.output.wording._numbers import factor as times
from ga_audit.output.wording._sentence import Code
from ga_audit.run import Role, Run

_ONE_COLUMN = 400  # points; a wider picture has two columns of axes


def render(
    audit: Audit,
    *,
    figures: Sequence[Mapping[str, tuple[bytes, bytes]]] = (),
    redacted: bool = True,
    names: tuple[str, ...] = (),
    **_: object,
) -> str:
    """The page.

    Parameters
    ----------
    audit : what was found.
    figures : for each diagnosis, kind of plot -> (SVG in light, SVG in dark).
    redacted : take out keys, people, home directories, hosts and W&B entities.
    names : further words to take out, beside those that the logs record.
    """
    if redacted:
        names = (*names, *_redact.names_in(_runs(audit)))
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ga_audit.output", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip

    def shown(text: object) -> str:
        return redact(plain(str(text)), names=names) if redacted else plain(str(text))

    environment.filters["shown"] = shown
    environment.tests["code"] = lambda part: isinstance(part, Code)
    diagnoses = [
        _context(d, figures[i] if i < len(figures) else {}, shown) for i, d in enumerate(audit.diagnoses)
    ]  # fmt: skip
    verdicts = ", ".join(dict.fromkeys(d.verdict.value for d in audit.diagnoses)) or "nothing to audit"
    first = min(audit.diagnoses, key=lambda d: _ORDER[d.verdict], default=None)
    title = "ga-audit" if first is None else f"{first.verdict.value.upper()}: {summary.headline(first)}"
    return environment.get_template("report.html.j2").render(
        audit=audit,
        title=title,
        verdicts=verdicts,
        diagnoses=diagnoses,
        set_aside=[(item.run.name, verdict.set_aside(item)) for item in audit.set_aside],
        ask=() if audit.ask is None else advice.ask(audit.ask),
    )


def _runs(audit: Audit) -> list[Run]:
    return [*(run for d in audit.diagnoses for run in d.runs), *(item.run for item in audit.set_aside)]


def _context(d: Diagnosis, figures: Mapping[str, tuple[bytes, bytes]], shown: Any) -> dict[str, Any]:
    return {
        "d": d,
        "headline": summary.headline(d),
        "reasons": verdict.reasons(d),
        "bugs": [(bug, verdict.bug_match(bug, d.verdict)) for bug in d.bugs],
        "retrain": advice.retrain(d.retrain),
        "next_steps": advice.next_steps(d),
        "runs": [_run_row(d, run) for run in d.runs],
        "exponents": d.exponents,
        "plots": [
            {
                "kind": kind,
                "title": _TITLES[kind],
                "light": "data:image/svg+xml;base64," + base64.b64encode(light).decode(),
                "dark": "data:image/svg+xml;base64," + base64.b64encode(dark).decode(),
                "text": _ALT[kind],
                "wide": _width(light) > _ONE_COLUMN,
                "table": _values.table(d, kind),
            }
            for kind, (light, dark) in figures.items()
        ],
        "explanation": "\n".join(shown(line) for line in explanation(d)),
    }


_TITLES = {
    "curves": "Curves",
    "regression": "Ratio against GA",
    "ratio": "Ratio over training",
    "clipping": "Clipping",
    "evidence": "Evidence",
}
_ORDER = {Verdict.SCALED: 0, Verdict.INCONCLUSIVE: 1, Verdict.HEALTHY: 2}
_ALT = {
    "curves": "Logged curves of each run beside the corrected ones",
    "regression": "Ratio to the smallest GA against GA, with the lines for correct, summed and divided",
    "ratio": "Ratio of each run to the reference over training",
    "clipping": "Gradient norm against max_grad_norm, as logged and corrected",
    "evidence": "What each piece of evidence adds, in nats",
}


def _width(svg: bytes) -> float:
    found = re.search(rb'<svg[^>]* width="([\d.]+)pt"', svg)
    return float(found[1]) if found else 0.0


def _run_row(d: Diagnosis, run: Any) -> dict[str, Any]:
    s = run.settings

    def factor(role: Role) -> str:
        return times(math.exp(d.log_factor(run, role))) if any(f.role is role for f in d.findings) else "–"

    return {
        "name": run.name,
        "ga": str(s.gradient_accumulation_steps.value) if s.gradient_accumulation_steps else "unknown",
        "ga_source": s.gradient_accumulation_steps.source if s.gradient_accumulation_steps else "",
        "micro": s.micro_batch_size.value if s.micro_batch_size else "unknown",
        "world": s.world_size.value if s.world_size else "unknown",
        "loss": factor(Role.LOSS),
        "norm": factor(Role.GRAD_NORM),
    }
