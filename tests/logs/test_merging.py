"""What is one training; discovery's tests hold the rest, on real folders."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_run

from ga_audit.logs.discovery import find_runs
from ga_audit.logs.merging import joined
from ga_audit.output.wording.notes import note as words
from ga_audit.run import Note, Role, Source


def wandb(name, format_, path, loss, run_id="ab12cd34", **fields):
    run = make_run(name, ga=8, loss=loss, **fields)
    return replace(run, training=f"wandb:{run_id}", sources=(Source(format_, path),))


def names(pieces):
    return [run.name for run in joined(pieces, neighbours=lambda path: [])]


LOSS = [4.0 - i / 50 for i in range(20)]


def test_the_local_and_the_servers_log_of_one_id_are_one_run():
    pieces = [
        wandb("a", "wandb_file", "wandb/run-x-ab12cd34", LOSS),
        wandb("a", "wandb_cloud", "wandb://t/p/ab12cd34", LOSS),
    ]
    (run,) = joined(pieces, neighbours=lambda path: [])
    assert len(run.views(Role.LOSS)) == 2


def test_other_ids_and_parts_of_a_resumed_run_stay_apart():
    other = wandb("b", "wandb_cloud", "wandb://t/p/ef56ab78", LOSS, "ef56ab78")
    later = wandb("a", "wandb_file", "wandb/run-y-ab12cd34", LOSS, steps=range(21, 41))
    assert len(names([wandb("a", "wandb_file", "wandb/run-x-ab12cd34", LOSS), other, later])) == 3


def test_names_are_the_shortest_endings_that_differ():
    pieces = [make_run(str(i), loss=LOSS) for i in range(3)]
    paths = ("x/a/log.csv", "x/b/log.csv", "y/b/log.csv")
    pieces = [replace(r, name="log", sources=(Source("table", p),)) for r, p in zip(pieces, paths, strict=True)]
    assert names(pieces) == ["a/log", "x/b/log", "y/b/log"]


def in_one_folder(path, format_, loss, **fields):
    run = make_run("x", ga=8, loss=loss, **fields)
    return replace(run, sources=(Source(format_, f"out/{path}"),))


def numbered(run):
    return replace(run, notes=(Note("derived-step", "the lines hold no step"),))


@pytest.mark.parametrize(("every", "start"), [(1, 0), (5, 4), (5, 0), (10, 9)])
def test_console_lines_without_steps_are_a_view_of_the_log_whose_losses_they_print(every, start):
    state = in_one_folder("trainer_state.json", "trainer_state", LOSS, steps=range(10, 210, 10))
    printed = [round(x, 2) for x in LOSS[start::every]]
    console = numbered(in_one_folder("console.txt", "console", printed))
    (run,) = joined([console, state], neighbours=lambda path: [])
    first, second = run.views(Role.LOSS)
    assert second.position.tolist() == first.position[start::every].tolist()
    assert not run.notes


def test_console_lines_of_another_training_stay_a_run():
    state = in_one_folder("trainer_state.json", "trainer_state", LOSS)
    console = numbered(in_one_folder("console.txt", "console", [4.0, 3.0, 2.0, 1.5]))
    assert len(list(joined([console, state], neighbours=lambda path: []))) == 2


@pytest.mark.parametrize(("printed", "runs"), [([4.0], 1), ([4.001], 1), ([32.0], 2), ([3.5], 2)])
def test_of_one_or_two_points_the_values_must_agree(printed, runs):
    """A factor between two logs can be told from two trainings only by more."""
    state = in_one_folder("trainer_state.json", "trainer_state", [4.0])
    console = in_one_folder("console.txt", "console", printed)
    assert len(list(joined([console, state], neighbours=lambda path: []))) == runs


# --- settings of a run's own checkpoint, from files that real trainers wrote ------------------------------------------

SAMPLES = Path(__file__).parents[2] / "sample_logs" / "transformers-4.57.6"


def output(folder, **arguments):
    """An output folder; by place (`here` for the folder itself), the GA of the sample whose training_args.bin lies there."""
    for place, ga in arguments.items():
        where = folder if place == "here" else folder / place.replace("_", "-")
        where.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / f"ga{ga}" / "training_args.bin", where)


def state(folder, ga=8):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SAMPLES / f"ga{ga}" / "trainer_state.json", folder)


def only_run(folder):
    (run,) = find_runs([str(folder)])
    return run


@pytest.mark.parametrize("others", [{"checkpoint_10": 1}, {"here": 2}, {"here": 2, "checkpoint_10": 1}])
def test_the_settings_of_a_run_come_from_its_own_checkpoint(tmp_path, others):
    state(tmp_path / "checkpoint-40")
    output(tmp_path, checkpoint_40=8, **others)
    run = only_run(tmp_path)
    assert (run.settings.ga, run.settings.micro_batch_size.value) == (8, 2)
    assert not [n for n in run.notes if n.code == "checkpoints-differ"]


def test_without_one_they_come_from_its_folder_before_any_other_checkpoint(tmp_path):
    state(tmp_path)
    output(tmp_path, here=8, checkpoint_10=1, checkpoint_20=2)
    assert only_run(tmp_path).settings.ga == 8
    state(tmp_path / "other" / "checkpoint-40")
    output(tmp_path / "other", here=4, checkpoint_10=1)
    assert only_run(tmp_path / "other").settings.ga == 4


def test_of_other_checkpoints_only_what_all_agree_on_is_taken(tmp_path):
    state(tmp_path)
    output(tmp_path, checkpoint_10=4, checkpoint_20=4)
    run = only_run(tmp_path)
    assert run.settings.ga == 4
    assert not [n for n in run.notes if n.code == "checkpoints-differ"]


def test_where_other_checkpoints_differ_the_setting_is_unknown_and_the_files_are_named(tmp_path):
    state(tmp_path)
    output(tmp_path, checkpoint_10=1, checkpoint_20=4)
    run = only_run(tmp_path)
    assert run.settings.gradient_accumulation_steps is None
    assert run.settings.seed.value == 42  # in which they agree
    (note,) = (n for n in run.notes if n.code == "checkpoints-differ")
    said = "gradient_accumulation_steps (1 in checkpoint-10/training_args.bin, 4 in checkpoint-20/training_args.bin)"
    assert words(note).startswith(f"not taken from checkpoints that differ: {said}")


def test_other_settings_files_of_another_checkpoint_are_no_more_believed(tmp_path):
    state(tmp_path / "checkpoint-40")
    output(tmp_path, checkpoint_40=8)
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "args.yaml").write_text("gradient_accumulation_steps: 2\nlearning_rate: 0.5\n")
    run = only_run(tmp_path)
    assert run.settings.ga == 8
    assert run.settings.learning_rate.value != 0.5
    assert [name for name, _, _ in run.settings.conflicts] == ["num_train_epochs"]  # of its own two files


# --- several trainings in one folder, one training in several places -------------------------------------------------


def trainer_state(folder, losses, first=1):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"step": first + i, "loss": loss, "grad_norm": 1.0} for i, loss in enumerate(losses)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": rows, "global_step": first + len(rows)}))


def test_checkpoints_of_one_training_are_one_run(tmp_path):
    trainer_state(tmp_path / "out" / "checkpoint-5", LOSS[:5])
    trainer_state(tmp_path / "out" / "checkpoint-10", LOSS[:10])
    trainer_state(tmp_path / "out" / "last-checkpoint", LOSS)
    (run,) = find_runs([str(tmp_path)])
    assert len(run.get(Role.LOSS)) == 20


def test_checkpoints_of_several_trainings_are_several_runs(tmp_path):
    trainer_state(tmp_path / "out" / "checkpoint-10", LOSS[:10])
    trainer_state(tmp_path / "out" / "checkpoint-20", [8 * x for x in LOSS])
    found = {run.name: len(run.get(Role.LOSS)) for run in find_runs([str(tmp_path)])}
    assert found == {"checkpoint-10": 10, "checkpoint-20": 20}


def test_a_shared_configuration_is_of_no_training_in_particular(tmp_path):
    trainer_state(tmp_path / "out" / "checkpoint-10", LOSS[:10])
    trainer_state(tmp_path / "out" / "checkpoint-20", [8 * x for x in LOSS])
    output(tmp_path / "out", here=8, checkpoint_20=2)
    assert {run.name: run.settings.ga for run in find_runs([str(tmp_path)])} == {
        "checkpoint-10": None,
        "checkpoint-20": 2,
    }


def test_equal_numbers_in_two_places_are_one_training():
    state = replace(make_run("x", ga=8, loss=LOSS), sources=(Source("trainer_state", "outputs/trainer_state.json"),))
    logged = wandb("w", "wandb_file", "wandb/run-20260101_000000-ab12cd34/run-ab12cd34.wandb", LOSS)
    (run,) = joined([logged, state], neighbours=lambda path: [])
    assert {s.format for s in run.sources} == {"trainer_state", "wandb_file"}
    other = replace(logged, series=make_run("w", loss=[x + 0.01 for x in LOSS]).series)
    assert len(list(joined([other, state], neighbours=lambda path: []))) == 2
    twice = replace(make_run("y", ga=1, loss=LOSS), sources=state.sources)
    assert len(list(joined([logged, twice], neighbours=lambda path: []))) == 2
    # a correct trainer logs the same at every GA: where one is unknown, or in another project, they stay apart
    unknown = replace(make_run("z", loss=LOSS), sources=state.sources)
    assert len(list(joined([logged, unknown], neighbours=lambda path: []))) == 2
    elsewhere = replace(state, sources=(Source("trainer_state", "/other/outputs/trainer_state.json"),))
    assert len(list(joined([logged, elsewhere], neighbours=lambda path: []))) == 2


def test_a_copy_of_a_wandb_run_is_named_and_not_counted():
    whole = wandb("a", "wandb_file", "wandb/run-20260101_000000-ab12cd34", LOSS)
    copy = wandb("a", "wandb_file", "wandb/latest-run", LOSS[:12])
    for pieces in ([whole, copy], [copy, whole]):
        (run,) = joined(pieces, neighbours=lambda path: [])
        assert len(run.get(Role.LOSS)) == 20
        assert [(n.code, n.where) for n in run.notes] == [("copy", "wandb/latest-run")]


def test_the_configuration_of_a_wandb_run_is_of_that_run_alone(tmp_path):
    files = tmp_path / "wandb" / "run-20260101_000000-ab12cd34" / "files"
    files.mkdir(parents=True)
    filler = "".join(f"key{i}:\n  value: {'x' * 90}\n" for i in range(1000))
    (files / "config.yaml").write_text(f"{filler}gradient_accumulation_steps:\n  value: 8\n")
    (files / "wandb-summary.json").write_text('{"train/loss": 2.0, "_step": 9}')
    (files / "output.log").write_text("".join(f"{{'loss': {x}, 'epoch': {i / 20}}}\n" for i, x in enumerate(LOSS)))
    trainer_state(tmp_path, [2 * x for x in LOSS])
    found = {run.sources[0].format: run.settings.ga for run in find_runs([str(tmp_path)])}
    assert found == {"console": 8, "trainer_state": None}
