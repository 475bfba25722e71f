import json
from pathlib import Path

import pytest

from ga_audit.repro import judge

ROWS = json.loads(Path(__file__).with_name("releases.json").read_text())["rows"]
MEASURED = [row for row in ROWS if not row["failure"]]


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row['release']}-{row['variant']}")
def test_measured_rows_are_whole_exponents_and_their_verdict(row):
    numbers = (row["loss"], row["grad_norm"], row["gradient"])
    assert all(abs(e - round(e)) < 0.03 for e in numbers)
    assert row["verdict"] == judge.verdict(*numbers)


def test_a_row_without_numbers_says_why():
    assert all(row["failure"] for row in ROWS if row["gradient"] is None)
