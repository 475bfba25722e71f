"""What an `Audit` looks like outside the command line: a table, JSON, and HTML for notebooks."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.output import _notebook, json_v1
from ga_audit.output._safe import plain
from ga_audit.output.wording import verdict
from ga_audit.run import Role, Run

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "group", "run", "verdict", "impact", "gradient_accumulation_steps", "micro_batch_size", "world_size",
    "loss_factor", "grad_norm_factor", "findings",
)  # fmt: skip
_SHOWN = 20  # groups in a notebook


def frame(audit: Audit) -> pd.DataFrame:
    """One row per run, in the order of the groups; runs that were set aside come last."""
    import pandas as pd

    rows = [_row(number, found, run) for number, found in enumerate(audit.diagnoses) for run in found.runs]
    rows += [_row(None, None, item.run) for item in audit.set_aside]
    counts = ("group", "gradient_accumulation_steps", "micro_batch_size", "world_size")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(counts, "Int64") | {"loss_factor": "float64", "grad_norm_factor": "float64"})


def json(audit: Audit, *, explain: bool = False) -> str:
    """The audit in the schema `ga-audit/1`, as `inspect --format json` prints it."""
    return json_v1.render(audit, explain=explain)


def html(audit: Audit) -> str:
    """Each group with its verdict and what decided it, then what was not judged.

    Everything that came from a log is escaped.
    """
    parts = [_notebook.html_fragment(found) for found in audit.diagnoses[:_SHOWN]]
    if len(audit.diagnoses) > _SHOWN:
        parts.append(f"<p>... and {len(audit.diagnoses) - _SHOWN} more groups: <code>audit.to_frame()</code></p>")
    rest = [f"{item.run.name}: {verdict.set_aside(item)}" for item in audit.set_aside]
    rest += [str(failure.error) for failure in audit.failures]
    if rest:
        items = "".join(f"<li>{escape(plain(line))}</li>" for line in rest[:_SHOWN])
        more = f"<li>... and {len(rest) - _SHOWN} more</li>" if len(rest) > _SHOWN else ""
        parts.append(f"<p><strong>Not judged</strong></p><ul>{items}{more}</ul>")
    return "".join(parts) or "<p>Nothing to audit.</p>"


def _row(group: int | None, found: Diagnosis | None, run: Run) -> dict[str, Any]:
    settings = run.settings
    findings = () if found is None else tuple(f.id for f in found.findings if run.id in f.runs)
    return {
        "group": group,
        "run": run.name,
        "verdict": None if found is None else found.verdict.value,
        "impact": None if found is None else found.impact.value,
        "gradient_accumulation_steps": settings.ga,
        "micro_batch_size": None if settings.micro_batch_size is None else settings.micro_batch_size.value,
        "world_size": None if settings.world_size is None else settings.world_size.value,
        "loss_factor": _factor(found, run, Role.LOSS),
        "grad_norm_factor": _factor(found, run, Role.GRAD_NORM),
        "findings": ", ".join(findings),
    }


def _factor(found: Diagnosis | None, run: Run, role: Role) -> float:
    """Logged / intended as the findings have it; NaN where nothing is claimed."""
    if found is None or not any(f.role is role and run.id in f.runs for f in found.findings):
        return math.nan
    return math.exp(found.log_factor(run, role))
