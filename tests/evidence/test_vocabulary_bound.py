import numpy as np
from evidence.single_runs import VOCABULARY, curve, evidence, language_model, one, ratio

from ga_audit.evidence import vocabulary_bound
from ga_audit.finding import NotApplicable, Reason


def test_a_falling_loss_above_ln_vocabulary_is_a_sum():
    piece = evidence(vocabulary_bound, language_model(factor=8, loss=curve(end=2.0, start=5.0), vocab_size=VOCABULARY))
    assert ratio(piece) > 4
    assert not piece.weak


def test_a_diverged_run_above_the_bound_is_weak():
    loss = np.concatenate([curve(30), np.full(30, 14.0)])
    piece = evidence(vocabulary_bound, language_model(loss=loss, vocab_size=VOCABULARY))
    assert piece.weak


def test_below_the_bound_it_says_nothing_of_a_sum():
    # twice too low would be above the bound, so that it speaks, but not on a sum
    assert ratio(evidence(vocabulary_bound, language_model(vocab_size=VOCABULARY, ga=2, factor=2))) == 0
    assert isinstance(one(vocabulary_bound, language_model(vocab_size=10**9, ga=2)), NotApplicable)


def test_a_loss_whose_share_would_be_impossibly_small_supports_healthy():
    piece = evidence(vocabulary_bound, language_model(loss=curve(end=0.2, start=0.3), vocab_size=VOCABULARY))
    assert ratio(piece) < 0


def test_other_objectives_are_not_held_against_it():
    for other in ({"architectures": ["BertForSequenceClassification"]}, {"trainer": "DPOTrainer"}, {}):
        assert isinstance(one(vocabulary_bound, language_model(factor=20, vocab_size=100, other=other)), NotApplicable)
    assert isinstance(one(vocabulary_bound, language_model(factor=8)), NotApplicable)  # vocabulary unknown


def test_the_configuration_is_asked_for_where_the_objective_is_unknown():
    def reason(**other):
        return one(vocabulary_bound, language_model(factor=20, vocab_size=100, other=other)).reason

    assert reason() is Reason.OBJECTIVE_UNKNOWN
    # a classifier may begin as a language model, and a log names what it began as
    assert reason(base_architectures=["LlamaForCausalLM"]) is Reason.OBJECTIVE_UNKNOWN
    assert reason(architectures=["BertForSequenceClassification"]) is Reason.NOT_A_LANGUAGE_MODEL


def test_a_sum_over_tokens_is_no_sum_over_ga():
    piece = evidence(vocabulary_bound, language_model(factor=4096, vocab_size=VOCABULARY))
    assert abs(ratio(piece)) < 2.5
