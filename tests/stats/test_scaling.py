import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.stats import constants as k
from ga_audit.stats.scaling import Nuisance, fit, ties

LOG_GA = np.log([1.0, 4.0])
TWIN = Nuisance(((0.01, 1.0),))
NAMES = {"healthy": "healthy", "other": "other"}


def factors(log_ga, log_world=None):
    log_world = np.zeros_like(log_ga) if log_world is None else log_world
    return {
        "healthy": 0 * log_ga,
        "summed": log_ga,
        "divided": -log_ga,
        "world": log_world,
        "ga-world": log_ga + log_world,
    }


def run(level, log_ga=LOG_GA, nuisance=TWIN, noise=0.01, axes=None):
    axes = {"ga": log_ga} if axes is None else axes
    return fit(level, noise**2 * np.eye(log_ga.size), factors(log_ga), axes, nuisance, **NAMES)


@pytest.mark.parametrize(("truth", "name"), [(0, "healthy"), (1, "summed"), (-1, "divided")])
def test_the_true_exponent_wins_and_the_interval_holds_it(truth, name):
    got = run(truth * LOG_GA)
    assert got is not None
    assert max(got.log_likelihood, key=got.log_likelihood.get) == name
    e = got.exponents[0]
    assert e.value == pytest.approx(truth, abs=0.01)
    assert e.interval95[0] < e.interval90[0] < e.value < e.interval90[1] < e.interval95[1]


def test_two_runs_by_hand():
    """One contrast: the mixture over tau is written out and summed by brute force."""
    d, noise = 1.3, 0.05
    got = run(np.array([0.0, d]), noise=noise)
    assert got is not None
    tau = np.geomspace(*k.TAU_GRID)
    weight = np.exp(-0.5 * ((np.log(tau) - np.log(0.01)) / k.TAU_SPREAD) ** 2)
    weight /= weight.sum()
    variance = 2 * noise**2 + tau**2

    def density(mean):
        return float((weight * np.exp(-0.5 * (d - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)).sum())

    slab = np.linspace(-k.SLAB, k.SLAB, 2001)

    def likelihood(exponent):
        return 0.5 * density(exponent * LOG_GA[1]) + 0.5 * np.mean([density((exponent + s) * LOG_GA[1]) for s in slab])

    assert got.log_likelihood["summed"] == pytest.approx(np.log(likelihood(1) / likelihood(0)), abs=0.02)
    free = np.linspace(-k.OTHER_RANGE, k.OTHER_RANGE, 20001)
    other = np.mean([density(a * LOG_GA[1]) for a in free])
    assert got.log_likelihood["other"] == pytest.approx(np.log(other / likelihood(0)), abs=0.02)
    grid = np.array([density(a * LOG_GA[1]) for a in free])
    cdf = np.cumsum(grid) / grid.sum()
    assert got.exponents[0].interval95 == pytest.approx(
        (free[np.searchsorted(cdf, 0.025)], free[np.searchsorted(cdf, 0.975)]), abs=0.005
    )


@given(st.permutations(range(5)), st.floats(-50, 50))
def test_order_and_common_factor_change_nothing(order, common):
    rng = np.random.default_rng(3)
    log_ga = np.log([1.0, 2.0, 4.0, 8.0, 2.0])
    level = log_ga + rng.normal(0, 0.03, 5)
    order = list(order)
    a, b = run(level, log_ga), run(level[order] + common, log_ga[order])
    assert a is not None
    assert b is not None
    assert a.log_likelihood == pytest.approx(b.log_likelihood, abs=1e-5)
    assert a.exponents[0].interval95 == pytest.approx(b.exponents[0].interval95, abs=1e-5)


def test_more_points_never_beat_the_run_to_run_variation():
    loose = Nuisance(((0.25, 1.0),))
    few, many = run(LOG_GA * 0, nuisance=loose, noise=0.02), run(LOG_GA * 0, nuisance=loose, noise=1e-5)
    assert few is not None
    assert many is not None
    width = [np.diff(f.exponents[0].interval95)[0] for f in (few, many)]
    assert width[1] > 0.9 * width[0] > 0.3


def test_more_runs_narrow():
    log_ga = np.log(np.tile([1.0, 8.0], 8))
    nuisance = Nuisance(((0.03, 1.0),))
    rng = np.random.default_rng(0)
    many = run(rng.normal(0, 0.02, 16), log_ga, nuisance)
    two = run(np.zeros(2), log_ga[:2], nuisance)
    assert many is not None
    assert two is not None
    assert np.diff(many.exponents[0].interval95) < 0.6 * np.diff(two.exponents[0].interval95)


def test_nothing_varies_nothing_is_said():
    assert run(np.array([0.0, 1.0]), np.log([4.0, 4.0])) is None


def test_families_take_their_levels_away():
    """Two data sets, the harder one at high GA only: no contrast is left between them."""
    log_ga = np.log([1.0, 2.0, 4.0, 8.0])
    level = np.array([0.0, 0.0, 1.2, 1.2])
    got = run(level, log_ga, Nuisance(((0.03, 1.0),), family=(0, 0, 1, 1)))
    assert got is not None
    assert max(got.log_likelihood, key=got.log_likelihood.get) == "healthy"


def test_a_norm_that_falls_with_the_batch_is_healthy():
    """b fixed: B grows with GA, and the norm falls as B^-1/2."""
    log_ga = np.log([1.0, 16.0])
    nuisance = Nuisance(((0.1, 1.0),), batch=((log_ga, 1.0),))
    got = run(-0.5 * log_ga, log_ga, nuisance)
    assert got is not None
    assert got.log_likelihood["summed"] < -3
    summed = run(0.6 * log_ga, log_ga, nuisance)
    assert summed is not None
    assert summed.log_likelihood["summed"] > 2


def test_ties_name_what_the_design_confounds():
    log_ga, log_world = np.log([8.0, 1.0]), np.log([1.0, 8.0])
    groups = ties(factors(log_ga, log_world))
    assert ("healthy", "ga-world") in groups
    both = ties(factors(np.log([1.0, 4.0]), np.log([1.0, 4.0])))
    assert ("summed", "world") in both


def test_two_axes_are_told_apart_where_the_design_allows():
    log_ga, log_world = np.log([1.0, 4.0, 1.0, 4.0]), np.log([1.0, 1.0, 4.0, 4.0])
    got = fit(
        log_world, 1e-4 * np.eye(4), factors(log_ga, log_world), {"ga": log_ga, "world": log_world}, TWIN, **NAMES
    )
    assert got is not None
    assert [e.axis for e in got.exponents] == ["ga", "world"]
    assert got.exponents[0].value == pytest.approx(0, abs=0.02)
    assert got.exponents[1].value == pytest.approx(1, abs=0.02)
    assert max(got.log_likelihood, key=got.log_likelihood.get) == "world"


def test_many_runs_give_the_same_answer_at_a_lower_cost(monkeypatch):
    rng = np.random.default_rng(0)
    n = 60
    log_ga = np.log(rng.choice([1.0, 2, 4, 8], n))
    noise = np.diag(rng.uniform(0.5, 1.5, n) * 1e-4)
    nuisance = Nuisance(tau=((0.03, 1.0),), modes=(0.07 * (log_ga - log_ga.mean()),), extra=0.01)

    def found():
        factors = {"mean": 0 * log_ga, "sum": log_ga}
        level = log_ga + np.random.default_rng(1).normal(0, 0.02, n)
        return fit(level, noise, factors, {"ga": log_ga}, nuisance, healthy="mean", other="other")

    exact = found()
    monkeypatch.setattr(k, "MANY_RUNS", 10)
    fast = found()
    assert fast.exponents[0].value == pytest.approx(exact.exponents[0].value, abs=1e-9)
    assert fast.exponents[0].interval95 == pytest.approx(exact.exponents[0].interval95, abs=2e-3)
    assert fast.log_likelihood["sum"] == pytest.approx(exact.log_likelihood["sum"], rel=0.02)
