import dataclasses

import numpy as np
import pytest
from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.conclusion import Action
from ga_audit.finding import Reason
from ga_audit.run import Source

YOUR_COMMAND = (
    "python train.py --accumulate {gradient_accumulation_steps} --batch-size {micro_batch_size} --out {output_dir}"
)


def steps_of(runs):
    (diagnosis,) = pipeline.diagnose(runs)
    return diagnosis.next_steps


def test_scaled_runs_are_corrected_reported_and_measured():
    assert [(step.action, step.argv) for step in steps_of(twins(1))] == [
        (Action.WRITE_CORRECTED, ("ga-audit", "fix", "ga1", "ga8")),
        (Action.WRITE_REPORT, ("ga-audit", "report", "ga1", "ga8", "-o", "report/")),
        (Action.MEASURE, ("ga-audit", "repro", "--ga", "1,8")),
    ]


def test_a_path_is_one_word_of_a_command():
    runs = [dataclasses.replace(r, sources=(Source("table", f"my runs; rm -rf/{r.name}.json"),)) for r in twins(1)]
    assert steps_of(runs)[0].argv == ("ga-audit", "fix", "my runs; rm -rf")


def test_where_only_ranks_can_scale_another_number_of_them_is_asked_for():
    run = make_run("r", ga=1, world_size=2, loss=np.linspace(3, 2, 30), packages={"transformers": "5.0.0"})
    *_, other, measure = steps_of([run])
    assert other.action is Action.ADD_OTHER_RANKS
    assert measure.argv == (
        "ga-audit", "repro", "--engine", "transformers", "--ga", "1,8", "--world-size", "1,2",
    )  # fmt: skip


def test_short_runs_should_be_longer_and_no_resume_is_asked_for():
    runs = [make_run(f"ga{ga}", ga=ga, world_size=1, loss=[3.0, 2.9, 2.7, 2.6], seed=1) for ga in (1, 2)]
    first, second, *rest = steps_of(runs)
    assert (first.action, first.not_applicable.reason) == (Action.RESOLVE, Reason.NOT_LOGGED)
    assert (second.action, second.points) == (Action.LOG_MORE_STEPS, 4)
    assert "ga_change" not in {step.not_applicable.kind for step in rest if step.not_applicable}
    assert rest[-1].action is Action.MEASURE_INSTEAD


def test_unknown_ga_is_asked_for_once():
    first, *rest = steps_of([make_run("r", loss=np.linspace(3, 2, 30))])
    assert (first.action, first.argv) == (Action.GIVE_GA, ("ga-audit", "inspect", "r", "--ga", "r=N"))
    assert all(step.action is not Action.GIVE_GA for step in rest)
    assert all(step.not_applicable.reason is not Reason.GA_UNKNOWN for step in rest if step.not_applicable)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, ("--ga", "1,8", "--script", YOUR_COMMAND)),
        ({"packages": {"lightning": "2.5.0"}}, ("--ga", "1,8", "--script", YOUR_COMMAND)),
        ({"packages": {"transformers": "4.48.0"}}, ("--engine", "transformers", "--ga", "1,8")),
        ({"other": {"trainer": "GRPOTrainer"}}, ("--engine", "trl", "--variant", "grpo", "--ga", "1,8")),
        ({"other": {"trainer": "DPOTrainer"}}, ("--engine", "trl", "--variant", "dpo", "--ga", "1,8")),
        ({"learning_rate": 1e-4}, ("--ga", "1,8")),
    ],
)
def test_what_measures_fits_the_trainer(known, words):
    *_, measure = steps_of([make_run("r", ga=8, loss=[3.0, 2.9, 2.7], **known)])
    assert (measure.action, measure.argv) == (Action.MEASURE_INSTEAD, ("ga-audit", "repro", *words))
