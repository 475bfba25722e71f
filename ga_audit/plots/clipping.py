"""grad_norm against max_grad_norm, logged and corrected, with the share of clipped steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import ClipShare
from ga_audit.plots import _curve, _measured, _sheet, _theme
from ga_audit.run import FloatArray, Role

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(d: Diagnosis) -> Figure:
    """As logged beside corrected, on one scale; without a finding, as logged alone."""
    corrected = _measured.found(d, Role.GRAD_NORM) is not None
    shares = {c.run: c for c in d.clipping}
    shown = [_told(f, shares, corrected) for f in _sheet.families(d.runs)]
    limits = sorted({c.max_grad_norm for c in d.clipping})
    page = _sheet.sheet(2 if corrected else 1, 1, "Steps above max_grad_norm are clipped", shown, shared=corrected)
    # black and dashed: grey is the colour of GA 1
    guide: dict[str, Any] = {"color": _theme.ink(), "linewidth": 1.2, "linestyle": (0, (4, 2)), "zorder": 2.6}
    axis = _measured.axis_of(d)
    drawn: list[FloatArray] = []
    extent: list[float] = []
    for i, ax in enumerate(page.axes[0]):
        ax.set_title("grad_norm corrected" if i else "grad_norm as logged")
        for run, look in _sheet.each_run(shown):
            series = run.get(Role.GRAD_NORM)
            if series is None or not len(series):
                continue
            x = _measured.position(run, series, axis)
            factor = _measured.factor(d, run, Role.GRAD_NORM) if i else 1.0
            drawn.append(_curve.curve(ax, x, series.value / factor, look))
            extent += [x[0], x[-1]]
    for i, ax in enumerate(page.axes[0]):
        if not any(np.isfinite(v).any() for v in drawn):
            _sheet.say(ax, "no finite grad_norm in these logs")
            continue
        for limit in limits:
            ax.axhline(limit, label="_max_grad_norm", **guide)
        _curve.scale_y(ax, drawn, also=limits, told=i == 0)
        _curve.scale_x(ax, min(extent), max(extent))
        ax.set_xlabel(axis.value)
    if limits:
        text = f"max_grad_norm {', '.join(f'{v:g}' for v in limits[:4])}"
        page.legend.append((text, guide))
    else:
        page.heading = "Gradient norm; max_grad_norm is not recorded"
    return _sheet.finish(page)


def _told(family: _sheet.Family, shares: dict[str, ClipShare], corrected: bool) -> _sheet.Family:
    """The family's line of the legend with its share of clipped steps, the mean where it is several runs."""
    known = [shares[run.name] for run in family.runs if run.name in shares]
    if not known:
        return family
    logged = float(np.mean([c.as_logged for c in known]))
    right = float(np.mean([c.as_corrected for c in known]))
    change = f", {right:.0%} corrected" if corrected else ""
    return replace(family, label=f"{family.label}: {logged:.0%} clipped{change}")
