"""DeepSpeed under the Trainer: where a parameter's gradient lies in ZeRO's partitions, and the truth of a training."""

import importlib
import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ga_audit.repro import engine, measurement
from ga_audit.repro import plan as planning
from ga_audit.repro import verdict as verdicts

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed"),
]
live = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")


@pytest.fixture
def helper(monkeypatch):
    """The script's helper, as the script imports it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(engine.SCRIPTS))
    yield importlib.import_module("_deepspeed")
    for name in {"_deepspeed", "_measure", "_task"} - before:
        sys.modules.pop(name, None)


def test_every_deepspeed_variant_is_another_one_under_zero():
    stock = engine.engines()["transformers"]
    ours = {name: name.partition("-deepspeed")[0] for name in stock.variants if "deepspeed" in name}
    assert set(ours) == {"A-deepspeed", "A-deepspeed-zero1", "B-deepspeed", "D-deepspeed"}
    assert set(ours.values()) <= set(stock.variants)
    assert {name for name, need in stock.variant_needs.items() if need == "deepspeed"} == set(ours)


def test_the_settings_leave_every_number_to_the_trainer(helper):
    found = helper.settings(1)
    assert found["zero_optimization"] == {"stage": 1}
    assert found["gradient_accumulation_steps"] == found["gradient_clipping"] == found["train_batch_size"] == "auto"


def test_parts_of_ranks_and_groups_become_one_gradient_in_the_order_of_the_parameters(helper, monkeypatch):
    """Two groups over two ranks; within a group in another order than the model's, padded; one parameter frozen."""
    import torch

    model = torch.nn.ParameterList([torch.zeros(2, 3), torch.zeros(4), torch.zeros(5), torch.zeros(2)])
    first, second = torch.zeros(14), torch.zeros(8)
    for number, flat, start in ((1, first, 0), (0, first, 6), (3, second, 3)):
        size = model[number].numel()
        model[number].data = flat[start : start + size].view(model[number].shape)
    places = [helper._places(flat, model) for flat in (first, second)]
    assert places == [[6, 0, None, None], [None, None, None, 3]]
    parts = [[torch.arange(7.0), torch.arange(7.0, 14)], [torch.arange(100.0, 104), torch.arange(104.0, 108)]]

    def gathered(into, part, group):
        for target, source in zip(into, parts[group], strict=True):
            target.copy_(source)

    monkeypatch.setattr(torch.distributed, "all_gather", gathered)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: 2)
    optimizer = SimpleNamespace(real_dp_process_group=[0, 1])
    whole = helper._whole(optimizer, [part[0] for part in parts], places, model)
    assert whole.tolist() == [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 0, 0, 0, 0, 0, 103, 104]


@pytest.mark.parametrize(("more", "message"), [
    ([], "the variant A-deepspeed needs deepspeed: pip install deepspeed"),
    (["--dtype", "bfloat16"], "the variant A-deepspeed is measured in float32 only"),
])  # fmt: skip
def test_what_cannot_be_measured_is_said_in_one_line(tmp_path, more, message):
    there = importlib.util.find_spec("deepspeed") is not None
    if there != bool(more):
        pytest.skip("the other of the two can be said here")
    script = engine.engines()["transformers"].script
    command = [sys.executable, str(script), "--variant", "A-deepspeed", "--out", str(tmp_path), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == message


@live
def test_the_installed_deepspeed_hands_on_the_gradient_of_the_whole_batch(tmp_path):
    plans = [
        planning.Plan("transformers", planning.plan_cells(tmp_path / name, (1, 4), (1,), 16), 16,
                    {"steps": 3, "measure-every": 1, **option}, name=name)
        for name, option in engine.chosen("variant", "A-deepspeed")
    ]  # fmt: skip
    planning.run(*plans)
    for plan in plans:
        found = verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in plan.cells])
        assert found.verdict == "healthy"
        assert [cell.cosine for cell in found.cells] == pytest.approx([1, 1], abs=1e-3)
        assert found.gradient == pytest.approx(0, abs=1e-3)
        assert found.cells[1].held_out_loss is not None
        assert found.cells[1].clipped is not None
