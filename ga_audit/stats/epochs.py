"""How many micro-batches each optimizer step took, from the epochs that a trainer logs beside its steps.

A trainer that steps at the end of an epoch with fewer than GA micro-batches logs a sum over those few: such a step has its
own factor. The epoch counter says where these steps are, without the size of the data: at optimizer step s it is the share
of the epoch's M micro-batches that were seen (transformers' `Trainer`: `epoch + (step + 1) / steps_in_epoch`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ga_audit.stats.arrays import median

MOST_CANDIDATES = 2000  # epoch lengths that are tried; more means that the log is too coarse to tell


@dataclass(frozen=True, slots=True)
class Epochs:
    """The accumulation of one run: every epoch ends with one optimizer step of `last` micro-batches."""

    gradient_accumulation_steps: int
    steps: int  # optimizer steps of an epoch
    last: int  # micro-batches of the last one, 1 <= last < GA

    def count(self, step: ArrayLike) -> NDArray[np.float64]:
        """Micro-batches that optimizer steps (n,), counted from 1, took (n,)."""
        at_end = np.asarray(step, np.int64) % self.steps == 0
        counts: NDArray[np.float64] = np.where(at_end, float(self.last), float(self.gradient_accumulation_steps))
        return counts

    def mean_count(self, first: ArrayLike, step: ArrayLike) -> NDArray[np.float64]:
        """Mean count over the windows (first, step] of logged points (n,): what their mean loss is a sum over."""
        before, end = np.asarray(first, np.int64), np.asarray(step, np.int64)
        ends = end // self.steps - before // self.steps
        short = self.gradient_accumulation_steps - self.last
        mean: NDArray[np.float64] = self.gradient_accumulation_steps - short * ends / np.maximum(end - before, 1)
        return mean


def fit(step: ArrayLike, epoch: ArrayLike, gradient_accumulation_steps: int) -> Epochs | None:
    """The one way of accumulating that gives the logged epochs, where epochs end with a short step; else None.

    Three ways are known: the remainder of an epoch makes a step of its own, is dropped, or is carried into the next epoch.
    None where no epoch ends within the log, where the remainder is no step of its own, and where more than one length of the
    epoch would fit.

    Parameters
    ----------
    step : (n,) optimizer steps, counted from 1.
    epoch : (n,) logged epochs at these steps, rounded or not.
    gradient_accumulation_steps : micro-batches of a full optimizer step.
    """
    ga = gradient_accumulation_steps
    s, e = np.asarray(step, np.float64), np.asarray(epoch, np.float64)
    good = np.isfinite(e) & (e > 0) & (s > 0)
    s, e = s[good], e[good]
    if ga < 2 or len(s) < 2:
        return None
    rounding = _rounding(e)
    inside = e < 1 - rounding
    if not inside.any() or inside.all():
        return None
    low = np.max(s[inside] * ga / (e[inside] + rounding[inside]))
    high = np.min(s[inside] * ga / np.maximum(e[inside] - rounding[inside], 1e-12))
    lengths = np.arange(int(np.ceil(low)), int(np.floor(high)) + 1)
    if not 1 <= len(lengths) <= MOST_CANDIDATES:
        return None
    found = {way for m in lengths for way in _ways(int(m), ga, s, e, rounding)}
    only = found.pop() if len(found) == 1 else None
    if only is None or only[0] != "step":
        return None
    _, length = only
    steps = -(-length // ga)
    last = length - (steps - 1) * ga
    return Epochs(ga, steps, last) if last < ga else None


def _rounding(epoch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half a unit of the last decimal that the log keeps (n,); at least float32's."""
    for decimals in (2, 3, 4):
        if np.all(np.abs(epoch - np.round(epoch, decimals)) < 1e-9):
            return np.full(len(epoch), 0.5001 * 10.0**-decimals)
    return np.abs(epoch) * 2.0**-23 + 1e-9


def _ways(
    length: int, ga: int, s: NDArray[np.float64], e: NDArray[np.float64], rounding: NDArray[np.float64]
) -> list[tuple[str, int]]:
    """(way, length of the epoch) of those that give the logged epochs."""
    ways = []
    up, down = -(-length // ga), max(length // ga, 1)
    for name, steps in (("step", up), ("dropped", down)):
        past, within = np.divmod(s - 1, steps)
        if np.all(np.abs(past + np.minimum((within + 1) * ga, length) / length - e) <= rounding):
            ways.append((name, length))
    if np.all(np.abs(s * ga / length - e) <= rounding):
        ways.append(("carried", length))
    if length % ga == 0:  # nothing remains: all three are the same
        return ways[:1]
    return ways


@dataclass(frozen=True, slots=True)
class Dip:
    """How far short steps stand below their neighbours: 1 = by the share of micro-batches that they took, 0 = not at all."""

    depth: float
    error: float  # standard error of the depth
    points: int  # logged points whose window holds a short step

    @property
    def seen(self) -> bool:
        """The sum over few micro-batches shows, by more than two standard errors."""
        return self.depth - 0.5 > 2 * self.error

    @property
    def refuted(self) -> bool:
        """The short steps stand as high as the others, by more than two standard errors."""
        return 0.5 - self.depth > 2 * self.error


def first_of_window(step: ArrayLike, window: int | None) -> NDArray[np.int64]:
    """(n,) the step after which the window of each logged point begins: the point before it."""
    s = np.asarray(step, np.int64)
    if not len(s):
        return s
    usual = window or (int(median(np.diff(s))) if len(s) > 1 else 1)
    return np.concatenate([[max(s[0] - usual, 0)], s[:-1]])


def dip(step: ArrayLike, value: ArrayLike, epochs: Epochs, window: int | None = None) -> Dip | None:
    """Depth of a series at the short steps, from differences of neighbouring points; None where no point holds one.

    Differences take the trend of training out: with d the change of the log of the value and x the change of
    ln(mean count / GA) from one point to the next, depth = sum(d x) / sum(x^2).
    """
    s, y = np.asarray(step, np.int64), np.asarray(value, np.float64)
    expected = np.log(epochs.mean_count(first_of_window(s, window), s) / epochs.gradient_accumulation_steps)
    good = np.isfinite(y) & (y > 0)
    d, x = np.diff(np.log(y[good])), np.diff(expected[good])
    held = int(np.sum(expected[good] < -1e-9))
    weight = float(np.sum(x**2))
    if held == 0 or weight == 0 or len(d) < 3:
        return None
    d = d - median(d[np.abs(x) < 1e-9]) if np.any(np.abs(x) < 1e-9) else d
    depth = float(np.sum(d * x) / weight)
    # each jump stands in two differences, so that they are not independent: hence the 2
    error = float(np.sqrt(2 * np.sum((d - depth * x) ** 2) / (len(d) - 1) / weight))
    return Dip(depth, error, held)
