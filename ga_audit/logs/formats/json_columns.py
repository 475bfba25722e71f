"""A JSON object of columns of equal length, as Keras prints `History.history`: `{"loss": [...], "val_loss": [...]}`.

A column of steps or epochs places the values; without one the rows are epochs, since Keras logs one row an epoch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import roles
from ga_audit.logs.formats import Claim, Target, _values
from ga_audit.logs.formats._points import STEP_KEYS, Rows, need_series
from ga_audit.logs.formats._text import json_text
from ga_audit.run import Counted, Role, Run, Source

FORMAT = "json_columns"
_EPOCHS = ("epoch", "epochs")
_FIRST = re.compile(rb'\s{0,20}\{\s{0,20}"[^"\\]{1,80}"\s{0,8}:\s{0,8}\[\s{0,8}[-+\dNn.]')


def claim(target: Target) -> Claim:
    """YES for a JSON object whose first value is a list of numbers and that names a loss or a gradient norm."""
    if target.is_dir or b"\x00" in target.head[:4096] or _FIRST.match(target.head) is None:
        return Claim.NO
    return Claim.YES if b"loss" in target.head or b"norm" in target.head or target.loss_key else Claim.NO


def read(target: Target) -> Iterator[Run]:
    """The one run of the columns.

    Raises
    ------
    UnreadableLog
        no JSON object of lists of numbers, or lists of different length.
    """
    content = json_text.load(target.read_bytes(), target.path)
    columns = {name: values for name, values in _values.mapping(content).items() if isinstance(values, list)}
    lengths = {len(values) for name, values in columns.items() if _is_ours(name, target)}
    if len(lengths) != 1:
        raise UnreadableLog(
            "its columns differ in length", where=target.path, remedy="Give columns of one length, or JSON Lines."
        )
    (length,) = lengths
    positions, counted = _positions(columns, length)
    rows = Rows(FORMAT, target.path)
    for name, values in columns.items():
        if len(values) == length and name not in STEP_KEYS:
            for position, value in zip(positions, values, strict=True):
                if position is not None:
                    rows.add(name, position, value)
    series, left = rows.series(target)
    need_series(series, target.path, left)
    name = "standard input" if target.path == "-" else target.file.stem
    yield Run(
        id=target.path,
        name=name,
        training=target.path,
        settings=rows.settings(),
        series=tuple(
            replace(one, counted=counted, window=None if counted is Counted.EPOCH else one.window) for one in series
        ),
        sources=(Source(FORMAT, target.path),),
        left_out=left,
    )


def _is_ours(name: str, target: Target) -> bool:
    role = roles.role_of(name, loss_key=target.loss_key, grad_norm_key=target.grad_norm_key)
    return role in (Role.LOSS, Role.GRAD_NORM, Role.EVAL_LOSS)


def _positions(columns: dict[str, list[Any]], length: int) -> tuple[list[int | None], Counted]:
    """The position of each row, and what it counts."""
    for keys, counted in ((STEP_KEYS, Counted.OPTIMIZER_STEP), (_EPOCHS, Counted.EPOCH)):
        for key in keys:
            found = [_values.step(value) for value in columns.get(key, ())]
            if len(found) == length and all(step is not None for step in found):
                return found, counted
    return list(range(1, length + 1)), Counted.EPOCH
