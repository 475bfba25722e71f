"""Logged curves by GA beside corrected curves, with eval loss where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import Verdict
from ga_audit.plots import _curve, _measured, _sheet, _theme
from ga_audit.run import FloatArray, Role, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EVAL: dict[str, Any] = {"linestyle": "none", "marker": "x", "markersize": 5, "markeredgewidth": 1.3}


def figure(d: Diagnosis) -> Figure:
    """A row for each quantity: as logged, and corrected on a scale of its own over the logged curves, pale.

    Without findings, the logged curves alone.
    """
    roles = _measured.logged(d)
    shown = _sheet.families(d.runs)
    if d.findings:
        heading = "Logged curves, and what a correct trainer would have logged"
        page = _sheet.sheet(2, len(roles), heading, shown, shared=True)
        page.left = [page.left[0]] * 2  # each has its own numbers
        rows = page.axes
    else:
        healthy = d.verdict is Verdict.HEALTHY
        page = _sheet.sheet(len(roles), 1, f"Logged curves{': nothing to correct' if healthy else ''}", shown)
        rows = [[ax] for ax in page.axes[0]]
    extent = _extent(d, roles)
    for role, axes in zip(roles, rows, strict=True):
        told = axes is rows[-1] or not d.findings
        for i, ax in enumerate(axes):
            changed = "corrected" if _measured.found(d, role) else "unchanged"
            ax.set_title(f"{role.value} {changed if i else 'as logged'}")
            drawn = _plot(ax, d, role, shown, corrected=i > 0)
            if not any(np.isfinite(v).any() for v in drawn):
                _sheet.say(ax, f"no finite {role.value}")
                continue
            _curve.scale_y(ax, drawn)
            if i and _measured.found(d, role):
                _ghosts(ax, d, role, shown)
            _curve.scale_x(ax, *extent, told=told)
            ax.set_xlabel(_measured.axis_of(d).value if told else "")
    if any(_has_eval(run) for run in d.runs) and Role.LOSS in roles:
        page.legend.append(("eval loss", {"color": _theme.quiet(), **_EVAL}))
    return _sheet.finish(page)


def _plot(ax: Axes, d: Diagnosis, role: Role, shown: list[_sheet.Family], *, corrected: bool) -> list[FloatArray]:
    """One quantity of all runs, with eval loss over the training loss; returns what was drawn."""
    axis = _measured.axis_of(d)
    drawn = []
    for run, look in _sheet.each_run(shown):
        series = run.get(role)
        if series is None or not len(series):
            continue
        factor = _measured.factor(d, run, role) if corrected else 1.0
        drawn.append(_curve.curve(ax, _measured.position(run, series, axis), series.value / factor, look))
        evals = run.get(Role.EVAL_LOSS)
        if role is Role.LOSS and evals is not None:
            ax.plot(_measured.position(run, evals, axis), evals.value, color=look["color"], **_EVAL)
            drawn.append(evals.value)
    return drawn


def _ghosts(ax: Axes, d: Diagnosis, role: Role, shown: list[_sheet.Family]) -> None:
    """The logged curves, pale, as far as they lie in the range of the corrected ones."""
    axis = _measured.axis_of(d)
    for run, look in _sheet.each_run(shown):
        series = run.get(role)
        if series is None or _measured.factor(d, run, role) == 1.0:
            continue
        x, y = _curve.thinned(_measured.position(run, series, axis), series.value)
        ax.plot(x, y, color=look["color"], linewidth=0.8, alpha=0.3, zorder=1.2, label="_logged")


def _has_eval(run: Run) -> bool:
    evals = run.get(Role.EVAL_LOSS)
    return evals is not None and len(evals) > 0 and run.get(Role.LOSS) is not None


def _extent(d: Diagnosis, roles: list[Role]) -> tuple[float, float]:
    """First and last place of what is drawn."""
    axis = _measured.axis_of(d)
    all_series = [(run, s) for run in d.runs for role in roles if (s := run.get(role)) is not None and len(s)]
    ends = [_measured.position(run, s, axis)[[0, -1]] for run, s in all_series]
    return (float(min(e[0] for e in ends)), float(max(e[1] for e in ends))) if ends else (0.0, 1.0)
