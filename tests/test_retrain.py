import pytest
from conftest import make_run, twins

from ga_audit import pipeline
from ga_audit.conclusion import (
    ClippingEffect,
    EffectiveRate,
    OptimizerKind,
    Retrain,
    RetrainAnswer,
)
from ga_audit.finding import Impact


def retrain(runs):
    (diagnosis,) = pipeline.diagnose(runs)
    return diagnosis.retrain


@pytest.mark.parametrize(
    ("runs", "answer"),
    [
        (twins(0), RetrainAnswer.NOT_SCALED),
        (twins(1, 0), RetrainAnswer.LOG_ONLY),
        ([make_run("r", ga=8, loss=[3, 2, 1])], RetrainAnswer.UNSETTLED),
    ],
)
def test_the_answer_without_scaled_gradients(runs, answer):
    assert retrain(runs) == Retrain(answer=answer)


def test_a_loss_without_a_norm_leaves_the_question_open():
    runs = [make_run(r.name, ga=r.settings.ga, loss=r.series[0].value, seed=42, learning_rate=1e-3, model="m",
                     dataset="d", micro_batch_size=16 // r.settings.ga, world_size=1) for r in twins(1)]  # fmt: skip
    (diagnosis,) = pipeline.diagnose(runs)
    assert diagnosis.impact is Impact.UNKNOWN
    assert diagnosis.retrain == Retrain(answer=RetrainAnswer.UNKNOWN, logs_grad_norm=False)


def test_sgd_depends_on_the_scale_and_clipping_is_counted():
    answer = retrain(twins(1, 1, optimizer="sgd", max_grad_norm=4.0))
    assert (answer.optimizer, answer.optimizers) == (OptimizerKind.DEPENDENT, ("sgd",))
    assert answer.clipping is ClippingEffect.CHANGED
    assert answer.clipped.run == "ga8"
    assert answer.effective_rate == EffectiveRate("ga8", 1e-3, pytest.approx(8))


def test_adam_without_a_change_in_clipping():
    answer = retrain(twins(1, 1, optimizer="adamw_torch", max_grad_norm=1000.0))
    assert (answer.clipping, answer.optimizer) == (ClippingEffect.UNCHANGED, OptimizerKind.INVARIANT)
    assert answer.effective_rate is None


def test_unknown_clipping_leaves_adam_open():
    assert retrain(twins(1, 1, optimizer="adamw_torch")).clipping is ClippingEffect.UNKNOWN


@pytest.mark.parametrize(
    ("optimizer", "other", "expected"),
    [
        ("sgd", {"weight_decay": 0.1}, (0.1,)),
        ("sgd", {}, ()),
        ("sgd", {"weight_decay": 0.0}, None),
        ("adamw_torch", {"weight_decay": 0.1}, None),
    ],
)
def test_weight_decay_that_acts_relative_to_the_gradient(optimizer, other, expected):
    assert retrain(twins(1, 1, optimizer=optimizer, other=other)).weight_decay == expected
