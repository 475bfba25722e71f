"""whether curves jump together, as only the same data in the same order make them.

Logs rarely name the data set. Two runs on the same batches in the same order share the noise of every point; second
differences show it free of trend. A smooth common shape would correlate as well, so the differences must look like
noise: those of white noise have a lag-1 autocorrelation of -2/3, those of a smooth curve one near 1.
"""

import math
from dataclasses import dataclass

import numpy as np

from ga_audit.stats import constants as k
from ga_audit.stats.arrays import Floats, row_median


def shares_noise(level: Floats) -> bool | None:
    """Whether all runs share their noise, from log bin means (n, m); None if it cannot be told.

    True and False both need evidence: few bins, curves smoother than their trend, or a correlation in between say None.
    """
    good = np.isfinite(level).all(axis=0)
    y = level[:, good]
    if y.shape[1] < k.KINDRED_BINS:
        return None
    jump = np.diff(y, n=2, axis=1)
    jump = jump - jump.mean(axis=1, keepdims=True)
    reach = 3.0 * 1.4826 * row_median(np.abs(jump))[:, np.newaxis]
    jump = np.clip(jump, -reach, reach)  # one spike in both is no kinship
    size = np.sqrt((jump**2).sum(axis=1))
    if (size < 1e-9).any():
        return None
    lag = (jump[:, 1:] * jump[:, :-1]).sum(axis=1) / size**2
    if (lag > k.KINDRED_NOISE_LAG).any():
        return None
    unit = jump / size[:, None]
    weakest = float((unit @ unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))).min())
    pair = 2 * weakest**2 - 1 if len(y) == 2 else weakest  # of two: the angle to their mean is half that between them
    if pair > k.KINDRED_SAME:
        return True
    return False if pair < k.KINDRED_OTHER and y.shape[1] >= 2 * k.KINDRED_BINS else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How closely curves agree up to one factor, against how far unrelated curves would stray."""

    log_odds: float = 0.0
    """Bayes factor of matched runs against unrelated ones, nats."""
    scatter: float = 0.0
    """sd of the log ratio of two runs over the bins, rounding included."""

    @property
    def probability(self) -> float:
        """Posterior probability that the runs are matched; 0 without evidence for it."""
        if self.log_odds <= 0:
            return 0.0
        return 1 / (1 + math.exp(k.MATCHED_PRIOR - min(self.log_odds, 20.0)))


def agreement(level: Floats, rounding: Floats) -> Agreement:
    """Measure whether curves are those of the same batches in the same order.

    The scatter of the log ratio is compared with two scales, each of which unrelated runs would reach: the noise inside
    each run, where the curves are noisy, and a share of the common shape, where they are smooth. Rounding is a floor for
    the scatter, so that few digits show little.

    Parameters
    ----------
    level : (n, m) ndarray
        Natural log of the mean of each bin of each run, NaN where a run has no point.
    rounding : (n,) ndarray
        Relative sd of the rounding of each run's points.

    Examples
    --------
    Six points that agree to the last of four decimals, and six that do not:

    >>> loss = np.array([2.119, 1.6462, 1.5798, 1.6039, 1.2141, 1.1649])
    >>> digits = np.full(2, 3e-5)
    >>> agreement(np.log([loss, 2 * loss]), digits).probability > 0.999
    True
    >>> agreement(np.log([loss, 2 * loss * [1, 1.1, 0.9, 1, 1.1, 0.9]]), digits).probability
    0.0
    """
    y = level[:, np.isfinite(level).all(axis=0)]
    n, m = y.shape
    if m < k.MATCHED_BINS:
        return Agreement()
    others = (y.sum(axis=0) - y) / (n - 1)
    apart = y - others
    apart = apart - apart.mean(axis=1, keepdims=True)
    spread = float(np.sqrt((apart**2).sum(axis=1).max() / (m - 1) * 2 * (n - 1) / n))
    floor = math.hypot(2**0.5 * float(rounding.max()), k.NOISE_FLOOR)
    scatter = math.hypot(spread, floor)
    noisy = _log_odds(scatter, floor, 2**0.5 * _noise_inside(y), m - 1)
    bent = k.MATCHED_SHAPE * _shape(y)
    smooth = _log_odds(scatter, floor, bent, min(m - 1, k.MATCHED_SHAPE_DOF))
    return Agreement(max(noisy, smooth), scatter)


def _log_odds(scatter: float, floor: float, unrelated: float, dof: int) -> float:
    """Log of the density of ln(scatter) for matched runs over that for unrelated ones, whose scatter would be `unrelated`.

    Unrelated: scatter^2 / unrelated^2 follows F(dof, dof), as both are estimated. Matched: even in the logarithm from the
    floor to `MATCHED_MOST` of the unrelated scatter, and steeply falling above.
    """
    if unrelated <= 0:
        return 0.0
    x = (scatter / unrelated) ** 2
    half = dof / 2
    beta = 2 * math.lgamma(half) - math.lgamma(2 * half)
    log_unrelated = math.log(2) + half * math.log(x) - 2 * half * math.log1p(x) - beta
    most = k.MATCHED_MOST * unrelated
    width = max(2.0, math.log(most / floor))
    beyond = max(0.0, math.log(scatter / most)) / k.MATCHED_EDGE
    return -math.log(width) - 0.5 * beyond**2 - log_unrelated


def _noise_inside(y: Floats) -> float:
    """Noise of single bins as an sd, the least over the runs: what is left of differences that no smooth curve has.

    Second and third differences, each in units of white noise, by their medians, so that one drop at the start is no
    noise; and the less, the less second differences alternate as those of noise do.
    """
    second = np.diff(y, n=2, axis=1)
    energy = (second**2).sum(axis=1)
    if (energy <= 0).any():
        return 0.0
    lag = float(((second[:, 1:] * second[:, :-1]).sum(axis=1) / energy).max())
    third = np.diff(second, axis=1)
    sizes = [row_median(np.abs(d)) / (0.6745 * math.sqrt(gain)) for d, gain in ((second, 6), (third, 20))]
    return float(np.min(sizes)) * 10 ** (-k.MATCHED_SMOOTH * max(0.0, lag - k.KINDRED_NOISE_LAG))


def _shape(y: Floats) -> float:
    """Departure of each curve from a straight line, as an rms, the least over the runs."""
    m = y.shape[1]
    t = np.arange(m) - (m - 1) / 2
    flat = y - y.mean(axis=1, keepdims=True)
    flat = flat - (flat @ t / (t @ t))[:, None] * t
    return float(np.sqrt((flat**2).mean(axis=1)).min())
