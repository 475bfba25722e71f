import numpy as np
import pytest
from evidence.single_runs import beside, curve, evidence, language_model, one, ratio

from ga_audit.evidence import entropy_ratio
from ga_audit.finding import NotApplicable, Reason
from ga_audit.run import Role


def test_a_sum_stands_ga_times_above_the_entropy():
    piece = evidence(entropy_ratio, language_model(factor=8, series=[beside(Role.ENTROPY, curve() * 0.9)]))
    assert ratio(piece) > 4
    assert not piece.weak


def test_a_right_loss_is_about_the_entropy():
    piece = evidence(entropy_ratio, language_model(series=[beside(Role.ENTROPY, curve() * 0.8)]))
    assert ratio(piece) < -4
    assert piece.equivalent


def test_perplexity_of_its_own_and_perplexity_that_follows():
    own = language_model(factor=8, series=[beside(Role.PERPLEXITY, np.exp(curve(seed=1)))])
    assert ratio(evidence(entropy_ratio, own)) > 4
    follows = language_model(factor=8, series=[beside(Role.PERPLEXITY, np.exp(8 * curve()))])
    assert one(entropy_ratio, follows).reason is Reason.COPY_OF_LOSS


@pytest.mark.parametrize("base", [2, 10, 1.7])
def test_perplexity_to_any_base_follows_the_loss(base):
    follows = language_model(factor=8, series=[beside(Role.PERPLEXITY, base ** (8 * curve()))])
    assert one(entropy_ratio, follows).reason is Reason.COPY_OF_LOSS


def test_the_entropy_of_a_policy_is_not_that_of_its_loss():
    run = language_model(factor=8, other={"trainer": "GRPOTrainer"}, series=[beside(Role.ENTROPY, 0.4)])
    assert isinstance(one(entropy_ratio, run), NotApplicable)
    assert isinstance(one(entropy_ratio, language_model(factor=8)), NotApplicable)


def test_small_ga_is_weak():
    assert evidence(entropy_ratio, language_model(ga=4, factor=4, series=[beside(Role.ENTROPY, curve())])).weak
