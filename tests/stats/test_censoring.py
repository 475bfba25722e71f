import numpy as np
import pytest

from ga_audit.stats.censoring import looks_clipped

RAW = np.random.default_rng(0).lognormal(0, 0.5, 100)


@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_pile_at_the_maximum_is_seen(limit):
    assert looks_clipped(np.minimum(RAW, 1.0), limit)


def test_norms_above_the_threshold_were_logged_before_clipping():
    assert not looks_clipped(RAW, 1.0)
    assert not looks_clipped(RAW, None)


def test_a_small_pile_of_identical_values_is_enough():
    limit = float(np.quantile(RAW, 0.95))
    assert looks_clipped(np.minimum(RAW, limit), None)
    assert looks_clipped(np.minimum(RAW, limit), limit)


def test_single_norms_exactly_at_the_threshold():
    assert looks_clipped(np.array([1.0]), 1.0)
    assert looks_clipped(np.array([0.9999999, 1.0]), 1.0)
    assert not looks_clipped(np.array([0.7]), 1.0)


def test_infinite_norms_of_skipped_steps_are_no_maximum():
    assert looks_clipped(np.append(np.minimum(RAW, 1.0), [np.inf, np.nan, 0.0]), None)
