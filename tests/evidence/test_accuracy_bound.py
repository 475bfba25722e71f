import math

import pytest
from evidence.single_runs import VOCABULARY, beside, evidence, language_model, one, ratio

from ga_audit.evidence import accuracy_bound
from ga_audit.finding import NotApplicable
from ga_audit.run import Role


def run(factor, accuracy=0.7, **known):
    return language_model(factor=factor, vocab_size=VOCABULARY, series=[beside(Role.TOKEN_ACCURACY, accuracy)], **known)


def test_a_sum_lies_above_what_the_accuracy_allows():
    piece = evidence(accuracy_bound, run(8))
    assert ratio(piece) > 3
    assert not piece.weak


def test_a_right_loss_lies_inside_and_its_share_below():
    piece = evidence(accuracy_bound, run(1))
    assert ratio(piece) < -1
    assert piece.equivalent


def test_nothing_where_both_readings_fit_and_without_accuracy():
    assert ratio(evidence(accuracy_bound, run(2, ga=2))) == 0
    assert isinstance(one(accuracy_bound, language_model(factor=8, vocab_size=VOCABULARY)), NotApplicable)
    assert isinstance(one(accuracy_bound, run(8, other={"trainer": "DPOTrainer"})), NotApplicable)


def test_the_band():
    low, high = accuracy_bound.band(0.5, 3)
    assert low == pytest.approx(0.5 * math.log(2))
    assert high == pytest.approx(math.log(2) + 0.5 * math.log(2))
    assert accuracy_bound.band(1.0, 100) == (0, 0)
