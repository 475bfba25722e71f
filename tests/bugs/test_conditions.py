"""What the logs answer to the conditions of known bugs."""

import pytest
from factories import make_run

from ga_audit.bugs import conditions


def test_what_wraps_or_replaces_a_stock_model_is_not_guessed():
    def kind(model, release="4.48.0", **other):
        return conditions._loss_arguments(
            make_run("r", packages={"transformers": release}, other={"architectures": [model], **other})
        )

    assert kind("LlamaForCausalLM") == "uses"
    assert kind("LlamaForCausalLM", architectures=None, base_architectures=["LlamaForCausalLM"]) is None
    assert kind("MyForCausalLM") is None
    assert kind("LlamaForCausalLM", lora=True) is None
    assert kind("LlamaForCausalLM", liger=True) is None


@pytest.mark.parametrize(("recorded", "wanted", "holds"), [
    ("GKDTrainer", conditions.TrainerKind.GKD, True),
    ("SFTTrainer", conditions.TrainerKind.GKD, False),
    ("stock", conditions.TrainerKind.GKD, False),
    (None, conditions.TrainerKind.GKD, None),
    ("stock", conditions.TrainerKind.MEAN_LOSS, False),
    ("SFTTrainer", conditions.TrainerKind.MEAN_LOSS, None),
    ("SFTTrainer", conditions.TrainerKind.STOCK, None),
])  # fmt: skip
def test_a_trainer_is_known_by_the_name_of_its_class(recorded, wanted, holds):
    run = make_run("r", other={} if recorded is None else {"trainer": recorded})
    assert conditions.condition("trainer", wanted, [run]) is holds


def _run(world, devices=None):
    return make_run("r", ga=1, world_size=world, other={} if devices is None else {"data_parallel": devices})


@pytest.mark.parametrize(("devices", "settled"), [(2, True), (1, False), (None, None)])
def test_ranks_are_devices_only_where_a_log_says_so(devices, settled):
    runs = [_run(2, devices)]
    assert conditions.condition("data_parallel", True, runs) is settled
    assert conditions.condition("data_parallel", False, runs) is (not settled)
    assert conditions.condition("data_parallel", True, [_run(1)]) is False
