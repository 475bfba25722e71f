import numpy as np
import pytest
from conftest import make_run
from evidence.single_runs import LANGUAGE_MODEL, curve, evidence, language_model, one, ratio

from ga_audit.evidence import eval_gap
from ga_audit.finding import DIVIDED_GA, Reason
from ga_audit.grouping import Group


@pytest.mark.parametrize("ga", [8, 16])
def test_a_sum_stands_ga_times_above_the_eval_loss(ga):
    piece = evidence(eval_gap, language_model(ga=ga, factor=ga))
    assert ratio(piece) > 4
    assert not piece.weak
    assert piece.facts["ratio"] == pytest.approx(ga / 1.05, rel=0.03)
    assert (piece.facts["used"], piece.facts["evaluations"], piece.facts["ga"]) == (3, 6, ga)


@pytest.mark.parametrize("ga", [2, 4, 8])
def test_a_right_loss_stands_at_it(ga):
    piece = evidence(eval_gap, language_model(ga=ga))
    assert ratio(piece) < -1.5
    assert piece.equivalent or ga == 2


def test_below_ga_8_and_for_other_objectives_it_is_weak():
    assert evidence(eval_gap, language_model(ga=4, factor=4)).weak
    assert evidence(eval_gap, language_model(ga=8, factor=8, other={})).weak
    assert evidence(eval_gap, language_model(ga=8, factor=8, evaluations=1)).weak


def test_overfitting_is_not_division_by_ga():
    # train falls away from eval; at the end it is at 1/GA of it
    loss = curve(end=0.3)
    run = language_model(ga=8, loss=loss)
    at = run.get("eval_loss").position
    run = make_run("o", ga=8, loss=loss, steps=10 * np.arange(1, 61), eval_loss=np.full(len(at), 2.4), eval_steps=at,
                   other=LANGUAGE_MODEL)  # fmt: skip
    assert ratio(evidence(eval_gap, run), DIVIDED_GA) < 3.5  # e^3.5 times a prior of .08 to .55 does not reach .95


def test_a_falling_curve_is_read_at_the_step_of_the_evaluation():
    loss = 10 * np.exp(-np.arange(60) / 12) + 0.5
    assert eval_gap.ratios(language_model(loss=loss, gap=1.0)) == pytest.approx(np.zeros(6), abs=0.04)


def test_it_does_not_apply_without_eval_or_ga_and_on_ga_1():
    without = one(eval_gap, language_model(evaluations=0))
    assert (without.reason, without.facts) == (Reason.NO_EVAL_LOSS, {"missing": "eval_loss"})
    assert one(eval_gap, language_model(ga=None)).reason is Reason.GA_UNKNOWN
    assert list(eval_gap.gather(Group((language_model(ga=1),)))) == []


@pytest.mark.parametrize(
    "other",
    [
        {"architectures": ["WhisperForConditionalGeneration"]},
        {"architectures": ["LlamaForCausalLM"], "is_encoder_decoder": True},
        {"task_type": "SEQ_2_SEQ_LM"},
    ],
)
def test_speech_and_translation_never_decide_alone(other):
    # augmentation acts in training only: a right Whisper stood 9 to 13 times above its eval loss at GA 16
    assert evidence(eval_gap, language_model(ga=16, factor=12, other=other)).weak


def test_an_adapter_of_a_causal_language_model_is_one():
    assert not evidence(eval_gap, language_model(ga=8, factor=8, other={"task_type": "CAUSAL_LM"})).weak
    assert evidence(eval_gap, language_model(ga=8, factor=8, other={"task_type": "FEATURE_EXTRACTION"})).weak
