"""What decided."""

import math

import pytest
from factories import make_run, twins
from plots.cases import ODD, single

from ga_audit import pipeline, plots


def draw(runs):
    return plots.draw(next(iter(pipeline.diagnose(runs))), "evidence")


def test_one_run_with_eval_loss_vocabulary_and_epochs():
    figure = draw(single())
    ax = figure.axes[0]
    (bound,) = [line for line in ax.lines if line.get_label() == "_vocabulary"]
    assert bound.get_ydata()[0] == pytest.approx(math.log(50257))
    assert [line.get_xdata()[0] for line in ax.lines if line.get_label() == "_epoch"] == [30, 60, 90]
    (evals,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert evals.get_xdata().tolist() == [30, 60, 90]
    texts = " ".join(t.get_text() for t in figure.legends[0].get_texts())
    for part in ("logged loss", "the same / GA 8", "eval loss", "ln(50257)", "10.82", "epoch ends"):
        assert part in texts


def test_what_is_not_there_is_not_drawn():
    texts = [t.get_text() for t in draw([make_run("a", ga=1, loss=[3, 2, 1])]).legends[0].get_texts()]
    assert texts == ["a (GA 1): logged loss"]


def test_bars_in_nats_strongest_first():
    (ax,) = draw(twins(1)).axes
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(widths, key=lambda w: -abs(w))
    assert widths[0] > 3
    assert "summed-over-ga" in ax.get_yticklabels()[0].get_text()


def test_a_fault_that_predicts_the_same_as_healthy_is_no_bar():
    (ax,) = draw(twins(0)).axes
    assert all(bar.get_width() < -1 for bar in ax.patches)
    assert "world-size" not in ax.get_yticklabels()[0].get_text()


def test_nothing_speaks():
    (ax,) = draw(ODD["negative"]).axes[-1:]
    assert ax.patches or ax.texts or ax.lines
