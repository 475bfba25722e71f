"""The places of cells and members against Python's own `csv` and `json`, and the print of numbers."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.formats._csv_cells import rows
from ga_audit.formats._json_places import object_at
from ga_audit.formats._places import text_like

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
