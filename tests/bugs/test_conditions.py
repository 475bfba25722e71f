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


def _run(world, devices=None):
    return make_run("r", ga=1, world_size=world, other={} if devices is None else {"data_parallel": devices})


@pytest.mark.parametrize(("devices", "settled"), [(2, True), (1, False), (None, None)])
def test_ranks_are_devices_only_where_a_log_says_so(devices, settled):
    runs = [_run(2, devices)]
    assert conditions.condition("data_parallel", True, runs) is settled
    assert conditions.condition("data_parallel", False, runs) is (not settled)
    assert conditions.condition("data_parallel", True, [_run(1)]) is False
