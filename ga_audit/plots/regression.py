"""Log ratio against log GA, with intervals and the lines of exponents 0, 1 and -1, for loss and grad_norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import Comparison, Estimate
from ga_audit.plots import _curve, _measured, _sheet, _theme
from ga_audit.run import FloatArray, Role, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Ratios of n runs to those of the smallest x."""

    names: tuple[str, ...]
    x: FloatArray  # (n,) GA or world size
    ratio: FloatArray  # (n,)
    half: FloatArray  # (n,) half width of the 95% interval, natural logs
    driver: str  # what x is
    estimate: Estimate | None


def figure(d: Diagnosis) -> Figure:
    """One plot for each of loss and grad_norm; intervals of points and of the slope hold run-to-run variation."""
    roles = _measured.logged(d)
    page = _sheet.sheet(len(roles), 1, "Ratio to the smallest GA, with 95% intervals")
    for ax, role in zip(page.axes[0], roles, strict=True):
        ax.set_title(role.value)
        found = points(d, role)
        if found is None:
            needs = "needs positive values at two values of GA"
            _sheet.say(ax, needs if any(run.get(role) for run in d.runs) else f"no {role.value} in these logs")
        else:
            _draw(ax, found, role)
    return _sheet.finish(page)


def points(d: Diagnosis, role: Role) -> Points | None:
    """The ratios of one quantity as evidence measured them, else those of plain means; None: no two values of x."""
    evidence = _measured.compared(d, role)
    if evidence is not None:
        estimate, comparison = evidence
        driver = estimate.driver
        x = np.exp(comparison.log_world if driver == "world_size" else comparison.log_ga).round()
        names = {run.id: run.name for run in d.runs}
        if len(set(x.tolist())) < 2:
            return None
        shown = tuple(names.get(i, i) for i in comparison.runs)
        return Points(shown, x, *ratios(x, comparison), driver, estimate)
    runs = [run for run in d.runs if run.settings.ga]
    kept, x, y = _levels(runs, role)
    if len(set(x.tolist())) < 2:
        return None
    return Points(tuple(run.name for run in kept), x, y, np.zeros(len(x)), "gradient_accumulation_steps", None)


def ratios(x: FloatArray, comparison: Comparison) -> tuple[FloatArray, FloatArray]:
    """Ratios (n,) of runs to those of the smallest x, and their half widths (n,) in natural logs.

    The variance of a contrast is that of the levels and twice that of a run's own effect; the
    reference itself has none.
    """
    base = x == x.min()
    weight = np.eye(len(x)) - base / base.sum()
    spread = comparison.covariance + comparison.run_effect**2 * np.eye(len(x))
    variance = np.diag(weight @ spread @ weight.T) + comparison.extra**2
    half = np.where(base & (base.sum() == 1), 0.0, 1.96 * np.sqrt(np.maximum(variance, 0.0)))
    return np.exp(np.clip(weight @ comparison.level, -300, 300)), half


def _levels(runs: Sequence[Run], role: Role) -> tuple[list[Run], FloatArray, FloatArray]:
    """Runs with their GA and ratio of plain mean logs, where no evidence has levels."""
    kept, found = [], []
    for run in runs:
        series = run.get(role)
        good = series.value[np.isfinite(series.value) & (series.value > 0)] if series is not None else np.empty(0)
        if len(good):
            kept.append(run)
            found.append((float(run.settings.ga or 1), float(np.mean(np.log(good)))))
    if not found:
        return [], np.empty(0), np.empty(0)
    x, y = np.array(found).T
    return kept, x, np.exp(np.clip(y - np.mean(y[x == x.min()]), -300, 300))


def _draw(ax: Axes, found: Points, role: Role) -> None:
    x, y, estimate = found.x, found.ratio, found.estimate
    colours = _theme.run_colours()
    span = np.array([1.0, x.max() / x.min()])
    fan = np.geomspace(span[0], span[1], 30)
    for slope, text in ((1, "summed"), (0, "correct"), (-1, "divided")):
        ax.plot(span * x.min(), span**slope, color=_theme.quiet(), linewidth=0.9, linestyle=(0, (4, 3)))
        ax.annotate(text, (x.max(), span[1] ** slope), textcoords="offset points", xytext=(9, 0), va="center")
    low, high = 1 / span[1], span[1]
    if estimate is not None:
        bottom, top = estimate.interval.low, estimate.interval.high
        name = "" if estimate.driver.startswith("grad") else " on world size"
        ax.set_title(f"{role.value}: exponent{name} {round(estimate.value, 3) + 0.0:.3f} [{bottom:.3f}, {top:.3f}]")
        bottom, top = (float(np.clip(v, -12, 12)) for v in (bottom, top))
        ax.fill_between(fan * x.min(), fan**bottom, fan**top, color=colours[0], alpha=0.18, linewidth=0)
        ax.plot(fan * x.min(), fan ** float(np.clip(estimate.value, -12, 12)), color=colours[0], linewidth=1.6)
        # a band that says nothing may leave the picture; the lines that it is held against may not
        low, high = max(min(low, span[1] ** bottom), low / 8), min(max(high, span[1] ** top), high * 8)
    bars = [y - y * np.exp(-found.half), y * np.exp(found.half) - y]
    ax.errorbar(x, y, yerr=bars, fmt="o", color=colours[1], markersize=5.5, capsize=4, elinewidth=1.3, zorder=3)
    for at, ratio in _labelled(x, y):
        ax.annotate(f"{ratio:.3g}x", (at, ratio), textcoords="offset points", xytext=(-7, 6), ha="right")
    _scaled(ax, x, min(low, float(y.min())), max(high, float(y.max())))
    ax.set_xlabel(found.driver)


def _labelled(x: FloatArray, y: FloatArray) -> list[tuple[float, float]]:
    """One ratio a value of x to be written: the mean of its runs; none at the smallest, which is 1."""
    return [(at, float(np.exp(np.mean(np.log(y[x == at]))))) for at in sorted(set(x.tolist()))[1:]]


def _scaled(ax: Axes, x: FloatArray, low: float, high: float) -> None:
    """Base-2 axes: every GA that occurs is a tick, ratios are 8, 4, 2, 1, 1/2 ..."""
    ticks = sorted(set(x.tolist()))
    low, high = low / (high / low) ** 0.06, high * (high / low) ** 0.06
    ax.set_xlim(min(ticks) / 1.12, max(ticks) * (max(ticks) / min(ticks)) ** 0.26)
    ax.set_ylim(low, high)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    _curve.fix_ticks(ax.xaxis, ticks if len(ticks) < 9 else ticks[:: len(ticks) // 8 + 1])
    _curve.fix_ticks(ax.yaxis, _curve.two_ticks(low, high), _curve.fraction)
