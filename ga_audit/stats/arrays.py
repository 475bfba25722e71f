"""Medians and distinct values, without `numpy.ma`: numpy's own import it at their first call, a fifth of a short audit."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


def median(values: npt.ArrayLike) -> float:
    """Of all values; NaN where one is NaN, or there is none. As `numpy.median`."""
    return float(row_median(np.asarray(values, dtype=np.float64).reshape(1, -1))[0])


def row_median(d: Floats) -> Floats:
    """Of every row of `d` (n, m), as (n,); NaN for a row that has one, or has nothing."""
    n, m = d.shape
    if not m:
        return np.full(n, np.nan)
    middle = m // 2
    ordered = np.partition(d, (max(0, middle - 1), middle, m - 1), axis=1)  # NaN go last
    found = ordered[:, middle] if m % 2 else (ordered[:, middle - 1] + ordered[:, middle]) / 2
    return np.where(np.isnan(ordered[:, -1]), np.nan, found)


def known_median(d: Floats) -> Floats:
    """Of every row of `d` (n, m) without what is not finite, as (n,); NaN for a row that has nothing."""
    if np.isfinite(d).all():
        return row_median(d)
    return np.array([median(row[np.isfinite(row)]) for row in d])


def distinct(values: Ints) -> Ints:
    """The different values, ascending."""
    return np.unique(values, return_index=True)[0]  # only without an index does numpy look for masks
