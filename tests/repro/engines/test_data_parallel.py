"""GPUs of one process: the stand-in splits and gathers as torch does, and no training takes more of them than it is to."""

import importlib
import importlib.util
import sys
from types import SimpleNamespace

import pytest

from ga_audit.repro import engine, measurement
from ga_audit.repro import plan as planning
from ga_audit.repro import verdict as verdicts

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
live = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")


@pytest.fixture
def helper(monkeypatch):
    """The script's helper, as the script imports it; torch's class is put back."""
    monkeypatch.syspath_prepend(str(engine.SCRIPTS))
    monkeypatch.setattr(torch.nn, "DataParallel", torch.nn.DataParallel)
    yield importlib.import_module("_data_parallel")
    sys.modules.pop("_data_parallel", None)


class Model(torch.nn.Module):
    """The mean of what it is given, over a count; keeps the sizes of its parts."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, x, count=None, note=None):
        self.sizes.append(len(x))
        return {"loss": x.sum() / (count if count is not None else len(x)), "logits": x * 2, "note": note}


def test_parts_are_gathered_like_those_of_devices(helper):
    inner = Model()
    out = helper.OneAfterTheOther(inner)(x=torch.arange(5.0), count=5, note="kept once")
    assert inner.sizes == [3, 2]  # of a batch that does not divide, as torch's scatter
    assert out["loss"].tolist() == pytest.approx([3 / 5, 7 / 5])  # one of each device
    assert out["logits"].tolist() == [0, 2, 4, 6, 8]
    assert "note" not in out


def test_a_tensor_that_cannot_be_split_decides_how_many_parts_there_are(helper):
    """`torch.nn.parallel.scatter` zips the parts of a dictionary: what is left of the longer ones is dropped."""
    inner = Model()
    out = helper.OneAfterTheOther(inner)(x=torch.arange(4.0), count=torch.tensor([4]))
    assert inner.sizes == [2]
    assert out["loss"].tolist() == [1 / 4]
    with pytest.raises(RuntimeError, match="at least a 1-dimensional"):
        helper.OneAfterTheOther(inner)(x=torch.arange(4.0), count=torch.tensor(4))


class Arguments(SimpleNamespace):
    """As the Trainer's: `n_gpu` is what `_n_gpu` says."""

    n_gpu = property(lambda self: self._n_gpu)


def test_a_training_of_one_rank_takes_one_device(helper):
    there = Arguments(_n_gpu=8)
    assert helper.settle(there, 1, in_one_process=False) == ""
    assert there.n_gpu == 1
    ranks = Arguments(_n_gpu=1)
    assert helper.settle(ranks, 2, in_one_process=False) == ""
    assert ranks.n_gpu == 1


def test_a_stand_in_says_that_it_is_one(helper):
    real, cpu = Arguments(_n_gpu=2), Arguments(_n_gpu=0)
    assert helper.settle(real, 2, in_one_process=True) == "devices"
    assert torch.nn.DataParallel is not helper.OneAfterTheOther
    assert helper.settle(cpu, 2, in_one_process=True) == "stand-in"
    assert cpu.n_gpu == 2
    assert torch.nn.DataParallel is helper.OneAfterTheOther


@live
def test_devices_multiply_the_loss_of_a_model_that_ignores_the_count(tmp_path):
    """On transformers 5.24.0: A is right, B2 is x GA x devices, and the known bug that does it is named."""
    from ga_audit.repro import as_evidence

    plans = [
        planning.Plan("transformers", planning.plan_cells(tmp_path / name, (1, 4), (1, 2), 16), 16,
                    {"steps": 2, "measure-every": 1, "variant": name, "data-parallel": True}, name=name)
        for name in ("A", "B2")
    ]  # fmt: skip
    planning.run(*plans)
    right, wrong = (
        verdicts.judge([measurement.read_truth(c.out / "truth.json") for c in plan.cells]) for plan in plans
    )
    assert right.verdict == "healthy"
    assert (wrong.on_gradient.ga, wrong.on_gradient.world) == pytest.approx((1, 1), abs=0.02)
    assert any("not so many here" in note for note in wrong.notes)
    assert [bug.bug for bug in as_evidence._bugs(wrong, "B2")] == ["GA004"]
