"""The ratio of each run to the reference over training, with the lines that are expected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import Axis, NotApplicable
from ga_audit.grouping import Panel
from ga_audit.plots import _curve, _measured, _names, _sheet, _theme
from ga_audit.run import FloatArray, Role, Run, Series
from ga_audit.stats import alignment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(d: Diagnosis) -> Figure:
    """Loss beside grad_norm; a line for each run, in the bins that the runs were compared in."""
    shown = _sheet.families(d.runs)
    roles = _measured.logged(d)
    page = _sheet.sheet(len(roles), 1, "Ratio between runs over training", shown)
    dotted = set()
    for ax, role in zip(page.axes[0], roles, strict=True):
        ax.set_title(role.value)
        panel = d.group.panel(role)
        if isinstance(panel, NotApplicable):
            needs = "needs positive values of two runs at common steps"
            _sheet.say(ax, needs if any(run.get(role) for run in d.runs) else f"no {role.value} in these logs")
            continue
        base = _measured.reference(panel.runs)
        assert base is not None
        ax.set_title(f"{role.value}: ratio to {_names.shown(base.name, 22)}")
        fault, words = _measured.expected(d, role)
        drawn, guides = [], {1.0}
        for run, look in _sheet.each_run(shown):
            if run in panel.runs and run is not base:
                drawn.append(_line(ax, panel, run, base, look))
                guide = math.exp(fault.log_factor(run) - fault.log_factor(base))
                if math.isfinite(guide):
                    ax.axhline(guide, color=look["color"], linewidth=0.9, linestyle=(0, (1, 2)), label="_expected")
                    guides.add(guide)
                    dotted.add(words)
        ax.axhline(1.0, color=_theme.quiet(), linewidth=1.1, zorder=1, label="_right")
        _curve.scale_y(ax, drawn, also=sorted(guides), ratio=True)
        _curve.scale_x(ax, max(float(panel.edges[0]), 0.0), float(panel.edges[-1]))
        ax.set_xlabel(panel.axis.value)
    if dotted:
        look = {"color": _theme.quiet(), "linewidth": 0.9, "linestyle": (0, (1, 2))}
        page.legend.append((f"expected if {' or '.join(sorted(dotted))}", look))
    return _sheet.finish(page)


def _line(ax: Axes, panel: Panel, run: Run, base: Run, look: dict[str, Any]) -> FloatArray:
    """The ratio at the steps that both log, faint, and in bins; returns the binned values."""
    mine, theirs = run.get(panel.role), base.get(panel.role)
    assert mine is not None
    assert theirs is not None
    if panel.axis is Axis.STEP and panel.points > 120 * len(panel.runs):
        common, a, b = np.intersect1d(mine.position, theirs.position, return_indices=True)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            each = mine.value[a] / theirs.value[b]
        faint = {**look, "linewidth": 0.5, "alpha": 0.3, "linestyle": "-", "label": "_points"}
        ax.plot(*_curve.thinned(common, each), **faint)
    return _curve.curve(ax, *binned(panel, run, base), look, lost=False)


def binned(panel: Panel, run: Run, base: Run) -> tuple[FloatArray, FloatArray]:
    """Ends of the bins of a comparison (m,) and the ratio of two runs in them (m,), NaN where one has no point.

    A point stands for the steps before it, so a bin is told at its end.
    """
    mine, theirs = run.get(panel.role), base.get(panel.role)
    assert mine is not None
    assert theirs is not None
    level = _level(panel, run, mine) - _level(panel, base, theirs)
    return panel.edges[1:], np.exp(np.clip(level, -300, 300))


def _level(panel: Panel, run: Run, series: Series) -> FloatArray:
    """Log means of a run (m,) in the bins of the comparison."""
    good = alignment.clean(_measured.position(run, series, panel.axis), series.value)
    level, _ = alignment.bin_levels(good.position, good.value, panel.edges, geometric=panel.role is Role.GRAD_NORM)
    return level
