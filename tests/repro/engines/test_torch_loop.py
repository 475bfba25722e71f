"""Each fault of the plain loop is as large as its name says, by measurement, and inspect reads it from every sink."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ga_audit import pipeline
from ga_audit.repro import engine, measurement
from ga_audit.repro import plan as planning
from ga_audit.repro import verdict as verdicts

SCRIPT = engine.engines()["torch"].script
FAULTS = {"none": (0, 0), "sum-loss-log": (1, 0), "sum-grad": (1, 1), "sum-grad-only": (0, 1), "mean-of-means": (0, 0),
          "divide-twice": (-1, -1), "divide-twice-log": (-1, 0), "divide-grad-only": (0, -1),
          "divide-grad-by-square": (0, -2)}  # fmt: skip
VERDICTS = {"healthy": "healthy", "unequally weighted": "healthy", "logging only": "scaled", "gradients": "scaled"}

pytest.importorskip("torch")


# the other faults are measured by the test below, which also asks `inspect`
@pytest.mark.parametrize("fault", ["sum-grad-only", *(pytest.param(f, marks=pytest.mark.slow) for f in FAULTS)])
def test_measured_truth_equals_the_fault(fault: str, tmp_path: Path) -> None:
    lengths = "variable" if fault != "mean-of-means" else "fixed"  # its bias is what unequal lengths do
    command = [sys.executable, str(SCRIPT), "--ga", "8", "--steps", "3", "--fault", fault, "--out", str(tmp_path)]
    subprocess.run([*command, "--lengths", lengths], check=True)
    kept = json.loads((tmp_path / "truth.json").read_text())
    for measured, logged in zip(kept["measured"], kept["logged"], strict=True):
        assert math.log(logged["loss"] / measured["reference_loss"], 8) == pytest.approx(FAULTS[fault][0], abs=0.01)
        assert math.log(measured["ratio"], 8) == pytest.approx(FAULTS[fault][1], abs=0.01)
        assert logged["grad_norm"] == pytest.approx(measured["norm"], rel=1e-4)


def test_inspect_reaches_the_measured_verdict_from_every_sink(tmp_path: Path) -> None:
    plans = [
        planning.Plan("torch", planning.plan_cells(tmp_path / fault, (1, 8), (1,), 16), 16,
                    {"fault": fault, "steps": 12, "sink": ("json", "tensorboard", "wandb")}, name=fault)
        for fault in FAULTS
    ]  # fmt: skip
    planning.run(*plans)
    wrong = []
    for plan in plans:
        found = verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in plan.cells])
        assert (found.loss, found.gradient) == pytest.approx(
            FAULTS[plan.name], abs=0.02 if "means" in plan.name else 0.01
        )
        for sink in ("json", "tensorboard", "wandb"):
            places = [str(_only(cell.out, sink)) for cell in plan.cells]
            (diagnosis,) = pipeline.audit(places).diagnoses
            exponents = {f.role.value: f.hypothesis.ga for f in diagnosis.findings}
            expected = {"loss": FAULTS[plan.name][0], "grad_norm": FAULTS[plan.name][1]}
            if diagnosis.verdict.value != VERDICTS[found.verdict] or exponents != {
                k: v for k, v in expected.items() if v
            }:
                wrong.append((plan.name, sink, found.verdict, diagnosis.verdict.value, exponents))
    assert not wrong


def _only(cell: Path, sink: str) -> Path:
    """The cell's logs of one sink; those in JSON lie beside the others, so they are copied apart."""
    if sink != "json":
        return cell / sink
    apart = cell.parent / f"json-{cell.name}"
    apart.mkdir()
    for name in ("trainer_state.json", "args.json"):
        shutil.copy(cell / name, apart)
    return apart


@pytest.mark.parametrize(("fault", "on_ga", "on_world"), [
    ("ga-and-world-size", 1, 1), pytest.param("none", 0, 0, marks=pytest.mark.slow),
    pytest.param("sum-grad", 1, 0, marks=pytest.mark.slow), pytest.param("world-size", 0, 1, marks=pytest.mark.slow),
])  # fmt: skip
def test_two_ranks_through_torchrun_tell_ga_from_world_size(fault, on_ga, on_world, tmp_path):
    cells = planning.plan_cells(tmp_path, (1, 4), (1, 2), 16)
    planning.run(planning.Plan("torch", cells, 16, {"fault": fault, "steps": 3}))
    found = verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in cells])
    for exponents in (found.on_loss, found.on_grad_norm, found.on_gradient):
        assert (exponents.ga, exponents.world) == pytest.approx((on_ga, on_world), abs=0.01)
    assert found.cells[1].cosine == pytest.approx(1)


def test_a_short_last_group_is_measured_at_its_steps(tmp_path):
    cells = planning.plan_cells(tmp_path, (1, 4), (1,), 16)
    planning.run(planning.Plan("torch", cells, 16, {"fault": "partial-last", "steps": 10}))
    found = verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in cells])
    assert found.verdict == "gradients at some steps"
    odd = found.cells[1].odd_steps
    assert [step.step for step in odd] == [5, 10]
    assert [step.ratio for step in odd] == pytest.approx([0.5, 0.5], abs=0.001)


@pytest.mark.parametrize(
    "options", [{"packing": True}, {"dtype": "bfloat16"}, {"optimizer": "sgd", "max-grad-norm": 0.0}]
)
def test_settings_that_change_no_verdict(options, tmp_path):
    cells = planning.plan_cells(tmp_path, (1, 4), (1,), 16)
    planning.run(planning.Plan("torch", cells, 16, {"steps": 3, "fault": "sum-grad", **options}))
    found = verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in cells])
    assert found.gradient == pytest.approx(1, abs=0.01)
    assert (found.cells[0].clipped is None) == ("optimizer" in options)
