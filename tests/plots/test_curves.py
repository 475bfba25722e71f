"""Logged beside corrected curves, read from the lines themselves."""

import numpy as np
import pytest
from factories import make_run, make_series, twins
from plots.cases import ODD

from ga_audit import pipeline, plots
from ga_audit.run import Role


def draw(runs, **options):
    return plots.draw(next(iter(pipeline.diagnose(runs))), "curves", **options)


def test_corrected_curves_lie_on_each_other():
    figure = draw(twins(1))
    logged, corrected = figure.axes[0].lines, figure.axes[1].lines
    assert logged[1].get_ydata()[0] / logged[0].get_ydata()[0] == pytest.approx(8, rel=0.01)
    assert corrected[1].get_ydata()[0] / corrected[0].get_ydata()[0] == pytest.approx(1, rel=0.01)
    assert figure.axes[0].get_yscale() == "log"
    low, high = figure.axes[1].get_ylim()  # a scale of its own, which the corrected curves fill
    values = np.concatenate([line.get_ydata() for line in corrected[:2]])
    assert np.ptp(values) > 0.8 * (high - low)


def test_the_logged_curves_lie_pale_behind_the_corrected_ones():
    figure = draw(twins(1))
    ghosts = [line for line in figure.axes[1].lines if line.get_label() == "_logged"]
    [logged] = [line for line in figure.axes[0].lines if line.get_ydata()[0] > 20]
    assert [ghost.get_ydata().tolist() for ghost in ghosts] == [logged.get_ydata().tolist()]
    assert ghosts[0].get_alpha() == 0.3


@pytest.mark.parametrize("dark", [False, True])
def test_a_ga_has_one_colour_and_the_highest_the_widest_line(dark):
    both = draw(twins(1), dark=dark).axes[0].lines
    alone = draw([twins(1)[1]], dark=dark).axes[0].lines[0]
    assert both[1].get_color() == alone.get_color() != both[0].get_color()
    assert both[1].get_linewidth() > both[0].get_linewidth()
    assert both[1].get_zorder() < both[0].get_zorder()


def test_without_findings_there_is_nothing_to_set_beside():
    figure = draw(twins(0))
    assert [ax.get_title("left") for ax in figure.axes] == ["loss as logged", "grad_norm as logged"]


def test_many_runs_are_told_by_ga_or_counted():
    texts = [t.get_text() for t in draw(ODD["30-runs"]).legends[0].get_texts()]
    assert texts == ["GA 1 (8 runs)", "GA 2 (8 runs)", "GA 4 (7 runs)", "GA 8 (7 runs)"]
    texts = [t.get_text() for t in draw(ODD["30-runs-no-ga"]).legends[0].get_texts()]
    assert len(texts) == 9
    assert texts[-1] == "and 22 more"


def test_eval_loss_is_marked_in_both_columns():
    value = 2 + np.exp(-np.arange(40) / 9)
    runs = [
        make_run(f"ga{g}", ga=g, loss=value * g, eval_loss=value[9::10], eval_steps=[10, 20, 30, 40]) for g in (1, 8)
    ]
    for ax in draw(runs).axes:
        marks = [line for line in ax.lines if line.get_marker() == "x"]
        assert [m.get_ydata().tolist() for m in marks] == [value[9::10].tolist()] * 2


def test_on_samples_where_the_comparison_was():
    rng = np.random.default_rng(0)
    runs = []
    for ga, n in ((2, 400), (8, 100)):
        samples = np.arange(1, n + 1) * ga * 4
        loss = (2 + 3 * np.exp(-samples / 500)) * ga * np.exp(rng.normal(0, 0.003, n))
        runs.append(make_run(f"ga{ga}", ga=ga, micro_batch_size=4, world_size=1, loss=loss, learning_rate=1e-3))
    figure = draw(runs)
    assert figure.axes[0].get_xlabel() == "samples seen"
    # ends of the trends: the last of 60 bins of each
    ends = [line.get_xdata()[-1] for line in figure.axes[0].lines if line.get_label() != "_points"]
    assert ends[0] == pytest.approx(3200, rel=0.03)
    assert ends[1] == pytest.approx(3200, rel=0.03)


def test_many_points_are_a_trend_over_faint_points():
    lines = draw(ODD["1000-steps"]).axes[0].lines
    faint, bold = lines[0], lines[1]
    assert faint.get_alpha() < 0.5
    assert len(faint.get_xdata()) > 400
    assert 55 <= len(bold.get_xdata()) <= 60


def test_values_that_are_not_finite_are_shown_as_such():
    figure = draw(ODD["nan"])
    lost = [line for line in figure.axes[0].lines if line.get_label() == "_not finite"]
    assert [line.get_xdata().tolist() for line in lost] == [[2], [2, 5]]
    assert "NaN or infinite" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_a_series_of_another_role_is_not_drawn():
    run = make_run("a", ga=1, loss=[3, 2, 1], series=[make_series(Role.ENTROPY, [9, 9, 9])])
    assert len(draw([run]).axes[0].lines) == 1
