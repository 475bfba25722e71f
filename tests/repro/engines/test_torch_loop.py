"""Each fault of the plain loop is as large as its name says, by measurement."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "ga_audit" / "repro" / "engines" / "torch_loop.py"
FAULTS = {"none": (0, 0), "sum-loss-log": (1, 0), "sum-grad": (1, 1), "sum-grad-only": (0, 1),
          "divide-twice": (-1, -1), "divide-twice-log": (-1, 0)}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_measured_truth_equals_the_fault(fault: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    command = [sys.executable, str(SCRIPT), "--ga", "8", "--steps", "3", "--fault", fault, "--out", str(tmp_path)]
    subprocess.run(command, check=True)
    truth = json.loads((tmp_path / "truth.json").read_text())
    for measured, logged in zip(truth["measured"], truth["logged"], strict=True):
        assert math.log(logged["loss"] / measured["reference_loss"], 8) == pytest.approx(FAULTS[fault][0], abs=0.01)
        assert math.log(measured["ratio"], 8) == pytest.approx(FAULTS[fault][1], abs=0.01)
        assert logged["grad_norm"] == pytest.approx(measured["norm"], rel=1e-4)
