"""whether curves jump together, as only the same data in the same order make them.

Logs rarely name the data set. Two runs on the same batches in the same order share the noise of every point; second
differences show it free of trend. A smooth common shape would correlate as well, so the differences must look like
noise: those of white noise have a lag-1 autocorrelation of -2/3, those of a smooth curve one near 1.
"""

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
