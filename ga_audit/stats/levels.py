"""robust run levels and their covariance.

One number per run, the level of its log curve against the common curve, and the covariance of these numbers from the
residuals *inside the window that was used*: a divergence later on must not inflate the noise and hide itself.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ga_audit.stats import constants as k
from ga_audit.stats.arrays import Floats, Ints, known_median, median, row_median


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RunLevels:
    """Levels of n runs over a window of bins. Only contrasts of `level` have a meaning; its mean is 0."""

    level: Floats
    """(n,) natural log."""
    covariance: Floats
    """(n, n) of `level`, noise inside the runs only."""
    window: int
    """Number of bins used, from the first."""
    bins: int
    """Number of bins there are."""
    n_effective: float
    """Independent bins the window is worth, after autocorrelation."""
    autocorrelation: float
    """Of residuals, lag 1, corrected for the small sample."""
    dof: int
    wander: float
    """Slow wandering inside the runs, as the sd of a contrast: a floor for the offset between them."""
    extra: float
    """How far the window's choice may move a contrast: half of the change to all bins, but no more than twice what the
    level moves inside the window; what diverges later on says nothing of the part before."""
    constant: bool
    """The ratio is the same early and late, within its noise."""
    drift: float = 0.0
    """How far a contrast of two runs moves from the first quarter to the whole; its noise is in `drift_error`."""
    drift_error: float = 0.0
    fall: float = 0.0
    """How far the common log curve falls over the bins: whether there is learning that a confounder could speed up."""


def run_levels(level: Floats, count: Ints, noise: Floats, rounding: Floats) -> RunLevels:
    """Estimate one level per run over the longest window in which the levels are stable.

    Windows are the first quarter, the first half and all bins. At equal initialisation the first
    loss does not depend on batch, learning rate, clipping or gradient scale: every confounder acts
    through time, hence the early part.

    Parameters
    ----------
    level : (n, m) ndarray
        Natural log of the mean of each bin of each run, NaN where a run has no point.
    count : (n, m) ndarray of int
        Points in each bin.
    noise : (n,) ndarray
        Prior sd of the natural log of one point of each run.
    rounding : (n,) ndarray
        Relative sd of the rounding of each run's points.

    Returns
    -------
    RunLevels
        Levels with mean 0 and their covariance, natural logs.

    References
    ----------
    Lepski 1991, "On a problem of adaptive estimation in Gaussian white noise" (the window);
    Huber 1964, "Robust estimation of a location parameter" (the levels).

    Examples
    --------
    Two runs over 8 bins, the second twice as high as the first:

    >>> curve = np.linspace(1.0, 0.0, 8)
    >>> level = np.stack([curve, curve + np.log(2)])
    >>> found = run_levels(level, np.ones((2, 8), np.int64), np.full(2, 0.1), np.zeros(2))
    >>> found.window, round(float(np.exp(found.level[1] - found.level[0])), 6)
    (8, 2.0)
    """
    m = level.shape[1]
    sizes = sorted({_at_least(level, s, m) for s in (max(3, -(-m // 4)), -(-m // 2), m)} & set(range(1, m + 1)))
    fits = [_fit_window(level, count, noise, rounding, size) for size in sizes]
    chosen = fits[0]
    for fit in fits[1:]:
        moved = float(np.sqrt(np.mean((fit.level - chosen.level) ** 2)))
        allowed = k.LEPSKI_SE * float(np.sqrt(np.mean(np.diag(chosen.covariance)))) + k.LEPSKI_SLACK / 2
        if moved > allowed:
            break
        chosen = fit
    extra = float(np.sqrt(np.mean((fits[-1].level - chosen.level) ** 2)))
    if chosen is not fits[-1]:
        inside = _fit_window(level, count, noise, rounding, _at_least(level, max(1, chosen.window // 2), m))
        moved = float(np.sqrt(np.mean((inside.level - chosen.level) ** 2)))
        extra = min(extra, max(2 * moved, k.LEPSKI_SLACK))
    return replace(
        chosen,
        bins=m,
        wander=wander(level[:, : chosen.window] if chosen.window >= k.WANDER_BINS else level),
        extra=extra,
        constant=chosen is fits[-1],
        drift=2**0.5 * float(np.sqrt(np.mean((fits[-1].level - fits[0].level) ** 2))),
        drift_error=2**0.5 * float(np.sqrt(np.mean(np.diag(fits[0].covariance)))),
        fall=_fall(level),
    )


def _fall(level: Floats) -> float:
    """Median of the first eighth of the common log curve minus that of the last; 0 below `constants.WANDER_BINS`."""
    m = level.shape[1]
    if m < k.WANDER_BINS:
        return 0.0
    curve = level.mean(axis=0)
    curve = curve[np.isfinite(curve)]
    part = max(1, curve.size // 8)
    return median(curve[:part]) - median(curve[-part:]) if curve.size else 0.0


def wander(level: Floats) -> float:
    """sqrt(2) x rms over runs of the sd of the four quarter medians of a run's deviation from the common curve.

    0 below `constants.WANDER_BINS` bins. Without it, run effects three times as large as assumed are covered by a
    nominal 95 % interval in 68 % only.
    """
    m = level.shape[1]
    if m < k.WANDER_BINS:
        return 0.0
    d = _deviation(level)
    bounds = np.linspace(0, m, 5).astype(np.int64)
    with np.errstate(all="ignore"):
        quarters = np.stack([known_median(d[:, a:b]) for a, b in pairwise(bounds)], axis=1)
    spread = quarters.std(axis=1, ddof=1)
    spread = spread[np.isfinite(spread)]
    return float(np.sqrt(2 * np.mean(spread**2))) if spread.size else 0.0


def huber_means(d: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Huber location of every row of d (n, m), NaN left out, with prior weights; and the final weights (n, m)."""
    good = np.isfinite(d)
    weight = np.where(good, weight, 0.0)
    d = np.where(good, d, 0.0)
    centre = known_median(np.where(good, d, np.nan))
    scale = 1.4826 * known_median(np.where(good, np.abs(d - centre[:, None]), np.nan))
    scale = np.where(scale > 1e-12, scale, np.inf)
    total = weight
    for _ in range(6):
        away = np.abs(d - centre[:, None]) / scale[:, None]
        total = weight * np.minimum(1.0, k.HUBER / np.maximum(away, 1e-12))
        centre = (total * d).sum(axis=1) / total.sum(axis=1)
    return centre, total


def _at_least(level: Floats, size: int, m: int) -> int:
    """The smallest window >= size in which every run has a bin."""
    good = np.isfinite(level)
    while size < m and not good[:, :size].any(axis=1).all():
        size += 1
    return min(size, m)


def _fit_window(level: Floats, count: Ints, noise: Floats, rounding: Floats, size: int) -> RunLevels:
    """Levels (n,) over the first `size` bins and their covariance (n, n)."""
    y, c = level[:, :size], count[:, :size]
    location, used = _locations(y, c)
    residual = np.where(np.isfinite(y), _deviation(y, location) - location[:, None], 0.0)
    share = used / used.sum(axis=1, keepdims=True)
    n_bins = 1.0 / (share**2).sum(axis=1)
    bins = round(float(np.min(np.isfinite(y).sum(axis=1))))
    residual, dof = _detrend(residual, np.isfinite(y), bins)
    points = np.maximum(1.0, c.sum(axis=1))
    prior = _centred(np.diag(noise**2 / points))
    rounded = np.diag(rounding**2 / points + k.NOISE_FLOOR**2)
    if dof > 0:
        rho = _autocorrelation(residual, bins)
        inflation = (1 + rho) / (1 - rho)
        covariance = _covariance(residual, dof, inflation, n_bins, prior) + rounded
    else:
        rho, inflation, dof = k.AUTOCORRELATION_UNKNOWN, 1.0, 0
        covariance = prior + rounded
    return RunLevels(
        level=location,
        covariance=covariance,
        window=size,
        bins=size,
        n_effective=float(n_bins.min()) / inflation,
        autocorrelation=rho,
        dof=dof,
        wander=0.0,
        extra=0.0,
        constant=True,
    )


def _locations(y: Floats, count: Ints) -> tuple[Floats, Floats]:
    """Huber locations (n,) against the common curve, with mean 0, and the weights (n, m) of the bins."""
    usual = np.maximum(1.0, row_median(np.where(count > 0, count, np.nan_to_num(count.max(axis=1, keepdims=True)))))
    weight = np.minimum(1.0, count / usual[:, None])
    location, used = huber_means(_deviation(y), weight)
    for _ in range(0 if np.isfinite(y).all() else 10):
        location, used = huber_means(_deviation(y, location), weight)
    return location - location.mean(), used


def _covariance(residual: Floats, dof: int, inflation: float, n_bins: Floats, prior: Floats) -> Floats:
    """Covariance (n, n) of the levels from residuals (n, m), shrunk to the prior in size."""
    n = residual.shape[0]
    cross = residual @ residual.T / dof
    if n > 2:  # more runs than bins: the off-diagonal part of a covariance of low rank is mostly chance
        keep = dof / (dof + n - 2)
        cross = keep * cross + (1 - keep) * np.diag(np.diag(cross))
    cross = cross * inflation / np.sqrt(np.outer(n_bins, n_bins))
    scale = max(1, n - 1)
    return np.asarray(cross * _shrink(float(np.trace(cross)) / scale, float(np.trace(prior)) / scale, dof))


def _shrink(variance: float, prior: float, dof: int) -> float:
    """Factor on the variance when its logarithm is shrunk to that of the prior."""
    weight = k.NOISE_PRIOR_WEIGHT / (k.NOISE_PRIOR_WEIGHT + dof / 2)
    return float(np.power(prior / max(variance, 1e-12), weight))


def _deviation(level: Floats, location: Floats | None = None) -> Floats:
    """Level minus the common curve (n, m); the common curve is the column mean of what is left without `location`."""
    base = level if location is None else level - location[:, None]
    good = np.isfinite(base)
    count = np.maximum(1, good.sum(axis=0))
    curve = np.where(good, base, 0.0).sum(axis=0) / count
    return np.asarray(level - curve)


def _centred(covariance: Floats) -> Floats:
    """Covariance of deviations from the mean of the runs."""
    row = covariance.mean(axis=1)
    return np.asarray(covariance - row[:, None] - row[None, :] + row.mean())


def _detrend(residual: Floats, good: NDArray[np.bool_], bins: int) -> tuple[Floats, int]:
    """Residuals without their linear trend (a drift is not noise), and the degrees of freedom left."""
    if bins < 5:
        return residual, bins - 1
    t = np.where(good, np.arange(residual.shape[1], dtype=np.float64), 0.0)
    n_good = np.maximum(1, good.sum(axis=1))
    t = np.where(good, t - (t.sum(axis=1) / n_good)[:, None], 0.0)
    mean = residual.sum(axis=1) / n_good
    flat = np.where(good, residual - mean[:, None], 0.0)
    slope = (t * flat).sum(axis=1) / np.maximum((t**2).sum(axis=1), 1e-12)
    return np.asarray(flat - slope[:, None] * t), bins - 2


def _autocorrelation(residual: Floats, bins: int) -> float:
    """Pooled lag-1 autocorrelation, corrected by r + (1 + 3r)/n (Kendall 1954; Marriott & Pope 1954)."""
    if bins < 4:
        return k.AUTOCORRELATION_UNKNOWN
    energy = float((residual**2).sum())
    if energy <= 0:
        return 0.0
    rho = float((residual[:, 1:] * residual[:, :-1]).sum()) / energy
    return float(np.clip(rho + (1 + 3 * rho) / bins, 0.0, k.AUTOCORRELATION_MAX))
