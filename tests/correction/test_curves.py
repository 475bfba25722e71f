import dataclasses
from pathlib import Path

import numpy as np
import pytest
from factories import make_run, make_series, twins

import ga_audit
from ga_audit import pipeline
from ga_audit.correction.curves import corrected_run, plan, plans, table
from ga_audit.finding import SUMMED_GA, SUMMED_GA_WORLD, Hypothesis
from ga_audit.run import Role, Schedule, Setting, Trust

GOLDEN = Path(__file__).parents[1] / "golden"


def diagnosis_of(runs):
    return next(iter(pipeline.diagnose(runs)))


def test_the_public_function_corrects_and_leaves_healthy_runs_as_they_are():
    runs = twins(1, 0)
    one, eight = ga_audit.correct(runs, diagnosis_of(runs))
    assert one is runs[0]
    assert eight.get(Role.LOSS).value == pytest.approx(runs[1].get(Role.LOSS).value / 8)
    assert eight.get(Role.GRAD_NORM).value == pytest.approx(runs[1].get(Role.GRAD_NORM).value)
    assert eight.corrected_by


def test_healthy_runs_have_no_plan():
    assert plans(diagnosis_of(twins(0))) == []


def test_a_change_of_ga_in_mid_run_is_corrected_by_segments():
    run = make_run("a", ga=2, loss=[2.0, 2.0, 8.0, 8.0])
    schedule = Setting(Schedule(np.array([0, 3]), np.array([2, 8])), "test", Trust.RECORDED)
    run = dataclasses.replace(run, settings=dataclasses.replace(run.settings, gradient_accumulation_steps=schedule))
    made = plan(run, {Role.LOSS: SUMMED_GA}, "test")
    assert corrected_run(made).get(Role.LOSS).value.tolist() == [1, 1, 1, 1]


def test_what_follows_from_the_loss_is_corrected_and_nothing_else():
    run = make_run("a", ga=2, loss=[2.0, 4.0], eval_loss=[1.0], eval_steps=[2], series=[
        make_series(Role.PERPLEXITY, np.exp([2.0, 4.0])), make_series(Role.SUMMARY_LOSS, [3.0]),
        make_series(Role.LEARNING_RATE, [0.1, 0.1]),
    ])  # fmt: skip
    fixed = corrected_run(plan(run, {Role.LOSS: SUMMED_GA}, "test"))
    assert fixed.get(Role.LOSS).value.tolist() == [1, 2]
    assert fixed.get(Role.PERPLEXITY).value == pytest.approx(np.exp([1.0, 2.0]))
    assert fixed.get(Role.SUMMARY_LOSS).value.tolist() == [1.5]
    assert fixed.get(Role.EVAL_LOSS).value.tolist() == [1.0]
    assert fixed.get(Role.LEARNING_RATE).value.tolist() == [0.1, 0.1]


def test_world_size_and_negative_exponents():
    run = make_run("a", ga=4, world_size=2, loss=[8.0])
    assert corrected_run(plan(run, {Role.LOSS: SUMMED_GA_WORLD}, "t")).get(Role.LOSS).value.tolist() == [1.0]
    assert corrected_run(plan(run, {Role.LOSS: Hypothesis("d", -2, 0)}, "t")).get(Role.LOSS).value.tolist() == [128.0]


def test_ga_that_is_not_known_is_asked_for():
    with pytest.raises(ga_audit.AuditError, match="unknown"):
        plan(make_run("a", loss=[1.0]), {Role.LOSS: SUMMED_GA}, "t")


def test_nan_stays_nan_and_the_table_says_the_factor():
    run = make_run("a", ga=8, loss=[8.0, float("nan"), 4.0])
    made = plan(run, {Role.LOSS: SUMMED_GA}, "t")
    assert np.isnan(corrected_run(made).get(Role.LOSS).value[1])
    (row,) = table(made)
    assert row["factor"] == [8.0]
    assert (row["first_logged"], row["first_corrected"]) == (8.0, 1.0)


@pytest.mark.parametrize("every", [1, 4])
def test_the_last_steps_of_epochs_have_their_own_factor(every):
    logs = GOLDEN / "short-epochs"
    (one,), _ = pipeline.read_runs([str(logs / f"4.48.0-every{every}-ga1.json")])
    (eight,), _ = pipeline.read_runs([str(logs / f"4.48.0-every{every}-ga8.json")], pipeline.Options(ga={"*": 8}))
    fixed = corrected_run(plan(eight, {Role.LOSS: SUMMED_GA, Role.GRAD_NORM: SUMMED_GA}, "test"))
    steps = len(fixed.get(Role.LOSS))
    assert fixed.get(Role.LOSS).value == pytest.approx(one.get(Role.LOSS).value[:steps], rel=0.02)
    # the norm is that of the last step of a window, the summary a mean over all 18 steps, of which two took 2 of 8
    assert fixed.get(Role.GRAD_NORM).value == pytest.approx(one.get(Role.GRAD_NORM).value[:steps], rel=0.06)
    factor = eight.get(Role.SUMMARY_LOSS).value[0] / fixed.get(Role.SUMMARY_LOSS).value[0]
    assert factor == pytest.approx((16 * 8 + 2 * 2) / 18)


def test_a_healthy_trainer_with_short_steps_is_divided_by_nothing():
    logs = GOLDEN / "short-epochs"
    options = pipeline.Options(ga={"*ga1": 1, "*ga8": 8})
    runs, _ = pipeline.read_runs([str(logs / f"4.57.6-every1-ga{ga}.json") for ga in (1, 8)], options)
    assert plans(diagnosis_of(runs)) == []


def test_without_a_dip_every_step_has_the_same_factor():
    # the counter says that epochs end in a short step, the loss does not show it: nothing is guessed
    (run,), _ = pipeline.read_runs([str(GOLDEN / "short-epochs/4.57.6-every1-ga8.json")], pipeline.Options(ga={"*": 8}))
    fixed = corrected_run(plan(run, {Role.LOSS: SUMMED_GA}, "test"))
    assert run.get(Role.LOSS).value / fixed.get(Role.LOSS).value == pytest.approx(8)


def test_on_a_buggy_release_the_corrected_curves_lie_on_that_of_ga_1():
    runs, _ = pipeline.read_runs([str(Path(__file__).parents[2] / "sample_logs/transformers-4.48.0")])
    fixed = {run.name: run.get(Role.LOSS).value for run in ga_audit.correct(runs, diagnosis_of(runs))}
    for name in ("ga2", "ga4", "ga8"):
        # what is left is not the scale: 4.48.0 weighs micro-batches, not tokens, equally
        assert np.max(np.abs(fixed[name] / fixed["ga1"] - 1)) < 0.005
