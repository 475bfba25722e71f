"""Where each row of a block stands: which of its counters places it, and what that counter counts.

A position is recorded, or derived from recorded counters, or the order in which the rows were found; it is never invented
in any other way, and the result says which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ga_audit.logs.formats._text.blocks import Block
from ga_audit.logs.formats._text.names import Kind
from ga_audit.run import Counted
from ga_audit.stats.arrays import median

Floats = NDArray[np.float64]
_MOST = 1 << 53
_ENOUGH = 0.5  # share of the rows of training that must hold a counter; the others are left out and counted
_COUNTS = {Kind.STEP: Counted.OPTIMIZER_STEP, Kind.MICRO: Counted.MICRO_BATCH, Kind.INDEX: Counted.MICRO_BATCH,
           Kind.ITER: Counted.OPTIMIZER_STEP, Kind.SAMPLES: Counted.SAMPLES, Kind.TOKENS: Counted.TOKENS}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Positions:
    """The positions of the rows of a block."""

    of_row: Floats  # (n,); NaN = a row that cannot be placed
    counted: Counted
    derived: bool = False
    how: str = ""  # what the user should know of it; "" where the position stands in the row
    iterations_per_step: int | None = None  # GA, where the rows hold both counters
    unplaced: int = 0  # rows of training without a place
    window: int | None = None  # optimizer steps between rows that were numbered


def of_block(block: Block, *, ga: int | None, logging_steps: int | None) -> Positions:
    """The positions of the rows.

    Parameters
    ----------
    block : the rows of one training.
    ga : GA where the text states it, for trainers whose iterations are micro-batches.
    logging_steps : optimizer steps between rows, where the text states it.
    """
    training = np.array(block.training, bool)
    columns = {kind: np.array(column, np.float64) for kind, column in block.counters.items()}
    if not training.any():
        training = np.ones(len(training), bool)
    for kind in (Kind.STEP, Kind.ITER, Kind.MICRO, Kind.INDEX):
        if _share(columns[kind], training) >= _ENOUGH:
            return _by_counter(block, kind, columns, training, ga)
    bar = _of_bars(block, training)
    if bar is not None:
        return _filled(
            bar,
            training,
            Counted.OPTIMIZER_STEP,
            derived=True,
            how="the lines hold no step: each takes that of its progress bar",
        )
    for kind in (Kind.SAMPLES, Kind.TOKENS):
        if _share(columns[kind], training) >= _ENOUGH and _rises(columns[kind][training]):
            return _filled(columns[kind], training, _COUNTS[kind])
    if _share(columns[Kind.EPOCH], training) == 1.0 and _are_epochs(columns[Kind.EPOCH][training]):
        return _filled(columns[Kind.EPOCH], training, Counted.EPOCH)
    return _in_order(block, columns[Kind.EPOCH], training, logging_steps)


def _share(column: Floats, training: NDArray[np.bool_]) -> float:
    return float(np.mean(np.isfinite(column[training])))


def _rises(column: Floats) -> bool:
    found = column[np.isfinite(column)]
    return bool(np.all(np.diff(found) > 0))


def _are_epochs(column: Floats) -> bool:
    """Whether each row is an epoch: whole numbers that rise by one."""
    return len(column) > 1 and bool(np.all(column == np.floor(column)) and np.all(np.diff(column) == 1))


def _by_counter(
    block: Block, kind: Kind, columns: dict[Kind, Floats], training: NDArray[np.bool_], ga: int | None
) -> Positions:
    counted = _COUNTS[kind]
    if kind in (Kind.ITER, Kind.INDEX, Kind.MICRO) and block.iterations is not None:
        counted = block.iterations
    position, cumulative = _cumulative(block, kind, columns, training)
    if cumulative and kind is Kind.ITER and block.iterations is None:
        counted = Counted.MICRO_BATCH  # the place in the loader of an epoch
    ratio = _iterations_per_step(columns, training) if kind is Kind.STEP else None
    if ratio is not None:
        alone = np.isnan(position) & np.isfinite(columns[Kind.ITER])
        position[alone] = columns[Kind.ITER][alone] // ratio
    if kind in (Kind.INDEX, Kind.MICRO):
        position[~training] = np.nan  # these rows count the batches of the evaluation
    steps = columns[Kind.STEP]
    if kind is Kind.ITER and counted is Counted.OPTIMIZER_STEP and not np.isfinite(steps[training]).any():
        position = np.where(np.isnan(position), steps, position)
    how = "the counter restarts with each epoch: epochs are added up" if cumulative else ""
    if counted is Counted.MICRO_BATCH and block.at_multiples and ga:
        return _filled(np.maximum(position // ga, 1), training, Counted.OPTIMIZER_STEP, derived=True,
                       how=f"iterations are micro-batches: divided by GA {ga}")  # fmt: skip
    if counted is Counted.MICRO_BATCH and block.at_multiples:
        how = "this trainer counts micro-batches, not optimizer steps; give --ga to convert"
    return _filled(position, training, counted, derived=cumulative, how=how, iterations_per_step=ratio)


def _cumulative(
    block: Block, kind: Kind, columns: dict[Kind, Floats], training: NDArray[np.bool_]
) -> tuple[Floats, bool]:
    """The counter, made cumulative where it restarts with each epoch."""
    own, epoch = columns[kind], columns[Kind.EPOCH]
    if (
        kind is Kind.INDEX
        and np.nanmax(np.array(block.totals[kind])[training], initial=0) == 0
        and not np.isfinite(epoch).any()
    ):
        return own.copy(), False
    rows = np.flatnonzero(training & np.isfinite(own))
    both = rows[np.isfinite(epoch[rows])]
    if len(both) != len(rows) or not len(rows):
        return own.copy(), False
    back = np.diff(own[rows]) <= 0
    up = np.diff(epoch[rows]) > 0
    total = np.array(block.totals[kind], np.float64)[rows]
    length = float(np.nanmax(total)) if np.isfinite(total).any() else 0.0
    restarts = bool(np.any(back & up))
    one_epoch = not up.any()
    # a part of a log within one epoch: its place is known where the length of an epoch is and the counter is bracketed
    if not restarts and not (kind is Kind.INDEX and length and (not one_epoch or epoch[rows][0] > 1)):
        return own.copy(), False
    whole = np.floor(epoch)
    if not length:
        length = _epoch_length(own, whole, rows)
    first = 0.0 if np.nanmin(whole[rows]) == 0 else 1.0
    if not restarts and one_epoch and whole[rows][0] <= first:
        return own.copy(), False
    if kind is not Kind.INDEX and not np.isfinite(total).any():
        first = whole[rows][0]  # the length is measured: epochs before the log are not counted with it
    position = (whole - first) * length + own
    return np.where(np.isfinite(position), position, np.nan), True


def _epoch_length(own: Floats, epoch: Floats, rows: NDArray[np.int64]) -> float:
    """Steps of an epoch where no total stands in the rows: the furthest counter of any, and one stride where it begins at 0."""
    found = np.isfinite(own) & np.isfinite(epoch)
    last = float(np.max(own[found]))
    stride = np.diff(own[rows])
    stride = stride[stride > 0]
    begins = float(np.min(own[rows]))
    step = float(np.median(stride)) if len(stride) else 1.0
    return max(last, last + step - begins) if begins < step else last


def _iterations_per_step(columns: dict[Kind, Floats], training: NDArray[np.bool_]) -> int | None:
    """GA from rows that hold both iterations and optimizer steps; None where they do not keep one ratio."""
    rows = training & np.isfinite(columns[Kind.ITER]) & np.isfinite(columns[Kind.STEP]) & (columns[Kind.STEP] > 0)
    if rows.sum() < 2:
        return None
    iterations, steps = columns[Kind.ITER][rows], columns[Kind.STEP][rows]
    ratio = round(median(iterations / steps))
    if ratio < 2 or np.ptp(steps) == 0:
        return None
    # iterations count from 0 or from 1, and a row may stand in the middle of a step
    return ratio if bool(np.all(np.abs(iterations - ratio * steps) <= ratio)) else None


def _of_bars(block: Block, training: NDArray[np.bool_]) -> Floats | None:
    """The step of the progress bar at each row: of the bar drawn after it, or before it where those are more regular."""
    before, after = np.array(block.bar_before, np.float64), np.array(block.bar_after, np.float64)
    found = []
    for column in (after, before):
        own = column[training]
        if np.isfinite(own).all() and len(own) and own[0] > 0 and np.all(np.diff(own) > 0):
            strides = np.diff(own)
            regular = (
                float(np.mean(strides == np.median(strides))) if len(strides) else float(own[0] == before[training][0])
            )
            found.append((regular, column))
    if not found:
        return None
    return max(found, key=lambda f: f[0])[1].copy()


def _filled(
    position: Floats,
    training: NDArray[np.bool_],
    counted: Counted,
    *,
    derived: bool = False,
    how: str = "",
    iterations_per_step: int | None = None,
) -> Positions:
    """The positions with rows of evaluation placed at the row of training before them."""
    position = np.where(np.abs(position) < _MOST, position, np.nan)
    latest = np.maximum.accumulate(np.where(training & np.isfinite(position), np.arange(len(position)), -1))
    missing = ~training & np.isnan(position)
    fill = missing & (latest >= 0)
    position[fill] = position[latest[fill]]
    position[missing & (latest < 0)] = 0.0
    unplaced = int(np.sum(training & np.isnan(position)))
    return Positions(position, counted, derived, how, iterations_per_step, unplaced)


def _in_order(block: Block, epoch: Floats, training: NDArray[np.bool_], logging_steps: int | None) -> Positions:
    """Rows without a counter, numbered in order; in optimizer steps where the text says how many lie between two."""
    derived = logging_steps or _window_from_epochs(block, epoch[training])
    window = derived or 1
    position = np.maximum(np.cumsum(training), 1).astype(np.float64) * window
    each = f"{window} steps to a line" if window > 1 else "a step to a line"
    how = f"the lines hold no step: numbered in order, {each}"
    counted = Counted.OPTIMIZER_STEP if derived else Counted.ORDER
    return Positions(position, counted, derived is not None, how, window=window)


def _window_from_epochs(block: Block, epoch: Floats) -> int | None:
    """Optimizer steps between rows, from the total of steps and the (rounded) epochs; None if they do not say."""
    total, epochs = block.banner.values.get("total_steps"), block.banner.values.get("num_train_epochs")
    if not total or not epochs or len(epoch) < 2 or not np.isfinite(epoch[[0, -1]]).all() or epoch[-1] <= epoch[0]:
        return None
    per_line = (epoch[-1] - epoch[0]) / (len(epoch) - 1) * float(total) / float(epochs)
    return max(round(float(per_line)), 1)
