import numpy as np
import pytest

from ga_audit.stats.offset import find_offset


def curves(factor, term, seed=0, shared=True):
    rng = np.random.default_rng(seed)
    true = 1 + 3 / (1 + np.arange(80) / 10)
    first = true + rng.normal(0, 0.05, 80)
    second = first if shared else true + rng.normal(0, 0.05, 80)
    return np.log(np.stack([first + term, factor * second + term]) * (1 + rng.normal(0, 1e-4, (2, 80))))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_factor_behind_an_unscaled_term_is_restored(factor):
    got = find_offset(curves(factor, 0.4), np.log(factor))
    assert got is not None
    assert np.exp(got.log_factor) == pytest.approx(factor, rel=0.01)
    assert got.constant == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize(("factor", "term", "shared"), [(4, 0.0, True), (1, 0.4, True), (4, 0.4, False)])
def test_nothing_is_found_where_there_is_none_or_it_cannot_be_told(factor, term, shared):
    assert find_offset(curves(factor, term, shared=shared), np.log(4)) is None
