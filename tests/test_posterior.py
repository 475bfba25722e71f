"""Prior and evidence of one quantity -> posterior."""

import pytest
from conftest import make_run

from ga_audit.finding import HEALTHY, NAMED, OTHER, SUMMED_GA, Evidence, Hypothesis
from ga_audit.posterior import hypotheses_about, log_likelihood, of_one_kind, prior_of
from ga_audit.run import Role
from ga_audit.stats.constants import COUPLING, PRIOR


def piece(likelihood, runs=("a",)):
    return Evidence(kind="kind", role=Role.LOSS, runs=runs, log_likelihood=likelihood, facts={}, source="")


def test_single_runs_count_as_their_mean_and_comparisons_as_their_sum():
    runs = [make_run("a", ga=8), make_run("b", ga=8)]
    pieces = [piece({HEALTHY: 0.0, SUMMED_GA: x}, (name,)) for name, x in (("a", 4.0), ("b", -2.0))]
    both = piece({HEALTHY: 0.0, SUMMED_GA: 3.0}, ("a", "b"))
    assert of_one_kind(pieces, [HEALTHY, SUMMED_GA], runs) == {HEALTHY: 0.0, SUMMED_GA: 1.0}
    assert of_one_kind([both, both], [HEALTHY, SUMMED_GA], runs) == {HEALTHY: 0.0, SUMMED_GA: 6.0}


def test_a_hypothesis_that_needs_an_unknown_setting_is_not_weighed():
    kept = hypotheses_about([make_run("a", ga=8)], [])
    assert [h.name for h in kept] == ["healthy", "summed-over-ga", "divided-by-ga", "divided-by-ga-squared", "other"]


def test_what_a_piece_does_not_list_counts_as_the_same_prediction_else_as_other():
    run = make_run("a", ga=8)
    said = piece({HEALTHY: 0.0, SUMMED_GA: 5.0, OTHER: -1.0})
    assert log_likelihood(said, Hypothesis("again", 1, 0), [run]) == 5.0
    assert log_likelihood(said, Hypothesis("elsewhere", 3, 0), [run]) == -1.0


def test_the_prior_of_the_norm_follows_the_loss():
    alone = prior_of([*NAMED, OTHER])
    assert alone[SUMMED_GA] == PRIOR["summed"]
    coupled = prior_of([*NAMED, OTHER], {HEALTHY: 1.0})
    assert coupled[HEALTHY] == pytest.approx(COUPLING["healthy"]["healthy"])
