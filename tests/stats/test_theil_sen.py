import itertools
import subprocess
import sys

import numpy as np
import pytest

from ga_audit.stats.theil_sen import LEAST, Slope, theil_sen

LOG_GA = np.log([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])


def test_the_slope_is_the_median_of_all_pairs():
    rng = np.random.default_rng(0)
    y = LOG_GA + rng.normal(0, 0.1, LOG_GA.size)
    slopes = [(y[j] - y[i]) / (LOG_GA[j] - LOG_GA[i]) for i, j in itertools.combinations(range(LOG_GA.size), 2)]
    found = theil_sen(LOG_GA, y)
    assert found.value == pytest.approx(np.median(slopes))
    assert min(slopes) <= found.interval95[0] < found.value < found.interval95[1] <= max(slopes)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_points_have_no_95_percent_interval(n):
    assert theil_sen(LOG_GA[:n], 2 * LOG_GA[:n]) == Slope(pytest.approx(2.0), None)
    assert LEAST == 5


def test_equal_x_have_no_slope():
    assert theil_sen(np.zeros(3), np.arange(3.0)) is None
    assert theil_sen(np.zeros(1), np.zeros(1)) is None


@pytest.mark.parametrize("exponent", [0.0, 1.0, -1.0])
def test_the_interval_covers_the_exponent(exponent):
    rng = np.random.default_rng(1)
    found = [theil_sen(LOG_GA, exponent * LOG_GA + rng.normal(0, 0.03, LOG_GA.size)).interval95 for _ in range(200)]
    assert np.mean([low <= exponent <= high for low, high in found]) > 0.92


def test_scipy_is_imported_by_the_first_slope_only():
    code = (
        "import sys, numpy as np; from ga_audit.stats.theil_sen import theil_sen; before = 'scipy' in sys.modules; "
        "theil_sen(np.arange(2.0), np.arange(2.0)); sys.exit(before or 'scipy.stats' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
