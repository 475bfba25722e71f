import math

import numpy as np
import pytest

from ga_audit.stats.normal import log_interval, log_ndtr, mixture_quantiles, ndtr


@pytest.mark.parametrize("x", [-5.0, -1.3, 0.0, 0.7, 3.0])
def test_ndtr_agrees_with_the_error_function(x):
    exact = 0.5 * math.erfc(-x / math.sqrt(2))
    assert ndtr(np.array([x]))[0] == pytest.approx(exact, rel=1e-6)
    assert log_ndtr(np.array([x]))[0] == pytest.approx(math.log(exact), abs=1e-6)


def test_far_tails_do_not_underflow():
    # Mills' ratio: Phi(-x) ~ phi(x) / x
    got = log_ndtr(np.array([-60.0]))[0]
    assert got == pytest.approx(-1800 - math.log(60 * math.sqrt(2 * math.pi)), abs=1e-3)


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (2, 2.001), (7, 9), (-9, -7), (-0.001, 40)])
def test_probability_of_an_interval(low, high):
    exact = 0.5 * (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2)))
    assert log_interval(np.array([float(low)]), np.array([float(high)]))[0] == pytest.approx(math.log(exact), abs=1e-4)


def test_quantiles_of_one_gaussian_and_of_two():
    one = np.array([1.0])
    at = np.array([0.025, 0.5, 0.975])
    np.testing.assert_allclose(
        mixture_quantiles(one, one * 2, one * 3, at), 2 + 3 * np.array([-1.96, 0, 1.96]), atol=2e-3
    )
    two = mixture_quantiles(np.array([0.5, 0.5]), np.array([-10.0, 10.0]), np.array([0.1, 0.1]), np.array([0.25, 0.75]))
    np.testing.assert_allclose(two, [-10, 10], atol=1e-2)
