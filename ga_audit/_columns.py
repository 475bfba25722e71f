"""Columns of a table and plain sequences, checked and turned into arrays.

This is the way in for data that was never a log. It knows nothing of runs: names, positions and
values go in and out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ga_audit.errors import WrongUsage

if TYPE_CHECKING:
    import pandas as pd

Points: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]

# The names that a column is looked for under, in this order, where the caller gives none.
COMMON: Mapping[str, tuple[str, ...]] = {
    "step": ("step", "global_step", "train/global_step", "trainer/global_step", "_step"),
    "loss": ("loss", "train/loss", "train_loss", "training_loss"),
    "grad_norm": ("grad_norm", "train/grad_norm", "gradient_norm"),
    "eval_loss": ("eval_loss", "eval/loss", "val_loss", "val/loss", "validation_loss"),
}


def from_frame(frame: pd.DataFrame, names: Mapping[str, str | None]) -> tuple[bool, dict[str, tuple[str, Points]]]:
    """The columns of a table by role, each with the rows in which it has a value.

    Parameters
    ----------
    frame : one row per logged step; the index is ignored.
    names : column name for "step" and for each role, or None to look for the names in `COMMON`.

    Returns
    -------
    Whether the table has a step column, and role -> (column name, (positions, values)).

    Raises
    ------
    WrongUsage
        A named column does not exist, no column has a role, or the steps are invalid.
    """
    if not hasattr(frame, "columns"):
        raise TypeError(f"a pandas.DataFrame is needed, not {type(frame).__name__}")
    found = {role: _column(frame, role, name) for role, name in names.items()}
    step_name = found.pop("step")
    columns = {role: name for role, name in found.items() if name is not None}
    if not columns:
        raise WrongUsage(
            f"no column of the table is {_listed(found)}", remedy=f"{_there(frame)} Name one, as in loss=..."
        )
    step = None if step_name is None else _numbers(frame[step_name].to_numpy(), f"column {step_name!r}")
    out = {}
    for role, name in columns.items():
        value = _numbers(frame[name].to_numpy(), f"column {name!r}")
        present = ~np.isnan(value)
        if step is None:
            # without a counter there is only the order of the rows, the same for all columns
            position = np.flatnonzero(present).astype(np.int64) + 1
            out[role] = (name, (position, value[present]))
        else:
            present &= ~np.isnan(step)
            position = _whole(step[present], f"column {step_name!r}")
            out[role] = (name, _in_order(position, value[present], f"column {name!r}"))
    return step is not None, out


def from_sequence(values: ArrayLike, step: ArrayLike | None, name: str) -> Points:
    """Positions and values of one sequence; numbered from 1 where `step` is None. NaN is kept.

    Raises
    ------
    WrongUsage
        Not numbers, not one-dimensional, another length than `step`, or steps that do not ascend.
    """
    value = np.atleast_1d(_numbers(values, name))
    if value.ndim != 1:
        raise WrongUsage(f"{name} has {value.ndim} dimensions, not one")
    if step is None:
        return np.arange(1, value.size + 1, dtype=np.int64), value
    position = _whole(np.atleast_1d(_numbers(step, "step")), "step")
    if position.shape != value.shape:
        raise WrongUsage(f"{name} and step differ in length: {value.size} and {position.size}")
    if np.any(np.diff(position) <= 0):
        raise WrongUsage("the steps do not ascend", remedy="Sort the points, and keep one value per step.")
    return position, value


def is_count(value: object) -> bool:
    """Whether a value is a positive whole number, of Python or numpy."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def count(number: int, noun: str) -> str:
    """`1 point`, `2 points`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _column(frame: pd.DataFrame, role: str, name: str | None) -> str | None:
    if name is None:
        return next((common for common in COMMON[role] if common in frame.columns), None)
    if name not in frame.columns:
        raise WrongUsage(f"the table has no column {name!r}", remedy=_there(frame))
    return name


def _there(frame: pd.DataFrame) -> str:
    names = [str(name) for name in frame.columns]
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"Its columns are: {_listed(names[:12])}{more}." if names else "It has no columns."


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(names)


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WrongUsage(f"{name} holds something that is not a number", remedy=str(error)) from error


def _whole(step: NDArray[np.float64], name: str) -> NDArray[np.int64]:
    if not np.all(np.isfinite(step)) or np.any(step != np.round(step)) or np.any(np.abs(step) > 2**53):
        raise WrongUsage(f"{name} holds a step that is not a whole number")
    return step.astype(np.int64)


def _in_order(position: NDArray[np.int64], value: NDArray[np.float64], name: str) -> Points:
    """Points by position; a row that occurs twice with the same value counts once."""
    order = np.argsort(position, kind="stable")
    position, value = position[order], value[order]
    again = np.flatnonzero(np.diff(position) == 0)
    differing = again[value[again] != value[again + 1]]
    if differing.size:
        raise WrongUsage(
            f"{name} has two values for step {position[differing[0]]}",
            remedy="Give one run at a time, with one value per step.",
        )
    return np.delete(position, again), np.delete(value, again)
