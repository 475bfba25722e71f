"""What is read of `truth.json`: medians, odd steps, parameters; what is damaged."""

import json
import math
from array import array

import pytest

from ga_audit.errors import EngineFailed
from ga_audit.repro import measurement, tables
from ga_audit.repro import verdict as verdicts
from ga_audit.run import Note


def _truth(path, ga, loss=0, norm=0, gradient=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = [
        {"step": s, "reference_loss": 4.0, "reference_norm": 0.5, "ratio": ga**gradient, "cosine": 1.0} for s in (1, 2)
    ]
    logged = [{"step": s, "loss": 4.0 * ga**loss, "grad_norm": 0.5 * ga**norm} for s in (1, 2)]
    kept = {"parameter_count": 2, "parameters_moved": 10.0, "held_out_loss": 2.0 + ga, "max_grad_norm": 0.75}
    path.write_text(json.dumps({"ga": ga, "measured": measured, "logged": logged, **kept}))
    array("f", [3.0, 4.0 + ga]).tofile(path.with_name("parameters.f32").open("wb"))
    return measurement.read_truth(path)


@pytest.mark.parametrize(
    ("exponents", "verdict"),
    [((0, 0, 0), "healthy"), ((1, 1, 1), "gradients"), ((0, 1, 1), "gradients"), ((0, -1, -1), "gradients"),
     ((1, 0, 0), "logging only"), ((0, -2, -2), "gradients"), ((-1, 0, 0), "logging only")],
)  # fmt: skip
def test_the_measured_exponents_are_those_of_the_fault(tmp_path, exponents, verdict):
    cells = [_truth(tmp_path / str(ga) / "truth.json", ga, *exponents) for ga in (8, 1, 2, 4)]
    found = verdicts.judge(cells)
    assert (found.loss, found.grad_norm, found.gradient) == pytest.approx(exponents, abs=1e-9)
    assert found.verdict == verdict
    assert found.parameters_differ == pytest.approx(0.7)  # 4 + 8 against 4 + 1, over a way of 10
    assert found.held_out_loss_differs == pytest.approx(7)
    assert f"verdict: {verdict}" in tables.table(found)
    logs = {"one": (Note("measurement-disagrees", "they contradict"), Note("measurement-agrees", "they agree"))}
    summary = tables.summary({"one": found, "broken": "not measured: no such model"}, logs)
    assert verdict in summary
    assert "  contradict" in summary
    assert "one: they contradict" in summary
    assert found.cells[-1].clipped == (1 if exponents[1] > 0 else 0)


def test_a_step_that_is_off_is_no_healthy_training(tmp_path):
    path = tmp_path / "truth.json"
    _truth(path, 4)
    kept = json.loads(path.read_text())
    steps = [{**kept["measured"][0], "step": s, "ratio": 0.5 if s == 5 else 1.0} for s in range(1, 6)]
    path.write_text(json.dumps({**kept, "measured": steps}))
    cells = [_truth(tmp_path / "1" / "truth.json", 1), measurement.read_truth(path)]
    found = verdicts.judge(cells)
    assert found.verdict == "gradients at some steps"
    assert "step 5 x0.500" in tables.table(found)


def test_parameters_of_another_length_are_not_compared(tmp_path):
    cells = [_truth(tmp_path / str(ga) / "truth.json", ga) for ga in (1, 2)]
    (tmp_path / "2" / "parameters.f32").write_bytes(b"\0" * 5)
    cells[1] = measurement.read_truth(tmp_path / "2" / "truth.json")
    assert verdicts.judge(cells).parameters_differ is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ga": 1, "logged": 3, "measured": []}', "\x00"])
def test_damaged_truth_is_a_message(tmp_path, text):
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(EngineFailed, match="no measurement"):
        measurement.read_truth(tmp_path / "truth.json")


def _with(tmp_path, *changes):
    """Five steps of a right cell, the first ones changed."""
    path = tmp_path / "truth.json"
    _truth(path, 4)
    kept = json.loads(path.read_text())
    rows = [{**kept["measured"][0], "step": s} for s in range(1, 6)]
    rows = [{**row, **change} for row, change in zip(rows, [*changes, {}, {}, {}, {}, {}], strict=False)]
    path.write_text(json.dumps({**kept, "measured": rows}))
    return measurement.read_truth(path)


def test_a_step_whose_whole_batch_diverged_too_does_not_decide(tmp_path):
    cell = _with(tmp_path, {"ratio": math.nan, "reference_norm": math.nan})
    assert (cell.gradient, cell.odd_steps) == (1, ())


def test_a_step_that_is_no_number_where_the_whole_batch_is_one_is_odd(tmp_path):
    """A micro-batch whose labels are all ignored has no mean."""
    cell = _with(tmp_path, {"ratio": math.nan}, {"ratio": math.nan}, {"ratio": math.nan})
    assert cell.gradient == 1
    assert [step.step for step in cell.odd_steps] == [1, 2, 3]
    assert "step 1 not a number, where that of the whole batch is one" in tables.table(verdicts.judge([cell]))


def test_a_step_that_points_elsewhere_is_odd_at_any_norm(tmp_path):
    cell = _with(tmp_path, {"cosine": 0.3}, {"cosine": 0.3})
    assert (cell.cosine, [step.step for step in cell.odd_steps]) == (1, [1, 2])
    assert "step 1 x1.000 (cosine 0.300)" in tables.table(verdicts.judge([cell]))


def test_of_an_objective_over_several_steps_no_single_one_is_odd(tmp_path):
    path = tmp_path / "truth.json"
    _with(tmp_path, {"ratio": 0.7}, {"ratio": 1.3})
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "objective_spans_steps": True}))
    assert measurement.read_truth(path).odd_steps == ()


def test_what_was_trained_is_said(tmp_path):
    path = tmp_path / "truth.json"
    _truth(path, 4)
    kept = json.loads(path.read_text())
    more = {"what": "B (no **kwargs)", "packages": {"torch": "2.13.0"}, "device": "cpu", "dtype": "float32"}
    path.write_text(json.dumps({**kept, **more}))
    assert str(measurement.read_truth(path).training) == "B (no **kwargs); torch 2.13.0; cpu, float32"
