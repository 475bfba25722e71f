import pytest

from ga_audit.stats.decision import (
    coupled_prior,
    equivalent,
    posterior,
    settling_run,
)

PRIOR = {"healthy": 0.6, "summed": 0.3, "world": 0.1}


def test_posterior_is_prior_times_likelihood():
    got = posterior(PRIOR, [{"healthy": 0.0, "summed": 2.0, "world": -1.0}, {"summed": 1.0}])
    total = 0.6 + 0.3 * 2.718281828**3 + 0.1 * 2.718281828**-1
    assert got["summed"] == pytest.approx(0.3 * 2.718281828**3 / total)
    assert sum(got.values()) == pytest.approx(1)


def test_odds_multiply_the_prior():
    plain, odds = posterior(PRIOR, []), posterior(PRIOR, [], {"summed": 10})
    assert odds["summed"] / odds["healthy"] == pytest.approx(10 * plain["summed"] / plain["healthy"])


def test_huge_likelihoods_do_not_overflow():
    assert posterior(PRIOR, [{"summed": 5000.0}])["summed"] == pytest.approx(1)


def test_prior_of_the_norm_follows_the_loss():
    coupling = {"summed": {"summed": 0.65, "healthy": 0.25}}
    got = coupled_prior(PRIOR, {"summed": 1.0}, coupling)
    assert got == pytest.approx({"summed": 0.65, "healthy": 0.25, "world": 0.1})
    assert coupled_prior(PRIOR, {"world": 1.0}, coupling) == pytest.approx(PRIOR)


@pytest.mark.parametrize(("interval", "expected"), [((-0.1, 0.2), True), ((-0.1, 0.4), False), ((-0.5, 0.0), False)])
def test_equivalence_needs_the_whole_interval_inside(interval, expected):
    assert equivalent(interval, 0.35) is expected


def test_the_run_that_would_settle_a_tie():
    healthy, both, summed, world = (0, 0), (1, 1), (1, 0), (0, 1)
    ga, size = settling_run([8, 1], [1, 8], [healthy, both])
    assert ga * size != 8  # off the line on which both are constant
    ga, size = settling_run([1, 4], [1, 4], [summed, world])
    assert ga != size
    assert settling_run([1, 4], [1, 1], [healthy, healthy]) is None
