import json
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ga_audit import pipeline
from ga_audit.errors import AuditError
from ga_audit.logs.formats import Target, training_args

SAMPLE = Path(__file__).parents[3] / "sample_logs/transformers-4.48.0/ga8/training_args.bin"


def test_a_real_file():
    (run,) = training_args.read(Target(str(SAMPLE)))
    s = run.settings
    assert (s.ga, s.micro_batch_size.value, s.seed.value, s.max_grad_norm.value) == (8, 2, 42, 1.0)
    assert s.optimizer.value == "adamw_torch"
    assert s.gradient_accumulation_steps.source == "training_args.bin: gradient_accumulation_steps"
    assert not run.series


@pytest.mark.parametrize(("fields", "world"), [
    ({"_n_gpu": 2, "num_processes": 1}, 2), ({"_n_gpu": 1, "num_processes": 1}, 1), ({"_n_gpu": 1, "num_processes": 4}, 4),
    ({"_n_gpu": 0, "num_processes": 1}, 1), ({"_n_gpu": 2, "num_processes": 2}, 2), ({"_n_gpu": True}, 1),
])  # fmt: skip
def test_the_devices_of_one_process_are_its_ranks(tmp_path, fields, world):
    """Without a launcher the Trainer splits each batch over all GPUs that it sees."""
    file = tmp_path / "training_args.bin"
    file.write_bytes(pickle.dumps({"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4, **fields}))
    rows = [{"step": s, "loss": 2 / s, "epoch": s / 10} for s in range(1, 9)]
    state = {
        "log_history": rows,
        "train_batch_size": 16 * (world if fields.get("num_processes") == 1 else 1),
        "global_step": 8,
    }
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    ((run,), _) = pipeline.read_runs([str(tmp_path)])
    assert (run.settings.world_size.value if run.settings.world_size else 1) == world
    assert run.settings.micro_batch_size.value == 16  # the state has that of the process
    assert run.settings.ga == 4
    assert not run.settings.conflicts


def test_nothing_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    found = training_args.arguments(pickle.dumps({"evil": Evil(), "gradient_accumulation_steps": 4}), "x")
    assert found["gradient_accumulation_steps"] == 4
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(protocol):
    fields = {"gradient_accumulation_steps": 8, "learning_rate": 1e-3, "deepspeed": None, "bf16": True, "seed": 300}
    assert training_args.arguments(pickle.dumps(fields, protocol), "x").items() >= (
        {k: v for k, v in fields.items() if protocol > 1 or not isinstance(v, bool)}.items()
    )


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400) | st.integers(0, 5000).map(lambda n: SAMPLE.read_bytes()[:n]))
def test_any_bytes_are_an_error_or_fields(data):
    try:
        assert isinstance(training_args.arguments(data, "x"), dict)
    except AuditError as error:
        assert error.where == "x"
        assert "--ga" in error.remedy or "git lfs" in error.remedy
