"""One self-contained HTML page: light and dark, printable, with the values behind each plot as tables."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ga_audit.finding import Audit, Diagnosis
from ga_audit.render._explain import explanation
from ga_audit.render._safe import plain, redact
from ga_audit.run import Role

SUFFIX = ".html"
_MOST_ROWS = 60  # of a table behind a plot; the report's JSON holds the rest


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
    names : further words to take out.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ga_audit", "render"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip

    def shown(text: object) -> str:
        return redact(plain(str(text)), names=names) if redacted else plain(str(text))

    environment.filters["shown"] = shown
    diagnoses = [
        _context(d, figures[i] if i < len(figures) else {}, shown) for i, d in enumerate(audit.diagnoses)
    ]  # fmt: skip
    return environment.get_template("report.html.j2").render(audit=audit, diagnoses=diagnoses)


def _context(d: Diagnosis, figures: Mapping[str, tuple[bytes, bytes]], shown: Any) -> dict[str, Any]:
    return {
        "d": d,
        "runs": [_run_row(d, run) for run in d.runs],
        "exponents": [p for p in d.evidence if p.estimate is not None],
        "plots": [
            {
                "kind": kind,
                "light": "data:image/svg+xml;base64," + base64.b64encode(light).decode(),
                "dark": "data:image/svg+xml;base64," + base64.b64encode(dark).decode(),
                "text": _ALT[kind],
                "table": _table(d, kind),
            }
            for kind, (light, dark) in figures.items()
        ],
        "explanation": "\n".join(shown(line) for line in explanation(d)),
    }


_ALT = {
    "curves": "Logged curves of each run beside the corrected ones",
    "regression": "Ratio to the smallest GA against GA, with the lines right, summed and divided",
    "ratio": "Ratio of each run to the reference over training",
    "clipping": "Gradient norm against max_grad_norm, as logged and corrected",
    "evidence": "What each piece of evidence adds, in nats",
}


def _run_row(d: Diagnosis, run: Any) -> dict[str, Any]:
    s = run.settings

    def factor(role: Role) -> str:
        return f"{math.exp(d.log_factor(run, role)):g}×" if any(f.role is role for f in d.findings) else "–"

    return {
        "name": run.name,
        "ga": str(s.gradient_accumulation_steps.value) if s.gradient_accumulation_steps else "unknown",
        "ga_source": s.gradient_accumulation_steps.source if s.gradient_accumulation_steps else "",
        "micro": s.micro_batch_size.value if s.micro_batch_size else "unknown",
        "world": s.world_size.value if s.world_size else "unknown",
        "loss": factor(Role.LOSS),
        "norm": factor(Role.GRAD_NORM),
    }


def _table(d: Diagnosis, kind: str) -> dict[str, Any]:
    """Header and rows of the values behind a plot, thinned evenly."""
    if kind == "evidence":
        rows = [
            [p.kind, p.role.value, h.name, f"{x:+.3f}"] for p in d.evidence for h, x in p.log_likelihood.items()
        ]  # fmt: skip
        return {"header": ["evidence", "quantity", "hypothesis", "nats"], "rows": rows[:_MOST_ROWS]}
    if kind == "regression":
        rows = [
            [
                p.role.value,
                f"{p.estimate.value + 0.0:.4f}",
                f"{p.estimate.interval.low:.4f}",
                f"{p.estimate.interval.high:.4f}",
            ]
            for p in d.evidence
            if p.estimate is not None
        ]
        return {"header": ["quantity", "exponent", "low", "high"], "rows": rows}
    roles = (Role.GRAD_NORM,) if kind == "clipping" else (Role.LOSS, Role.GRAD_NORM)
    rows = []
    for run in d.runs:
        for role in roles:
            series = run.get(role)
            if series is None or not len(series):
                continue
            factor = math.exp(d.log_factor(run, role))
            each = max(_MOST_ROWS // max(len(d.runs) * len(roles), 1), 3)
            for i in np.unique(np.linspace(0, len(series) - 1, min(each, len(series))).astype(int)):
                value = float(series.value[i])
                rows.append([run.name, role.value, str(int(series.step[i])), f"{value:.6g}", f"{value / factor:.6g}"])
    return {"header": ["run", "quantity", "step", "logged", "corrected"], "rows": rows}
