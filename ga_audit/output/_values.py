"""The values behind each plot, as tables for those who cannot see it, or want to check it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import NotApplicable
from ga_audit.plots import _measured, ratio, regression
from ga_audit.run import Role

_MOST_ROWS = 120  # of one table, evenly thinned; the logs hold the rest
Row = list[str]


def table(d: Diagnosis, kind: str) -> dict[str, Any]:
    """Header and rows (strings) of the values behind one kind of plot."""
    header, rows = {
        "curves": _curves, "regression": _regression, "ratio": _ratio, "clipping": _clipping, "evidence": _evidence,
    }[kind](d)  # fmt: skip
    return {"header": header, "rows": rows[:_MOST_ROWS]}


def _curves(d: Diagnosis) -> tuple[Row, list[Row]]:
    roles = (Role.LOSS, Role.GRAD_NORM, Role.EVAL_LOSS)
    found = [(run, role, s) for run in d.runs for role in roles if (s := run.get(role)) is not None and len(s)]
    rows = []
    for run, role, series in found:
        factor = _measured.factor(d, run, role)
        for i in _thinned(len(series), len(found)):
            value = float(series.value[i])
            rows.append([run.name, role.value, str(int(series.position[i])), f"{value:.6g}", f"{value / factor:.6g}"])
    return ["run", "quantity", "optimizer step", "logged", "corrected"], rows


def _regression(d: Diagnosis) -> tuple[Row, list[Row]]:
    rows = []
    driver = "GA"
    for role in _measured.logged(d):
        found = regression.points(d, role)
        if found is None:
            continue
        driver = found.driver
        for name, x, y, half in zip(found.names, found.x, found.ratio, found.half, strict=True):
            rows.append(
                [role.value, name, f"{x:g}", *(f"{v:.5g}" for v in (y, y * math.exp(-half), y * math.exp(half)))]
            )
    return ["quantity", "run", driver, "ratio to the smallest", "95% from", "to"], rows


def _ratio(d: Diagnosis) -> tuple[Row, list[Row]]:
    axis = "optimizer step"
    rows = []
    for role in _measured.logged(d):
        panel = d.group.panel(role)
        base = None if isinstance(panel, NotApplicable) else _measured.reference(panel.runs)
        if isinstance(panel, NotApplicable) or base is None:
            continue
        axis = panel.axis.value
        fault, _ = _measured.expected(d, role)
        for run in panel.runs:
            if run is base:
                continue
            at, value = ratio.binned(panel, run, base)
            expected = math.exp(fault.log_factor(run) - fault.log_factor(base))
            for i in _thinned(len(at), 2 * (len(panel.runs) - 1)):
                rows.append([role.value, run.name, base.name, f"{at[i]:g}", f"{value[i]:.5g}", f"{expected:g}"])
    return ["quantity", "run", "against", axis, "ratio", "if scaled"], rows


def _clipping(d: Diagnosis) -> tuple[Row, list[Row]]:
    if not d.clipping:
        header, rows = _curves(d)
        return header, [row for row in rows if row[1] == Role.GRAD_NORM.value]
    rows = [
        [c.run, f"{c.max_grad_norm:g}", f"{c.as_logged:.1%}", f"{c.as_corrected:.1%}", str(c.n_points)]
        for c in d.clipping
    ]
    return ["run", "max_grad_norm", "steps above it, as logged", "as corrected", "steps"], rows


def _evidence(d: Diagnosis) -> tuple[Row, list[Row]]:
    rows = [[p.kind, p.role.value, h.name, f"{x:+.3f}"] for p in d.evidence for h, x in p.log_likelihood.items()]
    return ["evidence", "quantity", "hypothesis", "nats, or value"], [*rows, *_bounds(d)]


def _bounds(d: Diagnosis) -> Iterator[Row]:
    for run in d.runs[:3]:
        size = run.settings.vocab_size
        if size is not None and size.value > 1:
            yield [run.name, "loss", f"ln(vocab_size {size.value})", f"{math.log(size.value):.4g}"]


def _thinned(n: int, series: int) -> list[int]:
    each = max(_MOST_ROWS // max(series, 1), 3)
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(each, n)).astype(int))]
