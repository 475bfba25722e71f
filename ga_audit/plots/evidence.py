"""What decided: train against eval loss, the ln(vocab) bound and epoch ends, and what each piece of evidence adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ga_audit.conclusion import Diagnosis
from ga_audit.plots import _curve, _measured, _sheet, _theme
from ga_audit.run import Role, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_RUNS = 3  # more are told by the ratios between them
_MOST_EPOCHS = 24
_MOST_BARS = 10
_SAME = 1e-6  # nats


def figure(d: Diagnosis) -> Figure:
    """Few runs: their loss beside what bounds it; always: nats that each piece of evidence gives."""
    drawn = [run for run in d.runs if run.get(Role.LOSS) is not None and len(run.get(Role.LOSS) or ())]
    bounds = 0 < len(drawn) <= _MOST_RUNS and (len(d.runs) == 1 or any(_is_bounded(run) for run in drawn))
    page = _sheet.sheet(1 + (bounds and bool(d.evidence)), 1, "What decided")
    if bounds:
        _bounds(page, page.axes[0][0], d, drawn)
    if d.evidence or not bounds:
        page.left[-1] = 16.5
        _bars(page.axes[0][-1], d)
    return _sheet.finish(page)


def _is_bounded(run: Run) -> bool:
    return run.get(Role.EVAL_LOSS) is not None or run.settings.vocab_size is not None


def _bounds(page: _sheet.Sheet, ax: Axes, d: Diagnosis, runs: list[Run]) -> None:
    """Logged loss, the same / GA, eval loss, ln(vocab), epoch ends: whatever of it there is."""
    ax.set_title("loss against its bounds")
    axis = _measured.axis_of(d)
    values, extent = [], []
    for family in _sheet.families(runs):
        run, look = family.runs[0], family.look
        series = run.get(Role.LOSS)
        assert series is not None
        x = _measured.position(run, series, axis)
        extent += [x[0], x[-1]]
        values.append(_curve.curve(ax, x, series.value, look))
        page.legend.append((f"{family.label}: logged loss", look))
        if (run.settings.ga or 1) > 1:
            by_ga = {**look, "linewidth": 1.0, "linestyle": (0, (1, 1.5))}
            values.append(_curve.curve(ax, x, series.value / (run.settings.ga or 1), by_ga))
            page.legend.append((f"the same / GA {run.settings.ga}", by_ga))
        evals = run.get(Role.EVAL_LOSS)
        if evals is not None and len(evals):
            mark: dict[str, Any] = {
                "color": _theme.run_colours()[1],
                "marker": "x",
                "linestyle": "-",
                "linewidth": 0.8,
                "markersize": 5,
            }
            ax.plot(_measured.position(run, evals, axis), evals.value, **mark)
            page.legend.append(("eval loss", mark))
            values.append(evals.value)
    bound = _vocabulary(page, ax, runs)
    _epochs(page, ax, runs[0], d)
    if not any(np.isfinite(v).any() for v in values):
        _sheet.say(ax, "no finite value")
        return
    _curve.scale_y(ax, values, also=bound)
    _curve.scale_x(ax, min(extent), max(extent))
    ax.set_xlabel(axis.value)


def _vocabulary(page: _sheet.Sheet, ax: Axes, runs: list[Run]) -> list[float]:
    """The loss of a model that guesses evenly: a mean over tokens does not start far above it."""
    sizes = {run.settings.vocab_size.value for run in runs if run.settings.vocab_size is not None}
    bound = sorted(math.log(size) for size in sizes if size > 1)[:3]
    look: dict[str, Any] = {"color": _theme.run_colours()[2], "linewidth": 1.3, "linestyle": (0, (6, 2))}
    for size, at in zip(sorted(sizes), bound, strict=False):
        ax.axhline(at, **look, label="_vocabulary")
        page.legend.append((f"ln({size}), an even guess: {at:.2f}", look))
    return bound


def _epochs(page: _sheet.Sheet, ax: Axes, run: Run, d: Diagnosis) -> None:
    """Where epochs end: a last, partial accumulation shows there."""
    epoch = run.get(Role.EPOCH)
    if epoch is None or len(epoch) < 2 or not np.all(np.isfinite(epoch.value)):
        return
    x = _measured.position(run, epoch, _measured.axis_of(d))
    last = math.floor(float(epoch.value.max()) + 1e-9)
    ends = [x[i] for k in range(1, last + 1) if (i := int(np.searchsorted(epoch.value, k - 1e-9))) < len(x)]
    if not 0 < len(ends) <= _MOST_EPOCHS:
        return
    look: dict[str, Any] = {"color": _theme.quiet(), "linewidth": 0.8, "linestyle": (0, (2, 2))}
    for at in ends:
        ax.axvline(at, **look, zorder=1, label="_epoch")
    page.legend.append(("epoch ends", look))


def _bars(ax: Axes, d: Diagnosis) -> None:
    """ln(likelihood ratio) of the best fault to healthy, of each piece of evidence, strongest first."""
    rows = []
    for piece in d.evidence:
        # a fault that predicts what healthy predicts, as one of an equal world size, tells nothing
        others = {
            h: x for h, x in piece.log_likelihood.items() if h.name not in {"healthy", "other"} and abs(x) > _SAME
        }
        if others:
            best = max(others, key=lambda h: others[h])
            rows.append((f"{piece.kind} ({piece.role.value})", best.name.partition("@")[0], others[best]))
    if not rows:
        _sheet.say(ax, "no evidence could speak")
        return
    rows = sorted(rows, key=lambda r: -abs(r[2]))[:_MOST_BARS]
    at = np.arange(len(rows))
    nats = np.array([x for *_, x in rows])
    colours = _theme.run_colours()
    ax.set_title("nats against healthy")
    ax.barh(at, nats, height=0.55, color=[colours[1] if x > 0 else colours[2] for x in nats])
    for y, x in zip(at, nats, strict=True):
        ax.annotate(f"{x:+.1f}", (max(x, 0), y), textcoords="offset points", xytext=(4, 0), va="center")
    ax.set_yticks(at, [f"{kind}\n{name}" for kind, name, _ in rows])
    ax.set_ylim(max(len(rows), 3) - 0.4, -0.6)
    low, high = min(float(nats.min()), 0.0), max(float(nats.max()), 0.0)
    room = (high - low) or 1.0
    ax.set_xlim(low - 0.05 * room, high + 0.2 * room)
    _curve.fix_ticks(ax.xaxis, _curve.linear_ticks(low - 0.05 * room, high + 0.2 * room)[::2])
    ax.axvline(0, color=_theme.quiet(), linewidth=1)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("ln(likelihood of the best fault / healthy)")
