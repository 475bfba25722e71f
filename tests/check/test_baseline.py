"""A baseline is written in the place of a baseline only, and read back."""

import json

import pytest

from ga_audit.check import baseline
from ga_audit.check.baseline import Entry
from ga_audit.errors import RefusedToOverwrite, WrongUsage


def test_written_and_read_back(tmp_path):
    file = tmp_path / "known.json"
    entries = [Entry("b", "runs/ü"), Entry("a", "x"), Entry("a", "x")]
    assert baseline.write(file, entries) == 2
    assert baseline.read(file) == (Entry("a", "x"), Entry("b", "runs/ü"))
    assert baseline.write(file, []) == 0
    assert baseline.read(file) == ()


def test_what_is_no_baseline_stays(tmp_path):
    file = tmp_path / "package.json"
    file.write_text('{"name": "x"}')
    with pytest.raises(RefusedToOverwrite):
        baseline.write(file, [])
    assert file.read_text() == '{"name": "x"}'


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": "ga-audit-baseline/2", "findings": []}', '{"schema": "ga-audit-baseline/1"}',
     json.dumps({"schema": "ga-audit-baseline/1", "findings": [{"run": "x"}]}), "\x00", "[" * 100_000],
)  # fmt: skip
def test_what_cannot_be_read_is_wrong_usage(tmp_path, content):
    file = tmp_path / "known.json"
    file.write_text(content)
    with pytest.raises(WrongUsage, match="is not a baseline"):
        baseline.read(file)


def test_a_missing_one_names_the_command(tmp_path):
    with pytest.raises(WrongUsage, match="write-baseline"):
        baseline.read(tmp_path / "none.json")
