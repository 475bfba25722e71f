"""normal probabilities in log scale, and quantiles of mixtures.

The standard library's error function serves: arrays here have some ten thousand elements at most,
which take less time than the import of `scipy.special`.
"""

import math

import numpy as np

from ga_audit.stats.arrays import Floats

_FAR = -30.0  # below, the asymptotic series is exact to 1e-10


def log_ndtr(x: Floats) -> Floats:
    """Logarithm of the standard normal distribution function, without underflow.

    References
    ----------
    Abramowitz & Stegun 1964, 26.2.12 (the asymptotic series of the lower tail).
    """
    tail = 0.5 * _erfc(np.abs(x) * math.sqrt(0.5))  # of the nearer side
    square = np.square(np.minimum(x, _FAR))
    series = np.log1p((-1 + (3 - 15 / square) / square) / square)
    far = series - 0.5 * square - 0.5 * np.log(2 * np.pi * square)
    lower = np.log(np.where((x > _FAR) & (x <= 0), tail, 1.0))
    return np.asarray(np.where(x > 0, np.log1p(-tail), np.where(x > _FAR, lower, far)))


def ndtr(x: Floats) -> Floats:
    """Standard normal distribution function."""
    return 0.5 * _erfc(x * -math.sqrt(0.5))


def _erfc(x: Floats) -> Floats:
    return np.array([math.erfc(v) for v in x.ravel().tolist()]).reshape(x.shape)


def log_interval(low: Floats, high: Floats) -> Floats:
    """Logarithm of the standard normal probability of [low, high], low < high, far in the tails as well."""
    swap = low + high > 0  # work in the lower tail
    a, b = np.where(swap, -high, low), np.where(swap, -low, high)
    width = b - a
    middle = 0.5 * (a + b)
    narrow = np.log(width) - 0.5 * middle**2 - 0.5 * np.log(2 * np.pi)
    top = log_ndtr(b)
    gap = np.minimum(log_ndtr(a) - top, -1e-12)
    return np.asarray(np.where(width < 1e-2, narrow, top + np.log(-np.expm1(gap))))


def log_sum(x: Floats, axis: int | tuple[int, ...] | None = None) -> Floats:
    """Logarithm of the sum of exponentials."""
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    out = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return np.asarray(np.squeeze(out, axis=axis))


def mixture_quantiles(weight: Floats, mean: Floats, sd: Floats, at: Floats) -> Floats:
    """Quantiles (p,) of a mixture of Gaussians with weights, means and sds (c,), by three rounds of bracketing."""
    keep = weight > 1e-5 * weight.max()
    weight, mean, sd = weight[keep] / weight[keep].sum(), mean[keep], sd[keep]
    grid = np.linspace((mean - 6 * sd).min(), (mean + 6 * sd).max(), 33)[None, :]
    fine = np.linspace(0.0, 1.0, 17)
    row = np.arange(at.size)
    for last in (False, False, True):
        below = np.broadcast_to(ndtr((grid[:, :, None] - mean) / sd) @ weight, (at.size, grid.shape[1]))
        grid = np.broadcast_to(grid, below.shape)
        index = np.clip((below < at[:, None]).sum(axis=1), 1, grid.shape[1] - 1)
        low, high = grid[row, index - 1], grid[row, index]
        if not last:
            grid = low[:, None] + (high - low)[:, None] * fine
    left, right = below[row, index - 1], below[row, index]
    share = np.clip((at - left) / np.maximum(right - left, 1e-300), 0.0, 1.0)
    return np.asarray(low + share * (high - low))
