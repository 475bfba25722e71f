"""Which files become which runs."""

import json
import os
import shutil
from pathlib import Path

import pytest

from ga_audit.discovery import find_runs
from ga_audit.joining import _short_labels
from ga_audit.run import ReadFailure, Role


def state(path: Path, losses, *, last=None, extra=None) -> Path:
    """A trainer_state.json as the Trainer writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"epoch": i / 10, "grad_norm": 1.0 + i / 7, "learning_rate": 1e-3 / (i + 1), "loss": v, "step": i + 1}
        for i, v in enumerate(losses)
    ]
    content = {
        "log_history": rows,
        "global_step": len(rows),
        "logging_steps": 1,
        "train_batch_size": 2,
        **(extra or {}),
    }
    path.write_text(json.dumps(content))
    return path


def found(*targets, **options):
    items = list(find_runs([str(t) for t in targets], **options))
    return [i for i in items if not isinstance(i, ReadFailure)], [i for i in items if isinstance(i, ReadFailure)]


LOSSES = [4.0, 3.5, 3.2, 3.0, 2.9]


def test_a_tree_gives_one_run_for_each_training(tmp_path):
    for name in ("ga1", "ga8"):
        state(tmp_path / name / "trainer_state.json", LOSSES)
    runs, failures = found(tmp_path)
    assert [run.name for run in runs] == ["ga1", "ga8"]
    assert not failures
    assert [run.settings.ga for run in runs] == [1, 8]  # from the name, and said so
    assert all(any(n.code == "ga-from-name" for n in run.notes) for run in runs)


def test_of_checkpoints_the_newest_is_the_run(tmp_path):
    for step in (2, 5, 3):
        state(tmp_path / f"out/checkpoint-{step}/trainer_state.json", LOSSES[:step])
    runs, _ = found(tmp_path)
    assert [run.name for run in runs] == ["out"]
    assert len(runs[0].get(Role.LOSS)) == 5


def test_checkpoints_10_and_9_are_compared_as_numbers(tmp_path):
    state(tmp_path / "out/checkpoint-9/trainer_state.json", LOSSES * 2 + LOSSES[:-1])
    state(tmp_path / "out/checkpoint-10/trainer_state.json", LOSSES * 3)
    runs, _ = found(tmp_path)
    assert len(runs) == 1
    assert len(runs[0].get(Role.LOSS)) == 15


def test_settings_beside_the_log_are_found_for_a_file_and_for_a_tree(tmp_path):
    log = state(tmp_path / "run" / "trainer_state.json", LOSSES)
    (tmp_path / "run" / "README.md").write_text(
        "---\nlibrary_name: transformers\n---\n### Training hyperparameters\n\nThe following hyperparameters were used"
        " during training:\n- learning_rate: 0.001\n- train_batch_size: 2\n- seed: 42\n"
        "- gradient_accumulation_steps: 4\n- total_train_batch_size: 8\n\n### Framework versions\n\n"
        "- Transformers 4.46.1\n- Pytorch 2.5.0\n"
    )
    for target in (log, tmp_path):
        runs, failures = found(target)
        assert not failures
        assert [run.settings.ga for run in runs] == [4]
        assert runs[0].settings.packages["transformers"].value == "4.46.1"


def test_views_of_one_training_are_one_run(tmp_path):
    state(tmp_path / "run" / "trainer_state.json", LOSSES)
    rows = [
        {"current_steps": i + 1, "total_steps": 5, "loss": v, "lr": 1e-3 / (i + 1), "epoch": i / 10}
        for i, v in enumerate(LOSSES)
    ]
    (tmp_path / "run" / "trainer_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs, _ = found(tmp_path)
    assert len(runs) == 1
    assert {s.sink for s in runs[0].views(Role.LOSS)} == {"trainer_state", "table"}


def test_free_named_files_side_by_side_are_runs_of_their_own(tmp_path):
    rows = [{"step": i + 1, "loss": v} for i, v in enumerate(LOSSES)]
    (tmp_path / "ga1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "ga8.csv").write_text("step,loss\n" + "".join(f"{r['step']},{8 * r['loss']}\n" for r in rows))
    runs, _ = found(tmp_path)
    assert sorted(run.name for run in runs) == ["ga1", "ga8"]


def test_one_broken_log_does_not_stop_the_others(tmp_path):
    state(tmp_path / "good" / "trainer_state.json", LOSSES)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "trainer_state.json").write_text('{"log_history": [{"loss": 1.0, "st')
    runs, failures = found(tmp_path)
    assert [run.name for run in runs] == ["good"]
    assert len(failures) == 1
    assert "bad" in str(failures[0].error)
    assert failures[0].error.remedy


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"hello\n", b"version https://git-lfs.github.com/spec/v1\noid x\n"]
)
def test_a_file_of_no_use_is_an_error_with_place_and_remedy(tmp_path, content):
    path = tmp_path / "thing.bin"
    path.write_bytes(content)
    runs, failures = found(path)
    assert not runs
    assert len(failures) == 1
    assert failures[0].error.remedy
    assert "thing.bin" in str(failures[0].error)


def test_missing_path_and_empty_tree(tmp_path):
    (tmp_path / "empty").mkdir()
    runs, failures = found(tmp_path / "nowhere", tmp_path / "empty")
    assert not runs
    assert [type(f.error).__name__ for f in failures] == ["UnreadableLog", "UnreadableLog"]


def test_a_link_that_goes_round_in_circles_ends(tmp_path):
    state(tmp_path / "run" / "trainer_state.json", LOSSES)
    os.symlink(tmp_path, tmp_path / "run" / "loop")
    runs, _ = found(tmp_path)
    assert len(runs) == 1


def test_names_are_unique_and_short(tmp_path):
    for top in ("a", "b"):
        state(tmp_path / top / "out" / "trainer_state.json", LOSSES)
    runs, _ = found(tmp_path)
    assert [run.name for run in runs] == ["a/out", "b/out"]
    assert len({run.id for run in runs}) == 2


def test_runs_that_share_a_path_are_numbered_and_do_not_carry_the_whole_of_it():
    assert _short_labels([("tmp", "x", "out"), ("tmp", "x", "out"), ("tmp", "y", "out2")]) == ["out", "out", "out2"]
    assert _short_labels([("tmp", "x", "out"), ("tmp", "y", "out")]) == ["x/out", "y/out"]


def test_a_config_beside_an_adapter_is_the_base_models_and_tells_no_release(tmp_path):
    state(tmp_path / "trainer_state.json", LOSSES)
    config = {"architectures": ["Qwen2ForCausalLM"], "vocab_size": 151936, "transformers_version": "4.43.1"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (alone,), _ = found(tmp_path)
    assert alone.settings.packages["transformers"].value == "4.43.1"
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM"}))
    (copied,), _ = found(tmp_path)
    assert "transformers" not in copied.settings.packages
    assert copied.settings.vocab_size.value == 151936
    assert copied.settings.other["task_type"].value == "CAUSAL_LM"


def test_standard_input(monkeypatch):
    import io
    import sys

    class Fake:
        buffer = io.BytesIO(b"{'loss': 7.9071, 'grad_norm': 6.2117, 'learning_rate': 1e-05, 'epoch': 0.1}\n")

    monkeypatch.setattr(sys, "stdin", Fake)
    runs, failures = found("-")
    assert not failures
    assert runs[0].get(Role.LOSS).value.tolist() == [7.9071]
    assert runs[0].get(Role.GRAD_NORM).value.tolist() == [6.2117]


def test_a_file_beside_a_log_that_is_none_is_no_failure(tmp_path):
    (tmp_path / "run.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.9}\n')
    (tmp_path / "notes.txt").write_text("nothing to see\n")
    found = list(find_runs([str(tmp_path)]))
    assert [type(piece).__name__ for piece in found] == ["Run"]


def test_outputs_in_a_folder_that_is_called_runs_keep_their_own_settings(tmp_path):
    """`runs/` is also the Trainer's folder of TensorBoard logs inside an output folder."""
    top = Path(__file__).parents[1] / "sample_logs"
    shutil.copytree(top / "transformers-4.48.0", tmp_path / "runs")
    shutil.copytree(top / "tensorboard-4.48.0/ga8/runs/sample", tmp_path / "runs/ga8/runs/Nov24_10-00-00_host")
    runs = list(find_runs([str(tmp_path / "runs")]))
    assert sorted((run.name, run.settings.ga) for run in runs) == [("ga1", 1), ("ga2", 2), ("ga4", 4), ("ga8", 8)]
    assert {len(run.sources) for run in runs} == {1, 2}
    # and where the events lie beside the state
    shutil.copy(next((tmp_path / "runs/ga8/runs/Nov24_10-00-00_host").iterdir()), tmp_path / "runs/ga8")
    shutil.rmtree(tmp_path / "runs/ga8/runs")
    assert len(list(find_runs([str(tmp_path / "runs")]))) == 4
