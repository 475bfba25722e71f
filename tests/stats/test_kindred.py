import numpy as np
import pytest

from ga_audit.stats.kindred import shares_noise

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
