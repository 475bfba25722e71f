"""Blocks of text or columns of equal length -> the series of a run; for the formats that wrap a text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ga_audit.logs.formats import Target
from ga_audit.logs.formats._points import Rows
from ga_audit.logs.formats._text.blocks import Block
from ga_audit.logs.formats._text.positions import Positions
from ga_audit.run import Note, Series


def series_of(block: Block, at: Positions, form: str, target: Target) -> tuple[tuple[Series, ...], tuple[Note, ...]]:
    """The series of a block at its positions, and what was left out."""
    rows = Rows(form, target.path)
    for name, values in block.values.items():
        for row, value in zip(values.row, values.value, strict=True):
            if not np.isnan(at.of_row[row]):
                rows.add(name, int(at.of_row[row]), value)
    series, left = rows.series(target)
    return tuple(replace(one, counted=at.counted, derived=at.derived) for one in series), left
