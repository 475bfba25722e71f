"""The Theil-Sen slope: a textbook check of the estimated exponent, without a model of the runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ga_audit.stats.arrays import Floats

LEAST = 5
"""Points from which a 95 % interval exists: the widest, over all slopes, covers 92 % of 4 points."""


@dataclass(frozen=True, slots=True)
class Slope:
    """The median of the slopes of all pairs of points."""

    value: float
    interval95: tuple[float, float] | None
    """None below `LEAST` points."""


def theil_sen(x: Floats, y: Floats) -> Slope | None:
    """Compute the slope of y on x that half of the pairs exceed.

    Parameters
    ----------
    x : (n,) ndarray
        For example ln(GA) of n runs.
    y : (n,) ndarray
        For example ln(level) of the same runs.

    Returns
    -------
    Slope or None
        None where all x are equal.

    References
    ----------
    Sen 1968, "Estimates of the regression coefficient based on Kendall's tau";
    `scipy.stats.theilslopes`.

    Examples
    --------
    One of five runs is an outlier:

    >>> theil_sen(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 9.0, 3.0, 4.0])).value
    1.0
    """
    if x.size < 2 or np.ptp(x) == 0:
        return None
    # most audits do not ask for it, and the import takes longer than they do
    from scipy.stats import theilslopes

    found = theilslopes(y, x, alpha=0.95)
    interval = (float(found.low_slope), float(found.high_slope)) if x.size >= LEAST else None
    return Slope(float(found.slope), interval)
