"""Curves of many points, and axes with numbers that people read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ga_audit.run import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 700  # drawn per curve, two for each pixel column of the SVG; see `thinned`
_MANY = 160  # from here on a curve is a trend and, faint behind it, its points
_TREND = 60  # bins of a trend
_MOST_GAPS = 60
LOST = "_not finite"
LOST_LOOK: dict[str, Any] = {"linestyle": "none", "marker": "|", "markersize": 9, "clip_on": False}


def thinned(step: Any, value: FloatArray, most: int = _MOST_POINTS) -> tuple[Any, FloatArray]:
    """At most about `most` points of a curve: lowest and highest of each of `most` / 2 equal bins, in their order.

    So the drawn line covers the same area as that through all points, and no spike is lost, however short: of a
    million points the largest and the smallest are always among those that are drawn. It is a few passes over the
    points, some ten milliseconds for a million.

    Parameters
    ----------
    step, value : (n,)
    most : points to keep.
    """
    n = len(step)
    if n <= most:
        return step, value
    # NaN would win every comparison; a bin of nothing else keeps one, as a gap
    low = _in_bins(np.where(np.isnan(value), np.inf, value), most // 2, np.inf)
    high = _in_bins(np.where(np.isnan(value), -np.inf, value), most // 2, -np.inf)
    first = np.arange(len(low)) * low.shape[1]
    index = np.unique(np.concatenate([first + low.argmin(axis=1), first + high.argmax(axis=1)]))
    return step[index], value[index]


def trend(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Medians of about `_TREND` bins of equal numbers of points; NaN left out, a bin of nothing else is a gap."""
    place = _in_bins(x, _TREND, np.nan)
    level = np.sort(_in_bins(y, _TREND, np.nan), axis=1)  # NaN last
    count = np.count_nonzero(np.isfinite(level), axis=1)
    row = np.arange(len(level))
    middle = (level[row, np.maximum(count - 1, 0) // 2] + level[row, np.minimum(count // 2, level.shape[1] - 1)]) / 2
    return np.nanmean(place, axis=1), np.where(count > 0, middle, np.nan)


def _in_bins(y: FloatArray, bins: int, fill: float) -> FloatArray:
    """Values (n,) as rows of at most `bins` bins of equal numbers of points; `fill` stands behind the last."""
    width = -(-len(y) // bins)
    out = np.full(-(-len(y) // width) * width, fill)
    out[: len(y)] = y
    return out.reshape(-1, width)


def curve(
    ax: Axes, x: FloatArray | IntArray, y: FloatArray, look: Mapping[str, Any], *, lost: bool = True
) -> FloatArray:
    """Draw one curve and return its finite values: many points as a trend over faint points, lone points as dots.

    With `lost`, values that are not finite are ticks on the x axis, in the curve's colour.
    """
    x = np.asarray(x, np.float64)
    good = np.isfinite(y)
    if lost and not np.all(good):
        at = x[~good]
        at = at[:: len(at) // _MOST_GAPS + 1]
        ax.plot(at, np.zeros(len(at)), transform=ax.get_xaxis_transform(), color=look["color"], label=LOST, **LOST_LOOK)
        y = np.where(good, y, np.nan)
    finite = y[good]
    if len(x) >= _MANY:
        faint = {**look, "linewidth": 0.6, "alpha": 0.38 * look.get("alpha", 1.0), "linestyle": "-", "label": "_points"}
        ax.plot(*thinned(x, y), **faint)
        x, y = trend(x, y)
    ax.plot(x, y, **look)
    seen = np.concatenate([[False], np.isfinite(y), [False]])
    alone = seen[1:-1] & ~seen[:-2] & ~seen[2:]
    if np.any(alone):  # a point without neighbours has no line
        ax.plot(x[alone], y[alone], color=look["color"], marker="o", markersize=4, linestyle="none", label="_alone")
    return finite


def scale_y(
    ax: Axes, values: Sequence[FloatArray], *, also: Sequence[float] = (), ratio: bool = False, told: bool = True
) -> None:
    """Limits and ticks for what was drawn: logarithmic where all is positive and spans more than 4x.

    Parameters
    ----------
    ax : its y axis is set.
    values : what was drawn; not finite ones are passed over.
    also : values that must be inside, as those of guide lines.
    ratio : ticks at powers of two, as GA has them.
    told : whether the ticks carry their numbers.
    """
    finite = np.concatenate([*(_finite(np.asarray(v)) for v in values), np.array([v for v in also if np.isfinite(v)])])
    if not len(finite):
        return
    low, high = _span(finite)
    words = number
    if low > 0 and high / low > (1.9 if ratio else 4):
        pad = max((high / low) ** 0.06, 1.05)
        low, high = max(low / pad, 1e-300), min(high * pad, 1e308)
        ax.set_ylim(low, high)
        ax.set_yscale("log")
        ticks = two_ticks(low, high) if ratio else log_ticks(low, high)
        words = fraction if ratio and high / low < 2.0**14 else number
    else:
        pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = low - pad, high + pad
        ticks = linear_ticks(low, high)
    ax.set_ylim(low, high)
    fix_ticks(ax.yaxis, ticks, words if told else _untold)


def scale_x(ax: Axes, low: float, high: float, *, told: bool = True) -> None:
    """Limits and ticks of an axis of training progress."""
    pad = 0.02 * (high - low) or 1.0
    ax.set_xlim(low - pad, high + pad)
    fix_ticks(
        ax.xaxis, [t for t in linear_ticks(low - pad, high + pad, whole=True) if t >= 0], counted if told else _untold
    )


def fix_ticks(axis: Any, ticks: Sequence[float], text: Callable[[float], str] | None = None) -> None:
    """These ticks and no others, as plain numbers."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks(ticks, [(text or number)(t) for t in ticks])
    axis.set_minor_locator(NullLocator())


def two_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Powers of two from `low` to `high`, every second or third where there are many."""
    if high / low > 2.0**14:
        return log_ticks(low, high)
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    return [2.0**n for n in range(first, last + 1) if n % ((last - first) // most + 1) == 0]


def fraction(value: float) -> str:
    """A ratio: 8, 1, 1/4."""
    return f"{value:.7g}" if value >= 1 else f"1/{1 / value:.7g}"


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high`: the finest of decades, 1-3, 1-2-5, 1-1.5-2-3-5-7 with at most `most`."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    every = -(-len(decades) // most)
    best = [t for d in decades if d % every == 0 and low <= (t := 10.0**d) <= high]
    for steps in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [t for d in decades for s in steps if low <= (t := s * 10.0**d) <= high]
        if len(found) > most:
            break
        best = found
    return best if len(best) > 2 else [t for t in linear_ticks(low, high) if t > 0]


def linear_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Up to seven round numbers from `low` to `high`."""
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
    return [float(t) for t in found if low <= t <= high]


def number(value: float) -> str:
    """A plain number: 3, 0.25, 12500, 1e6."""
    plain = f"{value + 0.0:.7g}" if abs(value) < 1e5 else f"{value:.6e}"
    if "e" not in plain:
        return plain
    digits, _, power = plain.partition("e")
    return f"{float(digits):g}e{int(power)}"


def counted(value: float) -> str:
    """A count: 800, 12k, 2.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}"
    return f"{value:g}"


def _span(finite: FloatArray) -> tuple[float, float]:
    """Lowest and highest to be inside: all values, but for a spike that would leave nothing of the rest to be seen.

    Such a spike runs out of the picture. It is one beyond 100 times what 98% of the values span.
    """
    low, high = float(finite.min()), float(finite.max())
    first, last = (float(q) for q in np.quantile(finite, (0.01, 0.99)))
    if low > 0:
        return max(low, first / 100), min(high, last * 100)
    room = 100 * (last - first)
    return (max(low, first - room), min(high, last + room)) if room > 0 else (low, high)


def _untold(_: float) -> str:
    return ""


def _finite(y: FloatArray) -> FloatArray:
    return y[np.isfinite(y)]
