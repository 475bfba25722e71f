"""Places of cells and members against Python's own `csv` and `json`; what is refused; the print of numbers."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Rescale, Rewrite
from ga_audit.logs.formats._text.csv_cells import rows
from ga_audit.logs.formats._text.json_places import object_at
from ga_audit.logs.formats._text.places import (
    Correction,
    Place,
    check,
    corrections,
    edited,
    text_like,
)
from ga_audit.run import Role

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(alphabet='a1,;"\n é', max_size=40))
def test_cells_are_those_of_the_csv_module(text):
    expected = [row for row in csv.reader(io.StringIO(text)) if row]
    found = list(rows(text, ","))
    assert [list(row.values) for row in found] == expected


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=5), st.sampled_from([None, 2]), st.booleans())
def test_members_are_those_of_the_json_module(content, indent, ascii_only):
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    found = object_at(f"  {text} ", 2)
    assert repr(found.values) == repr(json.loads(text))
    assert found.end == len(text) + 1
    assert {k: repr(json.loads(f"  {text}"[slice(*at)])) for k, at in found.spans.items()} == {
        k: repr(v) for k, v in json.loads(text).items()
    }


@pytest.mark.parametrize(
    ("text", "number", "printed"),
    [
        ("7.9071", 0.9883875, "0.98839"),
        ("2.504220E+00", 0.3130275, "3.130275E-01"),
        ("1e5", 12500.0, "1.250e+04"),
        ("+8.0", 1.0, "+1.000"),
        ("-8.0", -1.0, "-1.000"),
        ("10", 1.25, "1.25"),
        ("0.0001", 0.0000125, "0.00001250"),
        ("1.5", 150000.0, "150000.0"),
        ("8.0", 0.0, "0.000"),
    ],
)
def test_a_number_is_printed_as_the_one_that_it_replaces(text, number, printed):
    assert text_like(text, number) == printed


def of_steps(*steps):
    return [Place("", "loss", step, 8.0, (i, i + 1)) for i, step in enumerate(steps)]


def change(**fields):
    rescale = Rescale("loss", Role.LOSS, np.array([0, 30]), np.array([2.0, 8.0]), **fields)
    return Rewrite([rescale], {})


def test_a_log_without_steps_takes_the_factors_of_the_steps_that_another_view_gave_it():
    found = corrections(of_steps(None, None, None), change(steps=np.array([10, 20, 30])), "a.log")
    assert [made.number for made in found.values()] == [4.0, 4.0, 1.0]
    with pytest.raises(AuditError, match="'loss' has 3 steps here and 2 in the run"):
        corrections(of_steps(None, None, None), change(steps=np.array([10, 20])), "a.log")


def test_what_was_not_found_again_or_would_not_be_finite_is_refused():
    with pytest.raises(AuditError, match="no value of 'loss' was found again"):
        corrections([Place("2", "loss", 1, 8.0, (0, 1))], change(part="1"), "a.log")
    with pytest.raises(AuditError, match="'loss' at step 1 would be no finite number"):
        corrections([Place("", "loss", 1, 1e300, (0, 1))],
                    Rewrite([Rescale("loss", Role.LOSS, np.array([0]), np.array([1e-300]))], {}), "a.log")  # fmt: skip


def test_one_piece_of_text_that_is_two_values_is_refused():
    with pytest.raises(AuditError, match=r"one piece of text was read as two values: '8\.0'"):
        edited("loss 8.0", [(5, 8, "1.0"), (5, 8, "2.0")], "a.log")


def test_a_copy_that_reads_otherwise_is_refused():
    before = of_steps(1, 2)
    made = {0: Correction(before[0], (0, 3), 1.0)}
    right = [replace(before[0], value=1.0), before[1]]
    check(before, made, right, "8.0", "a.log")
    for wrong in ([right[0]], [before[0], before[1]], [right[0], replace(before[1], value=8.0000001)]):
        with pytest.raises(AuditError, match="cannot be written back"):
            check(before, made, wrong, "8.0", "a.log")
