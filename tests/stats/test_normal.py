import math
import warnings

import numpy as np
import pytest
from scipy import special

from ga_audit.stats.normal import log_interval, log_ndtr, mixture_quantiles, ndtr

X = np.array([-1e5, -60.0, -30.000001, -29.999999, -12.0, -5.0, -1.3, 0.0, 0.7, 3.0, 9.0, 40.0])


def test_the_distribution_function_is_that_of_scipy():
    np.testing.assert_allclose(ndtr(X), special.ndtr(X), rtol=1e-13)
    np.testing.assert_allclose(log_ndtr(X), special.log_ndtr(X), rtol=1e-12)


def test_any_shape_is_kept():
    x = X.reshape(3, 4)
    assert ndtr(x).shape == log_ndtr(x).shape == (3, 4)


def test_no_warning_in_either_tail():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_ndtr(np.array([-1e9, 1e9]))


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (2, 2.001), (7, 9), (-9, -7), (-0.001, 40)])
def test_probability_of_an_interval(low, high):
    a, b = (low, high) if low + high > 0 else (-high, -low)  # the difference of small numbers
    exact = 0.5 * (math.erfc(a / math.sqrt(2)) - math.erfc(b / math.sqrt(2)))
    assert log_interval(np.array([float(low)]), np.array([float(high)]))[0] == pytest.approx(math.log(exact), abs=1e-6)


def test_quantiles_of_one_gaussian_and_of_two():
    one = np.array([1.0])
    at = np.array([0.025, 0.5, 0.975])
    np.testing.assert_allclose(
        mixture_quantiles(one, one * 2, one * 3, at), 2 + 3 * np.array([-1.96, 0, 1.96]), atol=2e-3
    )
    two = mixture_quantiles(np.array([0.5, 0.5]), np.array([-10.0, 10.0]), np.array([0.1, 0.1]), np.array([0.25, 0.75]))
    np.testing.assert_allclose(two, [-10, 10], atol=1e-2)
