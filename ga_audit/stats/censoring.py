"""whether gradient norms were logged after clipping.

A norm taken after `clip_grad_norm_` never exceeds max_grad_norm and piles up there: it says nothing of the gradient.
"""

import numpy as np
from numpy.typing import NDArray

from ga_audit.stats import constants as k
from ga_audit.stats.arrays import Floats


def looks_clipped(value: Floats, max_grad_norm: float | None) -> bool:
    """Whether norms of a run look as if they were logged after clipping.

    Parameters
    ----------
    value : (n,)
        Norms as logged; NaN, infinities and values <= 0 are passed over.
    max_grad_norm : float or None
        The threshold, where it is recorded; norms clearly above it prove that they were logged before clipping.
    """
    good = (value > 0) & (value < np.inf)
    value = value if good.all() else value[good]
    if not value.size:
        return False
    top = float(value.max())
    if max_grad_norm is not None and max_grad_norm > 0:
        if top > max_grad_norm * (1 + 2 * k.CLIP_WITHIN):
            return False
        at = value >= max_grad_norm * (1 - k.CLIP_WITHIN)
        exact = value >= max_grad_norm * (1 - k.CLIP_EXACT)
        return _pile(at, exact, 1)  # at a threshold that is known exactly, one is no chance
    at = value >= top * (1 - k.CLIP_WITHIN)
    exact = value >= top * (1 - k.CLIP_EXACT)
    return value.size >= k.CLIP_LEAST and _pile(at, exact, k.CLIP_LEAST)


def _pile(near: NDArray[np.bool_], exact: NDArray[np.bool_], least_exact: int) -> bool:
    """Whether so many norms lie near a value, or at it, that something holds them there."""
    return bool(
        (near.sum() >= k.CLIP_LEAST and near.mean() > k.CLIP_SHARE)
        or (exact.sum() >= least_exact and exact.mean() > k.CLIP_EXACT_SHARE)
    )
