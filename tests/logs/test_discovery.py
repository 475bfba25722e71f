"""Which files become which runs."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ga_audit.logs.discovery import find_runs
from ga_audit.logs.formats import Claim
from ga_audit.logs.run_names import _short_labels
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
    assert {s.format for s in runs[0].views(Role.LOSS)} == {"trainer_state", "table"}


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
    top = Path(__file__).parents[2] / "sample_logs"
    shutil.copytree(top / "transformers-4.48.0", tmp_path / "runs")
    shutil.copytree(top / "tensorboard-4.48.0/ga8/runs/sample", tmp_path / "runs/ga8/runs/Nov24_10-00-00_host")
    runs = list(find_runs([str(tmp_path / "runs")]))
    assert sorted((run.name, run.settings.ga) for run in runs) == [("ga1", 1), ("ga2", 2), ("ga4", 4), ("ga8", 8)]
    assert {len(run.sources) for run in runs} == {1, 2}
    # and where the events lie beside the state
    shutil.copy(next((tmp_path / "runs/ga8/runs/Nov24_10-00-00_host").iterdir()), tmp_path / "runs/ga8")
    shutil.rmtree(tmp_path / "runs/ga8/runs")
    assert len(list(find_runs([str(tmp_path / "runs")]))) == 4


# --- one bad file ends nothing ---------------------------------------------------------------------------------------


def good_and(tmp_path, name, content):
    state(tmp_path / "good" / "trainer_state.json", LOSSES)
    path = tmp_path / "bad" / name
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def judged(tmp_path):
    """(names of the runs, (file, message) of each failure) of a tree."""
    runs, failures = found(tmp_path)
    return [run.name for run in runs], [(f.source, f.error.message) for f in failures]


@pytest.mark.parametrize(
    "error", [KeyError("x"), MemoryError(), RecursionError(), TypeError("odd"), OSError(5, "I/O error")]
)
@pytest.mark.parametrize("step", ["claim", "read"])
def test_a_format_that_breaks_is_a_failure_and_the_rest_is_read(tmp_path, monkeypatch, error, step):
    from ga_audit.logs.formats import table

    bad = good_and(tmp_path, "a.jsonl", '{"step": 1, "loss": 2}\n')
    own = getattr(table, step)

    def broken(target):
        if target.path == str(bad):
            raise error
        return own(target)

    monkeypatch.setattr(table, "FORMAT", replace(table.FORMAT, **{step: broken}))
    names, failures = judged(tmp_path)
    assert names == ["good"]
    assert [source for source, _ in failures] == [str(bad)]
    runs, (failure,) = found(bad)
    assert (runs, failure.source) == ([], str(bad))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_failure(tmp_path, monkeypatch, kind):
    from ga_audit.logs.formats import table

    good_and(tmp_path, "a.jsonl", '{"step": 1, "loss": 2}\n')
    broken = replace(table.FORMAT, read=lambda target: (_ for _ in ()).throw(kind()))
    monkeypatch.setattr(table, "FORMAT", broken)
    with pytest.raises(kind):
        found(tmp_path)


def test_what_was_read_before_a_format_broke_is_kept(tmp_path, monkeypatch):
    from ga_audit.logs.formats import table

    bad = good_and(tmp_path, "a.jsonl", '{"step": 1, "loss": 2}\n')
    own = table.read

    def breaks_late(target):
        yield from own(target)
        raise ValueError("late")

    monkeypatch.setattr(table, "FORMAT", replace(table.FORMAT, read=breaks_late))
    names, failures = judged(tmp_path)
    assert names == ["a", "good"]
    assert failures == [(str(bad), "cannot be read as table: ValueError: late")]


def test_another_format_that_is_sure_reads_what_breaks_the_first(tmp_path, monkeypatch):
    from ga_audit.logs.formats import console

    def broken(target):
        if target.is_dir:
            return Claim.NO
        raise ValueError("odd")

    state(tmp_path / "good" / "trainer_state.json", LOSSES)
    monkeypatch.setattr(console, "FORMAT", replace(console.FORMAT, claim=broken))
    assert judged(tmp_path) == (["good"], [])


_AS_ANOTHER = """
import os, sys
from ga_audit import registry
from ga_audit.logs.discovery import find_runs
from ga_audit.run import ReadFailure
registry.load_all("ga_audit.logs.formats")  # another user may not be able to read these
list(find_runs([sys.argv[2]]))
os.setgid(65534); os.setuid(65534)
for item in find_runs([sys.argv[1]]):
    print(f"{item.source}: {item.error.message}" if isinstance(item, ReadFailure) else item.name)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_what_may_not_be_read():
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as top:  # pytest's own folder is closed to other users
        tree = Path(top)
        tree.chmod(0o755)
        state(tree / "good" / "trainer_state.json", LOSSES)
        locked = state(tree / "locked" / "trainer_state.json", LOSSES).parent
        unlisted = state(tree / "unlisted" / "trainer_state.json", LOSSES).parent
        file = state(tree / "file" / "trainer_state.json", LOSSES)
        events = tree / "events" / "events.out.tfevents.1"
        events.parent.mkdir()
        events.write_bytes(b"x" * 100)
        for path, mode in ((locked, 0o000), (unlisted, 0o744), (file, 0o000), (events, 0o000)):
            path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", _AS_ANOTHER, top, str(tree / "good")], capture_output=True, text=True
        )
        assert done.stderr == ""
        assert sorted(done.stdout.splitlines()) == sorted([
            f"{events}: permission denied",
            f"{file}: permission denied",
            "good",
            f"{locked}: permission denied",
            f"{unlisted / 'trainer_state.json'}: permission denied",
        ])  # fmt: skip


def test_an_unreadable_folder_is_a_failure_with_its_name(tmp_path, monkeypatch):
    state(tmp_path / "good" / "trainer_state.json", LOSSES)
    (tmp_path / "locked").mkdir()
    own = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return own(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert judged(tmp_path) == (["good"], [(str(tmp_path / "locked"), "permission denied")])


@pytest.mark.parametrize("name", ["trainer_state.json", "a.csv", "a.jsonl", "console.txt", "events.out.tfevents.1"])
@pytest.mark.parametrize("when", ["claimed", "read"])
def test_a_file_that_vanishes_is_a_failure(tmp_path, monkeypatch, name, when):
    from ga_audit.logs import discovery

    bad = good_and(tmp_path, name, "step,loss\n1,2\n" if name != "a.jsonl" else '{"step": 1, "loss": 2}\n')
    if when == "claimed":
        own = discovery._highest

        def highest(target):
            if target.path == str(bad):
                bad.unlink(missing_ok=True)
            return own(target)

        monkeypatch.setattr(discovery, "_highest", highest)
    progress = (lambda path: bad.unlink(missing_ok=True)) if when == "read" else None
    runs, failures = found(tmp_path, progress=progress)
    assert [run.name for run in runs] == ["good"]
    said = [(f.source, f.error.message) for f in failures]
    if name.startswith("events"):  # the folder is the log, and an empty one by then
        assert said.pop(0) == (str(bad.parent), "holds no scalar")
    assert said == ([] if name.startswith("events") and when == "read" else [(str(bad), "vanished while it was read")])


def test_pipes_are_never_opened_on_a_walk_and_refused_by_name(tmp_path):
    names = (
        "a.jsonl",
        "trainer_state.json",
        "events.out.tfevents.1",
        "run-x.wandb",
        "training_args.bin",
        "config.yaml",
    )
    log = good_and(tmp_path, "log.jsonl", '{"step": 1, "loss": 2}\n')
    for name in names:
        os.mkfifo(log.parent / name)
    assert judged(tmp_path) == (["log", "good"], [])
    assert [run.name for run in found(log)[0]] == ["log"]
    for name in (*(log.parent / name for name in names), "/dev/null"):
        runs, (failure,) = found(name)
        assert (runs, failure.error.message) == ([], "is a pipe, a socket or a device, and no file")


def test_the_pipe_of_a_shell_is_read_and_given_up_where_nothing_comes(monkeypatch):
    from ga_audit.logs import discovery

    reading, writing = os.pipe()
    os.write(writing, b'{"step": 1, "loss": 2}\n{"step": 2, "loss": 1.5}\n')
    os.close(writing)
    (run,), failures = found(f"/dev/fd/{reading}")
    os.close(reading)
    assert (len(run.get(Role.LOSS)), failures) == (2, [])
    monkeypatch.setattr(discovery, "_PIPE_WAIT", 0.1)
    reading, writing = os.pipe()
    _, (failure,) = found(f"/dev/fd/{reading}")
    assert failure.error.message == "nothing came through this pipe for 0.1 s"
    os.close(reading)
    os.close(writing)


def test_one_text_is_one_target(tmp_path):
    log = state(tmp_path / "good" / "trainer_state.json", LOSSES)
    (run,) = find_runs(str(log))
    assert run.name == "good"
