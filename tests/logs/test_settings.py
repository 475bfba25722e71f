import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.logs.settings import (
    DATA_PARALLEL,
    from_columns,
    from_mapping,
    from_requirements,
    from_run_name,
    merge,
)
from ga_audit.run import RunSettings, Setting, Trust


def read(mapping, trust=Trust.RECORDED):
    return from_mapping(mapping, source="config", trust=trust)


@pytest.mark.parametrize(
    ("mapping", "ga"),
    [
        ({"gradient_accumulation_steps": 8}, 8),
        ({"gradient_accumulation_steps": {"value": "8"}}, 8),
        ({"accumulate_grad_batches": 4}, 4),
        ({"trainer": {"accumulate_grad_batches": 4}}, 4),
        ({"update_freq": [16]}, 16),
        ({"gradient_accumulation_steps": "auto"}, None),
        ({"gradient_accumulation_steps": True}, None),
        ({"gradient_accumulation_steps": 0}, None),
        ({"gradient_accumulation_steps": 2.5}, None),
        ({"global_batch_size": 64, "micro_batch_size": 2, "data_parallel_size": 4}, 8),
        ({"global_batch_size": 63, "micro_batch_size": 2, "data_parallel_size": 4}, None),
        ({"total_batch_size": 524288, "device_batch_size": 32, "max_seq_len": 2048, "world_size": 1}, 8),
        ({"lr": 1}, None),
    ],
)
def test_ga_in_the_words_of_trainers(mapping, ga):
    assert read(mapping).ga == ga


def test_a_derived_value_says_how():
    found = read({"total_batch_size": 524288, "device_batch_size": 32, "max_seq_len": 2048})
    assert (
        found.gradient_accumulation_steps.source
        == "derived: 524288 / (32 x 2048 x 1) from config, world size taken as 1"
    )


def test_top_level_goes_before_nested():
    assert read({"model": {"seed": 1}, "seed": 2}).seed.value == 2


def test_switches_and_packages():
    found = read({"deepspeed": None, "peft_config": {"default": {"r": 8}}, "transformers_version": "4.46.1"})
    assert found.other["deepspeed"].value is False
    assert found.other["lora"].value is True
    assert found.packages["transformers"].value == "4.46.1"
    assert read({"deepspeed": "ds.json"}).other["deepspeed"].value is True


def test_a_log_names_the_class_of_the_checkpoint_that_it_began_with():
    """The Trainer logs the model's configuration as it was loaded; what it saves with the model is the model's own."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "_name_or_path": "llama",
        "id2label": {"0": "a", "1": "b", "2": "c"},
    }
    logged, saved = read(config).other, read(config, Trust.SIBLING).other
    assert "architectures" not in logged
    assert logged["base_architectures"].value == saved["architectures"].value == ["LlamaForCausalLM"]
    assert "base_architectures" not in saved
    assert saved["num_labels"].value == 3
    assert "num_labels" not in read({"architectures": ["LlamaForCausalLM"]}).other
    parts = {"text_config": {"id2label": {"0": "a", "1": "b"}}, "vision_config": {"id2label": {"0": "a", "1": "b"}}}
    assert "num_labels" not in read({"architectures": ["CLIPForImageClassification"], **parts}, Trust.SIBLING).other
    assert read({**parts, "id2label": {str(i): "" for i in range(10)}}, Trust.SIBLING).other["num_labels"].value == 10


@pytest.mark.parametrize("value", [[3, 5], "three", float("nan"), float("inf"), 10**400, {}, "²", None])
def test_odd_values_are_no_settings(value):
    names = ("num_labels", "zero_stage", "label_smoothing_factor", "gradient_accumulation_steps", "learning_rate")
    found = read(dict.fromkeys(names, value))
    assert found.gradient_accumulation_steps is None
    assert "num_labels" not in found.other
    assert all(isinstance(s.value, int | float) for s in found.other.values())  # infinity is a number


def test_the_micro_batch_of_a_process_is_no_conflict_once_its_devices_are_known():
    def micro(value, per_process):
        return RunSettings(micro_batch_size=Setting(value, "test", Trust.RECORDED, per_process))

    logs = merge(micro(4, True), micro(2, False))
    assert logs.conflicts
    devices = RunSettings(other={DATA_PARALLEL: Setting(2, "training_args.bin", Trust.SIBLING)})
    whole = merge(logs, devices)
    assert not whole.conflicts
    assert whole.micro_batch_size.value == 2
    odd = merge(micro(5, True), devices)
    assert odd.micro_batch_size.value == 5  # what two devices cannot share was not split


def test_requirements():
    text = "transformers==4.46.1\nTorch==2.5.0+cu121\nnumpy==1.0\n- PyTorch 2.4.0\nliger_kernel==0.3.1\nnot a line\n"
    packages = from_requirements(text, source="requirements.txt", trust=Trust.RECORDED).packages
    assert {k: v.value for k, v in packages.items()} == {
        "transformers": "4.46.1", "torch": "2.4.0", "liger-kernel": "0.3.1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "ga", "batch"),
    [
        ("ga8", 8, None), ("run-bs1ga8", 8, 1), ("bsz4-grad_acc8", 8, 4), ("gas16", 16, None), ("grad_accum-4", 4, None),
        ("bs16-ga1-lr3", 1, 16), ("mega8", None, None), ("gamma2", None, None), ("yoga4", None, None), ("a100-8", None, None),
        ("lr1e-4", None, None), ("ga1-vs-ga8", None, None), ("llama-3.1-8b", None, None),
        ("best_acc_91", None, None), ("acc8", None, None), ("bs4_acc8", None, 4), ("accum8", 8, None),
    ],
)  # fmt: skip
def test_names_are_guesses_and_only_clear_ones(name, ga, batch):
    found = from_run_name(name)
    assert found.ga == ga
    assert (found.micro_batch_size.value if found.micro_batch_size else None) == batch
    assert ga is None or found.gradient_accumulation_steps.trust is Trust.GUESSED


def test_the_higher_trust_wins_whatever_the_order_and_the_conflict_is_kept():
    low, high = read({"gradient_accumulation_steps": 4}, Trust.SIBLING), read({"gradient_accumulation_steps": 8})
    for found in (merge(low, high), merge(high, low)):
        assert found.ga == 8
        ((name, believed, other),) = found.conflicts
        assert (name, believed.value.first, other.value.first) == ("gradient_accumulation_steps", 8, 4)


def test_what_agrees_is_no_conflict():
    assert merge(read({"seed": 1}), read({"seed": 1}, Trust.SIBLING)).conflicts == ()


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["gradient_accumulation_steps", "seed", "value", "deepspeed", "lr", "model", "x"]), inner, max_size=4),
    max_leaves=12,
).filter(lambda v: isinstance(v, dict)))  # fmt: skip
def test_any_configuration_is_read_or_passed_over(mapping):
    found = read(mapping)
    assert found.ga is None or found.ga >= 1


def test_what_a_loop_logs_beside_its_loss_is_its_setting():
    import numpy as np

    step, same = np.arange(1, 7), np.full(6, 4.0)
    found = from_columns(
        {
            "train/gradient_accumulation_steps": (step, np.array([2.0, 2, 2, 8, 8, 8])), "world_size": (step, same),
            "micro_batch_size": (step, np.array([1.0, 1, 1, 2, 2, 2])), "seed": (step, same), "lr": (step, same / 100),
        },
        source="table",
    )  # fmt: skip
    schedule = found.gradient_accumulation_steps
    assert (schedule.value.from_step.tolist(), schedule.value.value.tolist()) == ([0, 4], [2, 8])
    assert schedule.source == "table: column train/gradient_accumulation_steps"
    assert found.world_size.value == 4
    assert (found.micro_batch_size, found.seed) == (None, None)  # one that changes is none; others are not asked


def test_a_column_that_is_no_count_is_no_setting():
    import numpy as np

    for values in ([0.0, 0.0], [1.5, 1.5], [np.nan, 1.0], [1e300, 1e300], []):
        column = np.array(values)
        found = from_columns({"gradient_accumulation_steps": (np.arange(len(column)), column)}, source="table")
        assert found.gradient_accumulation_steps is None


def test_the_base_of_an_adapter_is_the_model():
    assert read({"base_model_name_or_path": "gpt2"}).model.value == "gpt2"
