"""Whether two logs show one training: by their GA, their steps and the numbers at the same steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ga_audit.run import Counted, Role, Run, Series
from ga_audit.stats.arrays import median

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMON = 5  # points in common from which equal values are one training, wherever its logs lie
_SAME = 1e-6  # relative: what a value loses as a float of 32 bits
_ENOUGH = 3  # common points from which a constant factor between two logs can be told from two trainings
_ROUNDING = 0.01  # of ln(value)
_TRAINED = frozenset({Role.LOSS, Role.GRAD_NORM, Role.EVAL_LOSS, Role.LEARNING_RATE})


def is_numbered(run: Run) -> bool:
    """Whether the steps are those of lines in order, since the lines hold none."""
    return any(s.counted is Counted.ORDER for s in run.series) or any(note.code == "derived-step" for note in run.notes)


def placed(one: Run, two: Run) -> Run:
    """The second log at the steps of the first, if its lines were only numbered and its losses are every k-th of theirs."""
    a, b = one.get(Role.LOSS), two.get(Role.LOSS)
    if (
        not is_numbered(two)
        or a is None
        or b is None
        or not len(a)
        or not len(b)
        or np.array_equal(a.position, b.position)
    ):
        return two
    found: list[tuple[float, NDArray[np.int64]]] = []
    for stride in range(1, len(a) // len(b) + 1):
        for start in dict.fromkeys((stride - 1, 0)):
            chosen = slice(start, start + stride * len(b), stride)
            steps, values = a.position[chosen], a.value[chosen]
            if len(steps) == len(b) and _alike(values, b.value):
                found.append((float(np.nanmean(np.abs(values / b.value - 1))), steps))
    if not found:
        return two
    step_of = dict(zip(b.position.tolist(), min(found, key=lambda f: f[0])[1].tolist(), strict=True))
    kept = [s for s in two.series if all(i in step_of for i in s.position.tolist())]
    series = tuple(
        replace(s, position=np.array([step_of[i] for i in s.position.tolist()]), counted=a.counted, derived=True)
        for s in kept
    )
    return replace(two, series=series, notes=tuple(note for note in two.notes if note.code != "derived-step"))


def _alike(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """One curve logged twice: it differs by rounding and, if there are points enough to tell, by a constant factor."""
    ok = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    if not ok.any():
        return False
    ratio = np.log(x[ok]) - np.log(y[ok])
    common = median(ratio) if ok.sum() >= _ENOUGH else 0.0
    return bool(median(np.abs(ratio - common)) <= _ROUNDING)


def is_same_training(one: Run, two: Run) -> bool:
    """Whether two logs can be views of one training: no known GA differs, and the losses have one shape."""
    if one.settings.ga is not None and two.settings.ga is not None and one.settings.ga != two.settings.ga:
        return False
    for role in (Role.LEARNING_RATE, Role.LOSS):
        a, b = one.get(role), two.get(role)
        if a is None or b is None:
            continue
        common, ia, ib = np.intersect1d(a.position, b.position, return_indices=True)
        if len(common) < min(_ENOUGH, len(a), len(b)) or not len(common):
            return False
        x, y = a.value[ia], b.value[ib]
        ok = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
        if not ok.any():
            continue
        if not _alike(x, y):
            return False
        if role is Role.LEARNING_RATE and abs(median(np.log(x[ok]) - np.log(y[ok]))) > _ROUNDING:
            return False
    return True


def first_points(series: Series) -> list[tuple[int, np.float32]]:
    """The first points, by which equal logs are found."""
    return list(zip(series.position[:COMMON].tolist(), series.value[:COMMON].astype(np.float32), strict=True))


def is_same_log(one: Run, two: Run) -> bool:
    """Whether logs of other formats hold the same losses, to the last digit, at one known GA."""
    if one.settings.ga is None or one.settings.ga != two.settings.ga:
        return False
    if {s.format for s in one.sources} & {s.format for s in two.sources}:
        return False
    a, b = one.get(Role.LOSS), two.get(Role.LOSS)
    if a is None or b is None or a.counted is not b.counted:
        return False
    common, ia, ib = np.intersect1d(a.position, b.position, return_indices=True)
    return len(common) >= COMMON and np.allclose(a.value[ia], b.value[ib], rtol=_SAME, atol=0, equal_nan=True)


def is_part_of(one: Run, two: Run) -> bool:
    """Whether every point of one log is in the other of the same format."""
    theirs = {s.name: s for s in two.series}
    shown = [s for s in one.series if s.role in _TRAINED and len(s)]
    return bool(shown) and all(_is_within(s, theirs.get(s.name)) for s in shown)


def _is_within(series: Series, other: Series | None) -> bool:
    if other is None:
        return False
    common, ia, ib = np.intersect1d(series.position, other.position, return_indices=True)
    return len(common) == len(series) and np.array_equal(series.value[ia], other.value[ib], equal_nan=True)
