"""TRL's trainers, measured, where TRL is installed."""

import importlib.util

import pytest

from ga_audit.repro import engine, judge, matrix


@pytest.mark.torch
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
@pytest.mark.parametrize("trainer", engine.engines()["trl"].variants)
def test_a_trainer_is_trained_and_measured(trainer, tmp_path):
    cells = matrix.plan_cells(tmp_path, (1, 4), (1,), 16)
    matrix.run(matrix.Plan("trl", cells, 16, {"steps": 3, "measure-every": 1, "variant": trainer}))
    found = judge.judge([judge.read_truth(cell.out / "truth.json") for cell in cells])
    assert abs(found.gradient - round(found.gradient)) < 0.03
