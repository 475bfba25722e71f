import numpy as np
from factories import make_run, twins

from ga_audit import pipeline


def diagnosis_of(runs):
    return next(iter(pipeline.diagnose(runs)))


def test_logging_only_needs_no_retraining():
    assert diagnosis_of(twins(1, 0)).retrain.startswith("No:")


def test_a_loss_without_a_norm_leaves_the_question_open():
    runs = [make_run(r.name, ga=r.settings.ga, loss=r.series[0].value, seed=42, learning_rate=1e-3, model="m",
                     dataset="d", micro_batch_size=16 // r.settings.ga, world_size=1) for r in twins(1)]  # fmt: skip
    diagnosis = diagnosis_of(runs)
    assert diagnosis.reach.value == "unknown"
    assert diagnosis.retrain.startswith("Not known")
    assert any("ga-audit repro" in step for step in diagnosis.next_steps)


def test_sgd_means_retrain_and_clipping_is_counted():
    diagnosis = diagnosis_of(twins(1, 1, optimizer="sgd", max_grad_norm=4.0))
    assert "sgd" in diagnosis.retrain
    assert "retrain" in diagnosis.retrain
    assert "Clipping was altered" in diagnosis.retrain


def test_adam_without_a_change_in_clipping_needs_none():
    assert "no need to retrain" in diagnosis_of(twins(1, 1, optimizer="adamw_torch", max_grad_norm=1000.0)).retrain


def test_the_dangerous_kind_is_named():
    assert "dangerous" in diagnosis_of(twins(0, 1)).headline


def test_paths_in_commands_are_quoted():
    import dataclasses

    from ga_audit.run import Source

    runs = [dataclasses.replace(r, sources=(Source("table", f"my runs; rm -rf/{r.name}.json"),)) for r in twins(1)]
    step = next(s for s in diagnosis_of(runs).next_steps if "ga-audit fix" in s)
    assert "'my runs; rm -rf'" in step


def test_what_sgd_made_of_the_learning_rate_and_of_weight_decay_is_said_in_numbers():
    runs = twins(1, 1, optimizer="sgd", learning_rate=1e-3, max_grad_norm=1000.0, other={"weight_decay": 0.1})
    told = diagnosis_of(runs).retrain
    assert "0.001 x 8 = 0.008 in ga8" in told
    assert "Weight decay 0.1 weighed less" in told
    assert "Weight decay" not in diagnosis_of(twins(1, 1, optimizer="adamw_torch", other={"weight_decay": 0.1})).retrain
    assert "Weight decay" not in diagnosis_of(twins(1, 1, optimizer="sgd", other={"weight_decay": 0.0})).retrain


def test_unknown_clipping_leaves_adam_open():
    assert "unless gradients were clipped" in diagnosis_of(twins(1, 1, optimizer="adamw_torch")).retrain


def test_where_only_ranks_can_scale_another_number_of_them_is_asked_for():
    run = make_run("r", ga=1, world_size=2, loss=np.linspace(3, 2, 30), packages={"transformers": "5.0.0"})
    steps = " ".join(diagnosis_of([run]).next_steps)
    assert "another number of ranks (one GPU: CUDA_VISIBLE_DEVICES=0)" in steps
    assert "ga-audit repro --engine transformers --ga 1,8 --world-size 1,2" in steps


def test_short_runs_are_to_be_longer_and_what_a_resume_would_show_is_not_asked_for():
    runs = [make_run(f"ga{ga}", ga=ga, world_size=1, loss=[3.0, 2.9, 2.7, 2.6], seed=1) for ga in (1, 2)]
    steps = diagnosis_of(runs).next_steps
    assert steps[0] == "Log grad_norm in at least two runs."
    assert steps[1] == "Log more steps: a run has 4 here, and the intervals narrow with their number."
    assert not any("resumed" in step for step in steps)
    assert "ga-audit repro" in steps[-1]


def test_ga_that_is_missing_is_asked_for_once():
    steps = diagnosis_of([make_run("r", loss=np.linspace(3, 2, 30))]).next_steps
    assert sum("--ga r=N" in step or "--ga 'r=N'" in step for step in steps) == 1
