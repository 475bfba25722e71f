"""The faster parser of large files gives what `json` gives, or leaves the file to it."""

import json
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ga_audit.errors import UnreadableLog
from ga_audit.logs.formats import Target, trainer_state
from ga_audit.logs.formats._text import json_text

ODD = ("NaN", "-NaN", "Infinity", "-Infinity", "Inf", "nan", "1" * 30, "1" * 5000, "-0", "-0.0", "1e400", "1E5", "01", "1.",
       ".5", "+1", "0x1", "1_0", '"\\ud800"', '"\\ud83d\\ude00"', '"a\nb"', '"\x00"', "true", "null", "[1,]", '{"a":1,}',
       "\ufeff1", '{"a":1,"a":2}', " 1\t", "[1 2]", "1 2", "", "'a'", "5e-324", "0.1", "123456789012345678.5",
       "[" * 300 + "]" * 300)  # fmt: skip
VALUES = st.recursive(
    st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12,
)  # fmt: skip


def outcome(parse, data):
    """A value, or the message of the error."""
    try:
        return repr(parse(data))
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"


def same(data, monkeypatch):
    monkeypatch.setattr(json_text, "_LARGE", 0)
    assert outcome(json_text.parse, data) == outcome(lambda text: json.loads(text.decode("utf-8-sig")), data)


@pytest.mark.parametrize("text", ODD, ids=lambda t: t[:20].encode("unicode_escape", "surrogatepass").decode())
@pytest.mark.parametrize("form", ["%s", '{"loss": %s, "step": 1}', "[%s, 1.5]"])
def test_odd_values(text, form, monkeypatch):
    same((form % text).encode(), monkeypatch)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.integers(0, 40), st.binary(max_size=2))
def test_what_json_writes_whole_or_damaged(value, at, instead):
    data = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as monkeypatch:
        same(data, monkeypatch)
        same(data[:at] + instead + data[at + len(instead) :], monkeypatch)


@pytest.mark.parametrize("installed", [True, False])
def test_a_large_file_with_and_without_the_faster_parser(tmp_path, monkeypatch, installed):
    if not installed:
        monkeypatch.setitem(sys.modules, "pydantic_core", None)
    rows = [{"loss": 2.5 - i / 40_000, "grad_norm": math.nan, "step": i, "note": "x"} for i in range(20_000)]
    rows[7]["loss"], rows[8]["loss"], rows[9]["loss"] = math.inf, "1.5", int("1" * 30)
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows}))
    assert path.stat().st_size > json_text._LARGE
    (run,) = trainer_state.read(Target(str(path)))
    loss, norm = sorted(run.series, key=lambda series: series.name, reverse=True)
    assert loss.position.tolist() == norm.position.tolist() == list(range(20_000))
    assert loss.value.tolist() == [float(row["loss"]) for row in rows]
    assert all(map(math.isnan, norm.value))
    path.write_text(path.read_text()[:-2])
    with pytest.raises(UnreadableLog, match=r"broken JSON: Expecting ',' delimiter \(the file seems cut off\)"):
        list(trainer_state.read(Target(str(path))))
