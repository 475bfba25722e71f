import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.stats import alignment

POSITIVE = st.lists(st.floats(0.01, 1e3), min_size=1, max_size=60)


def test_bins_nest_in_the_windows_of_the_coarser_run():
    fine = np.arange(1.0, 101.0)
    coarse = np.arange(10.0, 101.0, 10.0)
    edges = alignment.nested_edges([fine, coarse])
    assert edges is not None
    np.testing.assert_allclose(edges, np.arange(0.0, 101.0, 10.0))
    level, count = alignment.bin_levels(fine, fine, edges, geometric=False)
    assert count.tolist() == [10] * 10
    np.testing.assert_allclose(level[0], np.log(5.5))  # steps 1..10: what a window of 10 logs at step 10


def test_at_most_64_bins_and_no_point_lost():
    x = np.arange(1.0, 10_001.0)
    edges = alignment.nested_edges([x, x])
    assert edges is not None
    assert edges.size == 65
    _, count = alignment.bin_levels(x, x, edges, geometric=False)
    assert count.sum() == x.size


def test_no_common_range_is_said():
    assert alignment.nested_edges([np.arange(1.0, 5.0), np.arange(9.0, 12.0)]) is None


def test_one_number_stands_for_the_points_at_its_place_only():
    fine = np.arange(1.0, 501.0)
    edges = alignment.nested_edges([np.array([500.0]), fine])
    assert edges is not None
    _, count = alignment.bin_levels(fine, fine, edges, geometric=False)
    assert count.tolist() == [1]


def test_one_short_run_among_many_does_not_cost_the_others_their_bins():
    runs = [np.arange(1.0, 101.0) for _ in range(20)] + [np.array([1.0, 50.0, 100.0])]
    edges = alignment.nested_edges(runs)
    assert edges is not None
    assert edges.size > 50


@given(POSITIVE, st.floats(0.01, 100))
def test_scaling_moves_every_bin_by_the_logarithm(values, factor):
    value = np.array(values)
    x = np.arange(value.size, dtype=float)
    edges = alignment.nested_edges([x, x])
    assert edges is not None
    for geometric in (True, False):
        a, _ = alignment.bin_levels(x, alignment.winsorise(value)[0], edges, geometric=geometric)
        b, _ = alignment.bin_levels(x, alignment.winsorise(value * factor)[0], edges, geometric=geometric)
        np.testing.assert_allclose(b - a, np.log(factor), atol=1e-9)


@given(st.integers(2, 90), st.floats(0.001, 1e6))
def test_units_of_the_axis_do_not_matter(n, unit):
    x = np.arange(1.0, n + 1)
    value = np.linspace(3, 1, n)
    plain, scaled = alignment.nested_edges([x, x]), alignment.nested_edges([x * unit, x * unit])
    assert plain is not None
    assert scaled is not None
    a, _ = alignment.bin_levels(x, value, plain, geometric=False)
    b, _ = alignment.bin_levels(x * unit, value, scaled, geometric=False)
    np.testing.assert_allclose(a, b)


def test_spikes_are_moved_and_counted_the_rest_is_untouched():
    rng = np.random.default_rng(0)
    value = np.exp(rng.normal(0, 0.05, 200))
    value[50] = 40.0
    out, moved = alignment.winsorise(value)
    assert moved == 1
    assert out[50] < 1.5
    keep = np.arange(200) != 50
    assert np.array_equal(out[keep], value[keep])


def test_winsorising_long_and_short_series_is_the_same_rule():
    rng = np.random.default_rng(1)
    value = np.exp(rng.normal(0, 0.05, 6000))
    value[100] = 40.0
    long, moved = alignment.winsorise(value)
    assert moved >= 1
    assert long[100] < 1.5


def test_clean_counts_what_it_leaves_out():
    value = np.array([1.0, np.nan, np.inf, 0.0, -1.0, 2.0, -np.inf])
    got = alignment.clean(np.arange(7.0), value)
    assert got.value.tolist() == [1.0, 2.0]
    assert (got.dropped_nonfinite, got.dropped_nonpositive) == (3, 2)


@pytest.mark.parametrize(
    ("values", "relative"),
    [
        ([0.92, 0.45, 1.25], 0.29e-2 / 0.92),
        ([0.0213, 0.0198, 0.0205], 0.29e-4 / 0.0205),
        ([1.5546875, 2.03125, 1.9921875], 2**-9),
        ([0.123456789, 0.98765432101], 0.0),
    ],
)
def test_rounding_is_seen(values, relative):
    assert alignment.rounding(np.array(values)) == pytest.approx(relative)
