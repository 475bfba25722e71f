"""Columns of rows give the points that the rows give value by value."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ga_audit.logs.formats import _counters, _points
from ga_audit.logs.formats._points import NO_STEP, Rows
from ga_audit.logs.formats._tables import json_rows

VALUES = st.one_of(
    st.floats(), st.integers(-3, 3), st.integers(), st.booleans(), st.none(), st.just(10**400), st.just([1]), st.just({"a": 1}),
    st.sampled_from(["1.5", "nan", "x", "1/20", "1,000", "val", ""]),
)  # fmt: skip
NAMES = st.sampled_from(["loss", "eval_loss", "val/loss", "train_loss", "train_runtime", "step", "epoch", "mode", "split", "lr",
                         "iter", "own"])  # fmt: skip
ROWS = st.lists(st.dictionaries(NAMES, VALUES, max_size=6), max_size=8)


def points(rows):
    """The points and what is no number, by name, with NaN equal to itself; empty series are none."""
    found = {name: list(zip(p.step, map(repr, p.value), strict=True)) for name, p in rows.points.items() if len(p)}
    return found, {name: count for name, count in rows.unread.items() if count}


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, max_size=6))
def test_a_column_is_what_its_values_are(values):
    steps = np.array([NO_STEP if i % 3 == 2 else i for i in range(len(values))], np.int64)
    whole, single = Rows("test", "x"), Rows("test", "x")
    whole.add_column("loss", steps, values)
    for step, value in zip(steps.tolist(), values, strict=True):
        single.add("loss", None if step == NO_STEP else step, value)
    assert points(whole) == points(single)


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_the_columns_of_a_table_are_its_rows(found):
    positions = _counters.place(found, "x").positions
    steps = np.array([NO_STEP if step is None else step for step in positions], np.int64)
    whole, single = Rows("test", "x"), Rows("test", "x")
    for name, parts in json_rows._columns(found, steps != NO_STEP).items():
        which, values = json_rows._by_row(parts)
        whole.add_column(name, steps[which], values)
    for row, step in zip(found, positions, strict=True):
        evaluation = _counters.is_evaluation(row)
        for name, value in row.items():
            own = json_rows._series_of(name, row, evaluation)
            if step is not None and own and not isinstance(value, dict | list):
                single.add(own, step, value)
    assert points(whole) == points(single)


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_the_names_that_rows_hold_are_those_with_numbers(found):
    assert _counters._held(found, None) == _counters._held(found, _counters.is_number)
    assert _counters.are_evaluations(found) == [_counters.is_evaluation(row) for row in found]
    readings = _counters._counters(found, dict.fromkeys(name for row in found for name in row))
    assert repr(readings) == repr({name: [_counters._reading(row.get(name)) for row in found] for name in readings})


@pytest.mark.parametrize(
    ("values", "steps"),
    [([1, 2], [1, 2]), ([1.9, "3"], [1, 3]), ([True, None], [NO_STEP] * 2), ([1 << 60, 10**30, 5], [NO_STEP, NO_STEP, 5]),
     ([math.nan, math.inf, -1], [NO_STEP, NO_STEP, -1]), ([], [])],
)  # fmt: skip
def test_steps(values, steps):
    assert _points.steps_of(values).tolist() == steps
