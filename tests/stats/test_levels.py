import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.stats.levels import huber_means, run_levels, wander


def panel(n=2, m=40, gap=0.5, noise=0.05, seed=0):
    rng = np.random.default_rng(seed)
    curve = 1 + np.exp(-np.arange(m) / 10)
    return curve + gap * np.arange(n)[:, None] + rng.normal(0, noise, (n, m))


def fit(level, noise=0.1, rounding=0.0):
    n = level.shape[0]
    count = np.isfinite(level).astype(np.int64)
    return run_levels(level, count, np.full(n, noise), np.full(n, rounding))


@given(st.floats(-3, 3), st.integers(2, 5))
def test_moving_one_run_moves_its_level_by_as_much_and_nothing_else(by, n):
    level = panel(n)
    moved = level.copy()
    moved[0] += by
    a, b = fit(level), fit(moved)
    difference = b.level - a.level
    np.testing.assert_allclose(difference[0] - difference[1], by, atol=1e-9)
    np.testing.assert_allclose(difference[1:], difference[1], atol=1e-9)
    np.testing.assert_allclose(a.covariance, b.covariance, atol=1e-9)


def test_permuting_runs_permutes_the_result():
    level = panel(4)
    order = [2, 0, 3, 1]
    a, b = fit(level), fit(level[order])
    np.testing.assert_allclose(a.level[order], b.level)
    np.testing.assert_allclose(a.covariance[np.ix_(order, order)], b.covariance)


def test_contrast_has_the_standard_error_of_a_mean():
    got = []
    for seed in range(300):
        fitted = fit(panel(2, 64, seed=seed))
        got.append((fitted.level[1] - fitted.level[0], fitted.covariance))
    spread = np.std([g for g, _ in got])
    stated = np.mean([np.sqrt(np.array([-1, 1]) @ s @ np.array([-1, 1])) for _, s in got])
    assert stated == pytest.approx(spread, rel=0.35)
    assert stated >= 0.9 * spread
    assert np.mean([g for g, _ in got]) == pytest.approx(0.5, abs=0.005)


def test_shared_noise_cancels_without_being_told():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 40)
    level = np.stack([1 + noise, 1.7 + noise]) + rng.normal(0, 1e-4, (2, 40))
    contrast = np.array([-1, 1])
    assert np.sqrt(contrast @ fit(level).covariance @ contrast) < 1e-3


def test_late_divergence_ends_the_window():
    level = panel(2, 64)
    level[1, 32:] += np.linspace(0, 2, 32)
    got = fit(level)
    assert got.window <= 32
    assert got.level[1] - got.level[0] == pytest.approx(0.5, abs=0.06)
    assert not got.constant
    assert fit(panel(2, 64)).window == 64


def test_one_bin_has_the_noise_of_the_prior():
    got = fit(np.array([[1.0], [2.0]]), noise=0.3)
    assert got.dof == 0
    contrast = np.array([-1, 1])
    assert contrast @ got.covariance @ contrast == pytest.approx(2 * 0.3**2, rel=0.01)


def test_rounding_widens():
    level = panel(2, 20, noise=1e-4)
    assert fit(level, rounding=0.05).covariance[0, 0] > fit(level).covariance[0, 0] + 1e-5


def test_missing_bins_are_no_zeroes():
    level = panel(3, 40)
    level[0, ::3] = np.nan
    got = fit(level)
    np.testing.assert_allclose(np.diff(got.level), 0.5, atol=0.06)


def test_huber_resists_a_tenth_of_spikes():
    rng = np.random.default_rng(0)
    d = rng.normal(0, 0.05, (1, 100))
    d[0, ::10] += 3
    centre, _ = huber_means(d, np.ones_like(d))
    assert abs(centre[0]) < 0.03
    assert abs(d.mean()) > 0.25


def test_wander_sees_slow_drift_and_needs_bins():
    still = panel(2, 64)
    drifting = still + np.array([[0.0], [1.0]]) * np.sin(np.arange(64) / 10) * 0.3
    assert wander(drifting) > 4 * wander(still)
    assert wander(still[:, :7]) == 0.0
