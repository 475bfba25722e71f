"""Ratios over training."""

import numpy as np
import pytest
from factories import make_run, twins

from ga_audit import pipeline, plots


def draw(runs):
    return plots.draw(next(iter(pipeline.diagnose(runs))), "ratio")


def test_the_ratio_and_the_lines_that_are_expected():
    figure = draw(twins(1))
    ax = figure.axes[0]
    (ratio,) = [line for line in ax.lines if not line.get_label().startswith("_") or line.get_label()[6:].isdigit()]
    assert np.median(ratio.get_ydata()) == pytest.approx(8, rel=0.01)
    assert [line.get_ydata()[0] for line in ax.lines if line.get_label() == "_expected"] == pytest.approx([8])
    assert "expected if summed over ga" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_what_was_found_is_what_is_expected():
    figure = draw(twins(-1))
    expected = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_label() == "_expected"]
    assert expected == pytest.approx([1 / 8])
    assert "1/8" in [t.get_text() for t in figure.axes[0].get_yticklabels()]


def test_runs_that_log_at_different_steps_are_compared_in_bins():
    value = 2 + 2 * np.exp(-np.arange(1, 301) / 60)
    runs = [
        make_run("ga1", ga=1, loss=value[6::7], steps=np.arange(7, 301, 7)),
        make_run("ga8", ga=8, loss=8 * value[9::10], steps=np.arange(10, 301, 10)),
    ]
    drawn = [line for line in draw(runs).axes[0].lines if len(line.get_xdata()) > 10]
    assert len(drawn) == 1
    assert np.nanmedian(drawn[0].get_ydata()) == pytest.approx(8, rel=0.05)


def test_each_quantity_has_the_smallest_ga_that_logs_it():
    value = 2 + np.exp(-np.arange(30) / 9)
    runs = [make_run("one", ga=1, loss=value)]
    runs += [make_run(n, ga=g, loss=g * value, grad_norm=value) for n, g in (("two", 2), ("eight", 8))]
    assert [ax.get_title("left") for ax in draw(runs).axes] == ["loss: ratio to one", "grad_norm: ratio to two"]
