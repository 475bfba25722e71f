import math
from dataclasses import replace

import numpy as np
import pytest
from evidence.single_runs import evidence, one, ratio
from factories import make_run, make_series

from ga_audit.evidence import first_loss_anchor
from ga_audit.finding import NotApplicable, Reason
from ga_audit.run import Counted, Role

FALL = np.linspace(1, 0.6, 30)


def run(first, *, ga=8, steps=None, **known):
    other = known.pop("other", {"trainer": "DPOTrainer"})
    return make_run("run", ga=ga, loss=first * FALL, steps=steps, other=other, **known)


@pytest.mark.parametrize(("other", "anchor", "settings"), [
    ({"trainer": "DPOTrainer"}, math.log(2), {}),
    ({"trainer": "KTOTrainer", "desirable_weight": 1.0, "undesirable_weight": 1.0}, 0.5, {}),
    ({"architectures": ["BertForSequenceClassification"], "num_labels": 20}, math.log(20), {}),
    ({"init_from": "scratch"}, math.log(50_304), {"vocab_size": 50_304}),
])  # fmt: skip
def test_the_first_loss_of_each_objective(other, anchor, settings):
    assert ratio(evidence(first_loss_anchor, run(8 * anchor, other=other, **settings))) > 2.5
    right = evidence(first_loss_anchor, run(anchor, other=other, **settings))
    assert ratio(right) < -2.5
    assert right.equivalent


def classifier(first, model="BertForSequenceClassification", **other):
    return run(first, other={"architectures": [model], **other})


@pytest.mark.parametrize(("other", "anchor"), [
    ({}, math.log(2)),  # transformers writes the classes where they are not two
    ({"num_labels": 5, "problem_type": "single_label_classification"}, math.log(5)),
    ({"num_labels": 28, "problem_type": "multi_label_classification"}, math.log(2)),
    ({"model": "ViTForImageClassification", "num_labels": 10}, math.log(10)),
    ({"model": "PoolFormerForImageClassification", "num_labels": 10}, math.log(10)),
    ({"model": "RoFormerForSequenceClassification"}, math.log(2)),
])  # fmt: skip
def test_a_new_head_on_an_encoder_starts_at_a_guess(other, anchor):
    summed, right = (evidence(first_loss_anchor, classifier(factor * anchor, **other)) for factor in (8, 1))
    assert ratio(summed) > 2.5
    assert ratio(right) < -2.5
    assert summed.weak  # the head may not be new, the classes may be weighted: it needs another kind beside it


def test_a_first_loss_half_way_to_a_sum_does_not_speak_for_health():
    assert evidence(first_loss_anchor, classifier(math.log(2) * 1.3)).equivalent
    assert not evidence(
        first_loss_anchor, classifier(math.log(2) * 2.9)
    ).equivalent  # of easy data, summed over 8, by step 10


@pytest.mark.parametrize(("first", "other"), [
    (0.3, {"num_labels": 1, "problem_type": "regression"}), (11.0, {"model": "LlamaForSequenceClassification"}),
    (5.5, {"model": "MyForSequenceClassification"}), (6.9, {"model": "TimmWrapperForImageClassification"}),
    (0.1, {}),  # a head that had learned, or a loss divided by GA
])  # fmt: skip
def test_it_does_not_apply_where_an_even_guess_is_not_the_start(first, other):
    assert isinstance(one(first_loss_anchor, classifier(first, **other)), NotApplicable)


def test_a_dpo_loss_of_another_kind_has_no_anchor():
    assert isinstance(
        one(first_loss_anchor, run(0.69, other={"trainer": "DPOTrainer", "loss_type": "ipo"})), NotApplicable
    )
    assert isinstance(one(first_loss_anchor, run(3.0, other={"trainer": "ORPOTrainer"})), NotApplicable)
    assert isinstance(one(first_loss_anchor, run(3.0, other={"trainer": "GRPOTrainer"})), NotApplicable)
    assert isinstance(one(first_loss_anchor, run(3.0, other={})), NotApplicable)


def test_a_log_that_begins_late_has_no_first_loss():
    assert one(first_loss_anchor, run(0.69, steps=range(500, 530))).reason is Reason.LATE_START


def test_an_odd_first_loss_decides_nothing():
    # 0.5, 0.82 and 1.01 were seen on healthy runs
    for first in (0.5, 0.82, 1.01):
        assert ratio(evidence(first_loss_anchor, run(first))) < 1


def numbered(first, margin=None, **known):
    """A run of one line without a step, as from the middle of a console."""
    series = () if margin is None else (make_series(Role.MARGIN, [margin], [1]),)
    found = make_run("run", ga=2, loss=[first], other={"trainer": "DPOTrainer"}, series=series, **known)
    return replace(found, series=tuple(replace(s, counted=Counted.ORDER) for s in found.series))


def test_a_line_without_a_step_is_no_start():
    assert one(first_loss_anchor, numbered(0.3537)).reason is Reason.START_UNKNOWN


def test_margins_say_whether_the_policy_has_moved():
    assert one(first_loss_anchor, numbered(0.3537, margin=1.195)).reason is Reason.LATE_START
    assert evidence(first_loss_anchor, numbered(0.6933, margin=-0.0002)).equivalent
    moved = run(0.35, series=(make_series(Role.MARGIN, [1.2], [1]),))
    assert one(first_loss_anchor, moved).reason is Reason.LATE_START


def test_epochs_show_the_start_where_the_logging_window_is_known():
    def log(epochs, **known):
        found = make_run(
            "run", ga=8, loss=0.6931 * FALL, other={"trainer": "DPOTrainer"},
            series=(make_series(Role.EPOCH, epochs),), **known,
        )  # fmt: skip
        return replace(found, series=tuple(replace(s, counted=Counted.ORDER) for s in found.series))

    first = np.arange(1, 31) * 0.02
    assert evidence(first_loss_anchor, log(first, logging_steps=1)).equivalent
    assert one(first_loss_anchor, log(first)).reason is Reason.START_UNKNOWN
    assert one(first_loss_anchor, log(first + 0.5, logging_steps=1)).reason is Reason.START_UNKNOWN


@pytest.mark.parametrize("weights", [
    {}, {"desirable_weight": 1.0}, {"desirable_weight": 1.0, "undesirable_weight": 2.0},
])  # fmt: skip
def test_kto_starts_where_its_weights_say(weights):
    assert (
        one(first_loss_anchor, run(1.04, other={"trainer": "KTOTrainer", **weights})).reason is Reason.WEIGHTS_UNKNOWN
    )
