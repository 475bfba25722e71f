"""Logs as people have them (`tests/golden/cases`), and how they are to be read."""

from pathlib import Path

import pytest

from ga_audit import read_runs
from ga_audit.diagnosis import Verdict
from ga_audit.pipeline import audit
from ga_audit.run import Counted, Role

CASES = Path(__file__).parents[1] / "golden" / "cases"


def run_of(case, file, **options):
    (run,), failures = read_runs(CASES / case / file, **options)
    assert not failures
    return run


def verdict(case, *files, **options):
    (diagnosis,) = audit(*(CASES / case / file for file in files), **options).diagnoses
    return diagnosis.verdict


@pytest.mark.parametrize("case", ["unknown-step-key", "one-row-without-step"])
def test_values_of_one_row_stay_together(case):
    run = run_of(case, "train.jsonl", ga=8)
    for role, positions in (
        (Role.LOSS, list(range(100, 5001, 100))),
        (Role.TOKEN_ACCURACY, list(range(100, 5001, 100))),
        (Role.EVAL_LOSS, list(range(2500, 5001, 500))),
    ):
        series = run.get(role)
        assert (series.position.tolist(), series.counted, series.derived) == (
            positions,
            Counted.OPTIMIZER_STEP,
            False,
        )
    assert verdict(case, "train.jsonl", ga=8) is Verdict.HEALTHY


def test_the_row_without_a_step_is_counted():
    (note,) = run_of("one-row-without-step", "train.jsonl", ga=8).notes
    assert (note.code, note.count) == ("no-step", 1)


def test_a_restarting_counter_is_made_cumulative():
    loss = run_of("iter-restarts-in-json", "train.log.json").get(Role.LOSS)
    assert len(loss) == 30
    assert (loss.position[0], loss.position[10], loss.counted, loss.derived) == (20, 130, Counted.MICRO_BATCH, True)


def test_the_raw_norm_wins_over_the_clipped_one():
    run = run_of("clipped-and-raw-norm", "metrics.jsonl")
    assert run.get(Role.LOSS).name == "learning/loss"
    assert run.get(Role.GRAD_NORM).name == "learning/raw_grad_norm"


def test_a_part_of_the_loss_is_held_against_its_own_evaluation():
    run = run_of("losses-by-name", "results.csv", ga=4, loss_key="train/seg_loss")
    names = {role: [s.name for s in run.views(role)] for role in (Role.LOSS, Role.EVAL_LOSS)}
    assert names == {Role.LOSS: ["train/seg_loss"], Role.EVAL_LOSS: ["val/seg_loss"]}
    assert run.get(Role.LOSS).counted is Counted.EPOCH


def test_two_trainings_of_one_tensorboard_folder_are_two_runs():
    case = CASES / "two-trainings-one-tensorboard-folder"
    (diagnosis,) = audit(case).diagnoses
    runs = diagnosis.runs
    assert [(r.name, r.settings.ga, len(r.get(Role.LOSS))) for r in runs] == [
        (f"{case.name} (run 1)", 1, 40),
        (f"{case.name} (run 2)", 8, 40),
    ]
    assert diagnosis.verdict is Verdict.SCALED


def test_train_and_valid_folders_are_one_run():
    case = CASES / "train-and-valid-folders"
    (diagnosis,) = audit(case, ga={"ga1*": 1, "ga8*": 8}).diagnoses
    assert [r.name for r in diagnosis.runs] == ["ga1", "ga8"]
    for run in diagnosis.runs:
        assert [len(s) for s in run.series] == [100, 10]
        assert run.get(Role.EVAL_LOSS).source.endswith("valid")
    assert diagnosis.verdict is Verdict.SCALED


def test_columns_of_equal_length_are_rows():
    run = run_of("keras-history", "history.json", ga=2)
    loss, held_out = run.get(Role.LOSS), run.get(Role.EVAL_LOSS)
    assert (loss.position.tolist(), loss.counted) == ([1, 2, 3, 4, 5], Counted.ORDER)
    assert (loss.value[0], held_out.value[-1]) == (0.6911, 0.6661)


def test_an_accuracy_in_a_name_is_no_ga():
    assert run_of("accuracy-in-the-name", "best_acc_91.csv").settings.ga is None
