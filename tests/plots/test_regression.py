"""The regression of log ratios on log GA."""

import dataclasses

import numpy as np
import pytest
from factories import make_run, twins

from ga_audit import pipeline, plots
from ga_audit.finding import Axis, AxisReason, Comparison, Relatedness, Window
from ga_audit.plots import regression


def draw(runs):
    return plots.draw(next(iter(pipeline.diagnose(runs))), "regression")


def test_exponent_in_the_title_and_ratios_at_the_points():
    figure = draw(twins(1, 0, gas=(1, 2, 4, 8)))
    loss, norm = figure.axes
    assert "exponent 1.00" in loss.get_title("left")
    assert "exponent 0.00" in norm.get_title("left")
    assert (loss.get_xscale(), loss.get_yscale()) == ("log", "log")
    (points,) = [line for line in loss.lines if line.get_marker() == "o"]
    assert points.get_xdata() == pytest.approx([1, 2, 4, 8])
    assert points.get_ydata() == pytest.approx([1, 2, 4, 8], rel=0.01)
    assert [t.get_text() for t in loss.get_xticklabels()] == ["1", "2", "4", "8"]


def test_the_three_lines():
    texts = [t.get_text() for t in draw(twins(1)).axes[0].texts]
    assert texts == ["summed", "correct", "divided", "8x"]


def comparison(level, covariance, **changes):
    n = len(level)
    fields = {
        "runs": tuple(f"r{i}" for i in range(n)),
        "level": np.array(level),
        "covariance": np.array(covariance),
        "run_effect": 0.0,
        "extra": 0.0,
        "log_ga": np.zeros(n),
        "log_world": np.zeros(n),
        "axis": Axis.STEP,
        "axis_reason": AxisReason.SAME_BATCH,
        "window": Window(8, 8),
        "relatedness": Relatedness(True, True, True, True, True),
    }
    return Comparison(**{**fields, **changes})


def test_intervals_grow_with_the_spread_of_runs_and_levels():
    given = comparison([0.0, np.log(8)], [[0.01, 0], [0, 0.01]])
    ratio, half = regression.ratios(np.array([1.0, 8.0]), given)
    assert ratio == pytest.approx([1, 8])
    assert half == pytest.approx([0, 1.96 * np.sqrt(0.02)])
    _, wider = regression.ratios(np.array([1.0, 8.0]), dataclasses.replace(given, run_effect=0.1))
    assert wider[1] == pytest.approx(1.96 * np.sqrt(0.04))
    _, moved = regression.ratios(np.array([1.0, 8.0]), dataclasses.replace(given, extra=0.1))
    assert moved[1] == pytest.approx(1.96 * np.sqrt(0.03))


def test_two_runs_of_the_smallest_ga_are_compared_with_their_mean():
    given = comparison([-0.1, 0.1, 2.0], 0.01 * np.eye(3))
    ratio, half = regression.ratios(np.array([1.0, 1.0, 8.0]), given)
    assert np.log(ratio) == pytest.approx([-0.1, 0.1, 2.0])
    assert half[0] == pytest.approx(1.96 * np.sqrt(0.005))
    assert half[2] == pytest.approx(1.96 * np.sqrt(0.015))


def test_against_world_size_where_that_is_what_varies():
    rng = np.random.default_rng(0)
    value = 2 + 2 * np.exp(-np.arange(60) / 15)
    runs = [
        make_run(f"w{w}", ga=1, world_size=w, micro_batch_size=16 // w, seed=1, learning_rate=1e-3, model="m", dataset="d",
                 loss=value * w * np.exp(rng.normal(0, 1e-3, 60)))
        for w in (1, 2, 4)
    ]  # fmt: skip
    (ax,) = draw(runs).axes
    assert ax.get_xlabel() == "world_size"
    assert "on world size" in ax.get_title("left")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "4"]
