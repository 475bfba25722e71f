import numpy as np
import pytest

from ga_audit.stats.kindred import Agreement, agreement, shares_noise

CURVE = 3 * np.exp(-np.arange(60) / 10)


def test_same_batches_are_recognised_and_others_denied():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.05, 60)
    shared = np.stack([CURVE + noise, CURVE + noise + 2]) + rng.normal(0, 0.002, (2, 60))
    assert shares_noise(shared) is True
    assert shares_noise(np.stack([CURVE, CURVE + 1]) + rng.normal(0, 0.05, (2, 60))) is False


def test_a_common_smooth_shape_is_no_kinship():
    rng = np.random.default_rng(1)
    smooth = np.stack([CURVE, 1.3 * CURVE + 1]) + rng.normal(0, 1e-5, (2, 60))
    assert shares_noise(smooth) is not True


@pytest.mark.parametrize("m", [1, 3, 7])
def test_few_bins_tell_nothing(m):
    assert shares_noise(np.random.default_rng(0).normal(size=(2, m))) is None


def test_one_stranger_among_three():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.05, 60)
    level = np.stack([CURVE + noise, CURVE + noise, CURVE + rng.normal(0, 0.05, 60)]) + rng.normal(0, 0.001, (3, 60))
    assert shares_noise(level) is not True


LOSS = np.log([2.119, 1.6462, 1.5798, 1.6039, 1.2141, 1.1649])
FOUR_DECIMALS = np.full(2, 3e-5)


def test_agreement_to_the_last_digit_is_that_of_matched_runs():
    found = agreement(np.stack([LOSS, LOSS + np.log(2)]), FOUR_DECIMALS)
    assert found.probability > 0.999
    assert found.scatter == pytest.approx(4.4e-5, rel=0.05)  # of the rounding


def test_agreement_falls_with_the_scatter_of_the_ratio():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, 6)
    odds = [agreement(np.stack([LOSS, LOSS + s * noise]), FOUR_DECIMALS).log_odds for s in (1e-4, 1e-3, 1e-2, 0.1)]
    assert odds == sorted(odds, reverse=True)
    assert odds[-1] < 0


def test_few_digits_and_few_points_show_little():
    flat = np.log([0.7, 0.7, 0.7, 0.8, 0.7, 0.7])
    assert agreement(np.stack([flat, flat + 1]), np.full(2, 0.04)).probability < 0.05
    assert agreement(np.stack([LOSS[:4], LOSS[:4]]), FOUR_DECIMALS) == Agreement()


def test_smooth_curves_of_one_shape_are_not_matched():
    rng = np.random.default_rng(4)
    smooth = np.stack([CURVE[:10], CURVE[:10] + 1]) + rng.normal(0, 0.003, (2, 10))
    assert agreement(smooth, FOUR_DECIMALS).probability < 0.5
    assert agreement(np.stack([CURVE[:10], CURVE[:10] + 1]), FOUR_DECIMALS).probability > 0.95


def test_one_stranger_among_three_is_no_agreement():
    found = agreement(np.stack([LOSS, LOSS, LOSS[::-1]]), np.full(3, 3e-5))
    assert found.probability == 0
