"""Tokens a second are those of training alone, the limit is measured, and no step waits for its values."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ga_audit.repro import (
    measurement,
    tables,
)
from ga_audit.repro import (
    plan as planning,
)
from ga_audit.repro import (
    train as training,
)
from ga_audit.repro import (
    verdict as verdicts,
)
from ga_audit.repro.engine import SCRIPTS

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture
def throughput(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import _throughput

    return _throughput


@pytest.fixture
def time_of(monkeypatch, throughput):
    """A clock of our own, that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    return passes


def _clock(throughput):
    import torch

    return throughput.Clock(torch.device("cpu"))


def test_the_first_step_and_what_is_measured_are_not_counted(throughput, time_of):
    clock = _clock(throughput)
    clock.start()
    time_of(5)  # what a first step sets up
    clock.step()
    for _ in range(3):
        time_of(2)
        with clock.paused():
            time_of(50)
        clock.step()
    clock.stop()
    with clock.paused():  # after the end: an evaluation
        time_of(7)
    assert (clock.seconds, clock.steps, clock.skipped) == (6, 4, 1)
    found = throughput.summary(clock, [10, 20, 20, 20], 0, limit_of=None)
    assert (found["tokens"], found["tokens_per_second"], found["limit"]) == (60, 10, None)


def test_an_only_step_is_counted(throughput, time_of):
    clock = _clock(throughput)
    clock.start()
    time_of(4)
    clock.step(last=True)
    clock.stop()
    assert throughput.summary(clock, [8], 0, limit_of=None)["tokens_per_second"] == 2


def test_operations_are_counted_and_the_limit_is_measured(throughput):
    import torch

    a = torch.randn(16, 16)
    assert throughput.flops_of(lambda: a @ a) == 2 * 16**3
    found = throughput.matmul_rate(torch.device("cpu"), torch.float32)
    assert found["size"] in throughput.SIZES
    assert 1e7 < found["flops_per_second"] < 1e15
    assert found["dtype"] == "float32"


# counts what fetches a value from the device, in a training whose optimizer fetches none itself
COUNTING = """
import runpy, sys, torch
from torch.utils._python_dispatch import TorchDispatchMode
class Counting(TorchDispatchMode):
    fetched = 0
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        Counting.fetched += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))
import _task
_task.reference = lambda *args: (1.0, torch.ones(1))
_task.compare = _task.flat_gradient = lambda *args: {}
import torch_loop
original = torch_loop.train
def train(*args):
    with Counting():
        return original(*args)
torch_loop.train = train
torch_loop.main()
print(Counting.fetched)
"""


def test_no_step_of_the_plain_loop_waits_for_its_values(tmp_path: Path):
    counts = []
    for steps in (3, 9):
        options = ["--ga", "2", "--steps", str(steps), "--optimizer", "sgd", "--out", str(tmp_path / str(steps))]
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, *options], env={"PYTHONPATH": str(SCRIPTS)}, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        counts.append(int(done.stdout))
        logged = json.loads((tmp_path / str(steps) / "trainer_state.json").read_text())["log_history"]
        assert [row["step"] for row in logged] == list(range(1, steps + 1))
    assert counts == [0, 0]


@pytest.mark.parametrize(("device", "has", "dtype"), [
    ("cpu", True, "float32"), ("cuda", True, "bfloat16"), ("cuda", False, "float32"), ("mps", True, "float32"),
])  # fmt: skip
def test_a_gpu_trains_in_bfloat16_where_it_has_it(throughput, monkeypatch, device, has, dtype):
    import _task
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has)
    assert _task.dtype_named("auto", device) == dtype
    assert _task.dtype_named("float32", device) == "float32"


def test_the_device_is_measured_once_for_a_matrix(tmp_path):
    cells = planning.plan_cells(tmp_path, (1, 2), (1,), 16)
    plan = planning.Plan("torch", cells, 16, {"steps": 2})
    assert ["--benchmark" in training.argv(plan, cell) for cell in cells] == [True, False]
    planning.run(plan)
    read = [measurement.read_truth(cell.out / "truth.json") for cell in cells]
    assert read[0].speed.limit > 0
    assert read[1].speed.limit is None
    assert all(cell.speed.tokens > 0 < cell.speed.flops < read[0].speed.limit for cell in read)


def _cell(ga, world, tokens, flops, limit=None):
    speed = measurement.Speed(tokens, flops, limit, "float32" if limit else None)
    return measurement.Measured(ga, world, 1.0, 1.0, 1.0, 1.0, None, None, speed=speed)


def test_the_table_says_tokens_and_the_share_of_the_limit():
    text = tables.table(verdicts.judge([_cell(1, 1, 1000, 2e9, 1e11), _cell(2, 1, 3000, 6e9), _cell(4, 1, 20000, 9e9)]))
    assert "throughput: 3k tokens/s" in text
    assert "6% of the 100 GFLOP/s that a matrix product in float32 reaches" in text
    alone = verdicts.judge([_cell(1, 2, 1000, 1e11, 1e11)])
    assert "50% of the 100 GFLOP/s" in tables.table(alone)  # of two ranks' devices
    assert "waits for its operations" not in tables.table(alone)
    assert "throughput: 3k" in tables.summary(
        {"one": verdicts.judge([_cell(1, 1, 3000, 1e9)]), "broken": "not measured: -"}
    )


def test_a_truth_without_throughput_has_no_such_line():
    assert "throughput" not in tables.table(
        verdicts.judge([measurement.Measured(1, 1, 1.0, 1.0, 1.0, 1.0, None, None)])
    )
