"""Clipped steps."""

import numpy as np
from factories import make_run, twins

from ga_audit import pipeline, plots


def draw(runs):
    return plots.draw(next(iter(pipeline.diagnose(runs))), "clipping")


def test_shares_as_logged_and_corrected():
    figure = draw(twins(1, max_grad_norm=4.0))
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert texts[1] == "ga8: 100% clipped, 0% corrected"
    assert "max_grad_norm 4" in texts
    for ax in figure.axes:
        (limit,) = [line for line in ax.lines if line.get_label() == "_max_grad_norm"]
        assert list(limit.get_ydata()) == [4.0, 4.0]
        low, high = ax.get_ylim()
        assert low < 4 < high
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_unchanged_norms_are_drawn_once():
    figure = draw(twins(0, max_grad_norm=2.0))
    assert len(figure.axes) == 1


def test_an_unknown_limit_is_said():
    norm = np.linspace(1, 2, 30)
    runs = [make_run(f"ga{g}", ga=g, loss=norm[::-1] * g, grad_norm=norm * g) for g in (1, 8)]
    assert any("not recorded" in t.get_text() for t in draw(runs).texts)
