"""bins that nest, common range.

Runs are compared on bins of equal training progress. Edges are taken from the coarsest run, so that the logging
windows of the finer ones lie inside its windows: a point logged at step s averages over (s - k, s], hence bins are
open below and closed above. All of it is a few passes over the points: `searchsorted` on at most 65 edges and
`add.reduceat`, never a per-point bin index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ga_audit.stats import constants as k
from ga_audit.stats.arrays import Floats, Ints, distinct, known_median, median


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """Points that can be compared: finite and positive. `dropped_*` count the rest."""

    position: Floats
    value: Floats
    dropped_nonfinite: int
    dropped_nonpositive: int


def clean(position: Floats, value: Floats) -> Cleaned:
    """Leave out NaN, infinities and values <= 0, whose logarithm does not exist, of points (n,)."""
    good = (value > 0) & (value < np.inf)
    n_good = int(np.count_nonzero(good))
    if n_good == value.size:
        return Cleaned(position, value, 0, 0)
    finite = np.isfinite(value)
    nonfinite = value.size - int(np.count_nonzero(finite))
    return Cleaned(position[good], value[good], nonfinite, value.size - n_good - nonfinite)


def winsorise(value: Floats) -> tuple[Floats, int]:
    """Move points far from their block's median to the border, in log scale. Returns the values and how many moved.

    The borders are computed from a strided subsample and applied to the values themselves, so that no logarithm of
    all points is needed. Scaling `value` by c scales the result by c.
    """
    n = value.size
    if n < 5:
        return value, 0
    blocks = int(np.clip(n // 8, 1, k.WINSOR_BLOCKS))
    bounds = np.linspace(0, n, blocks + 1).astype(np.int64)
    length = int(np.diff(bounds).min())
    inside = np.arange(0, length, max(1, length // k.WINSOR_SAMPLE))
    sample = np.sort(np.log(value[bounds[:-1, None] + inside]), axis=1)
    middle = _sorted_median(sample)
    spread = 1.4826 * _sorted_median(np.sort(np.abs(sample - middle[:, None]), axis=1))
    reach = k.WINSOR_SD * np.maximum(spread, 1e-3)
    low, high = np.exp(np.maximum(middle - reach, -745.0)), np.exp(np.minimum(middle + reach, 709.0))
    if n < 5000:
        out = np.clip(value, np.repeat(low, np.diff(bounds)), np.repeat(high, np.diff(bounds)))
    else:  # block by block: no border array as long as the values
        out = np.empty_like(value)
        for i, (first, last) in enumerate(pairwise(bounds)):
            np.clip(value[first:last], low[i], high[i], out=out[first:last])
    return out, int(np.count_nonzero(out != value))


def common_range(positions: Sequence[Floats]) -> tuple[float, float] | None:
    """Where runs can be compared: for two runs their overlap; for more, where at least half of them (and two) are.

    Returns None if there is no such place.
    """
    first = np.sort([p[0] for p in positions])
    last = np.sort([p[-1] for p in positions])[::-1]
    need = max(2, (len(positions) + 1) // 2)
    low, high = float(first[need - 1]), float(last[need - 1])
    return None if high < low else (low, high)


def nested_edges(positions: Sequence[Floats], limit: int = k.BINS) -> Floats | None:
    """Edges (m+1,) of at most `limit` bins (low, high] over the common range, from the coarsest run there.

    Among many runs the coarsest tenth is passed over: one run with three points must not cost the others theirs.
    """
    span = common_range(positions)
    if span is None:
        return None
    low, high = span
    inside = [p[np.searchsorted(p, low) : np.searchsorted(p, high, side="right")] for p in positions]
    sizes = np.array([p.size for p in inside])
    if not (sizes > 0).any():
        return None
    order = [int(i) for i in np.argsort(sizes, kind="stable") if sizes[i] > 0]
    # two runs: the coarser; many: pass over the coarsest tenth
    coarse = inside[order[min(len(order) - 1, len(positions) // 10)]]
    pick = distinct(np.linspace(0, coarse.size, min(limit, coarse.size) + 1).round().astype(np.int64))[1:] - 1
    uppers = coarse[pick]
    step = median(np.diff(coarse[:1000])) if coarse.size > 1 else 0.0
    lowest = float(coarse[0]) - step
    if coarse.size == 1:  # one number: it stands for the others' points at that place, not for all before it
        gaps = [float(np.min(np.diff(p[:1000]))) for p in positions if p.size > 1]
        lowest, uppers = low - min(gaps, default=1.0), np.array([high])
    return np.concatenate(([lowest], uppers))


def bin_levels(position: Floats, value: Floats, edges: Floats, *, geometric: bool) -> tuple[Floats, Ints]:
    """Take the mean of the points of each bin.

    Parameters
    ----------
    position : (n,) ndarray
        Training progress of each point (steps, samples or tokens), ascending.
    value : (n,) ndarray
        Positive and finite, as `clean` leaves them.
    edges : (m+1,) ndarray
        Bins are (low, high], in the unit of `position`.
    geometric : bool
        Take the mean of logarithms (gradient norms: one step per point) instead of the logarithm of
        the arithmetic mean (losses: a logged loss is itself an arithmetic mean over its window).

    Returns
    -------
    level : (m,) ndarray
        Natural log of the mean of each bin; NaN for an empty bin.
    count : (m,) ndarray of int
        Points in each bin.

    Examples
    --------
    >>> level, count = bin_levels(np.arange(1.0, 5.0), np.array([2.0, 4.0, 6.0, 8.0]), np.array([0.0, 2.0, 4.0]),
    ...                           geometric=False)
    >>> np.exp(level).round(6).tolist(), count.tolist()
    ([3.0, 7.0], [2, 2])
    """
    at = np.searchsorted(position, edges, side="right")
    count = np.diff(at).astype(np.int64)
    level = np.full(count.size, np.nan)
    full = count > 0
    if not full.any():
        return level, count
    stretch = value[at[0] : at[-1]]
    if geometric:
        stretch = np.log(stretch)
    sums = np.add.reduceat(stretch, (at[:-1] - at[0])[full])
    means = sums / count[full]
    level[full] = means if geometric else np.log(means)
    return level, count


def drift(level: Floats) -> float:
    """How much log ratios change between the halves: rms over runs of |median late - median early| of level (n, m)."""
    m = level.shape[1]
    if m < 4:
        return 0.0
    d = level - _nanmean(level)
    late, early = known_median(d[:, m // 2 :]), known_median(d[:, : m // 2])
    gap = (late - early)[np.isfinite(late - early)]
    return float(np.sqrt(np.mean(gap**2))) if gap.size else 0.0


def rounding(value: Floats) -> float:
    """Relative sd of the rounding of logged values: few decimals, or bfloat16. 0 if the values look unrounded.

    Values (n,) as logged, positive.
    """
    if value.size == 0:
        return 0.0
    sample = value[:: max(1, value.size // k.WINSOR_SAMPLE)]
    middle = median(sample)
    for decimals in range(6 if sample.max() < 1e9 else 0):
        if np.all(np.abs(np.round(sample, decimals) - sample) <= 1e-12 * sample):
            return float(0.29 * 10.0**-decimals / middle)
    if sample.max() > 1e38:
        return 0.0
    short = sample.astype(np.float32)
    if np.all(short == sample) and np.all(short.view(np.uint32) & np.uint32(0xFFFF) == 0):
        return k.BF16_RELATIVE
    return 0.0


def _sorted_median(sample: Floats) -> Floats:
    """Medians (r,) of sorted rows (r, c)."""
    half = sample.shape[1] // 2
    return np.asarray(0.5 * (sample[:, half] + sample[:, (sample.shape[1] - 1) // 2]))


def _nanmean(level: Floats) -> Floats:
    """Column means (m,) without the missing."""
    good = np.isfinite(level)
    count = good.sum(axis=0)
    total = np.where(good, level, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
