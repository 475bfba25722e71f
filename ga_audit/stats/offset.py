"""a term in the loss that is not scaled with the rest.

With an auxiliary term c that is added after the scaling (a router or z loss), y2 = m y1 + c (1 - m): the ratio of
curves moves with their level and the mean log ratio is not log m. A regression of levels restores m where the noise
is shared; elsewhere errors in both variables attenuate it, and nothing is said.
"""

from dataclasses import dataclass

import numpy as np

from ga_audit.stats import constants as k
from ga_audit.stats.arrays import Floats
from ga_audit.stats.kindred import shares_noise


@dataclass(frozen=True, slots=True)
class Offset:
    """y2 = factor y1 + constant (1 - factor)."""

    log_factor: float
    error: float
    """Standard error of `log_factor`, delete-a-block jackknife (Kuensch 1989)."""
    constant: float
    t: float
    """t statistic of log ratio on log level: how far a constant ratio is from these curves."""


def find_offset(level: Floats, log_size: float) -> Offset | None:
    """The offset between two runs with log bin means (2, m), whose GA differ by a factor exp(log_size); None if none.

    Reduced major axis on matched bins (Ricker 1973), only where curves correlate by `constants.OFFSET_CORRELATION`,
    a constant ratio is refused, and the regression restores an integer power of the GA ratio.
    """
    level = level[:, np.isfinite(level).all(axis=0)]
    m = level.shape[1]
    if level.shape[0] != 2 or m < 8 or abs(log_size) < 1e-9:
        return None
    if np.ptp(level) > 50:  # no curves of one training
        return None
    middle = float(level.mean())
    x, y = np.exp(level - middle)
    if shares_noise(level) is not True or np.corrcoef(x, y)[0, 1] < k.OFFSET_CORRELATION:
        return None
    t = _slope_t(level.mean(axis=0), level[1] - level[0])
    if abs(t) < k.OFFSET_T:
        return None
    slope = float(y.std() / x.std())
    blocks = np.array_split(np.arange(m), min(10, m // 2))
    left_out = np.log([np.delete(y, b).std() / np.delete(x, b).std() for b in blocks])
    error = float(np.sqrt((len(blocks) - 1) / len(blocks) * ((left_out - left_out.mean()) ** 2).sum()))
    power = np.log(slope) / log_size
    nearest = round(power)
    if abs(slope - 1) < 1e-6 or nearest == 0 or abs(power - nearest) > k.OFFSET_INTEGER:
        return None
    constant = float((y.mean() - slope * x.mean()) / (1 - slope))
    if not 0 < constant < float(min(x.min(), y.min())):
        return None
    return Offset(float(np.log(slope)), error, constant * float(np.exp(middle)), t)


def _slope_t(x: Floats, y: Floats) -> float:
    """Statistic t of the least-squares slope of y on x."""
    x = x - x.mean()
    energy = float(x @ x)
    if energy < 1e-12:
        return 0.0
    slope = float(x @ y) / energy
    rest = y - y.mean() - slope * x
    return slope / float(np.sqrt(max(float(rest @ rest), 1e-18) / max(1, x.size - 2) / energy))
