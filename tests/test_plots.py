"""What the figures show, read from the lines themselves; and that odd data draws."""

import dataclasses

import numpy as np
import pytest
from conftest import make_run, twins

import ga_audit
from ga_audit import pipeline, plots


def diagnosis_of(runs):
    return next(iter(pipeline.diagnose(runs)))


def test_corrected_curves_lie_on_each_other():
    figure = plots.draw(diagnosis_of(twins(1)), "curves")
    logged, corrected = figure.axes[0].lines, figure.axes[1].lines
    assert logged[1].get_ydata()[0] / logged[0].get_ydata()[0] == pytest.approx(8, rel=0.01)
    assert corrected[1].get_ydata()[0] / corrected[0].get_ydata()[0] == pytest.approx(1, rel=0.01)


def test_the_regression_says_its_exponent():
    figure = plots.draw(diagnosis_of(twins(1, 0)), "regression")
    assert "1.00" in figure.axes[0].get_title(loc="left")
    assert figure.axes[0].get_xscale() == "log"


def test_ratios_over_training():
    (ratio, expected, *_) = plots.draw(diagnosis_of(twins(1)), "ratio").axes[0].lines
    assert np.median(ratio.get_ydata()) == pytest.approx(8, rel=0.01)
    assert expected.get_ydata()[0] == 8


ODD = {
    "nan": [
        make_run("a", ga=1, loss=[1, np.nan, 2], grad_norm=[np.nan] * 3),
        make_run("b", ga=8, loss=[8, np.inf, 16]),
    ],
    "one point": [make_run("a", ga=2, loss=[2.715]), make_run("b", ga=8, loss=[10.848])],
    "one run": [make_run("a", ga=8, loss=[3, 2, 1])],
    "30 runs": [make_run(f"r{i}", ga=2 ** (i % 4), loss=np.linspace(3, 2, 20)) for i in range(30)],
    "names": [make_run("x" * 200, ga=1, loss=[3, 2]), make_run("تجربة $\\alpha 実験", ga=8, loss=[24, 16])],
    "negative": [make_run("a", ga=1, loss=[0.1, -0.1, 0.0]), make_run("b", ga=8, loss=[0.8, -0.8, 0.0])],
    "no ga": [make_run("a", loss=[3, 2, 1])],
}


@pytest.mark.parametrize("kind", plots.KINDS)
@pytest.mark.parametrize("case", ODD)
def test_odd_data_draws(case, kind, tmp_path):
    figure = plots.draw(diagnosis_of(ODD[case]), kind)
    (path,) = plots.save(figure, tmp_path / "p", (".svg",))
    assert path.stat().st_size > 1000


def test_thinning_keeps_every_spike():
    value = np.ones(1_000_000)
    value[123_456] = 99
    value[654_321] = -99
    step, kept = plots.thinned(np.arange(1_000_000), value)
    assert len(step) <= 2000
    assert {99, -99} <= set(kept.tolist())
    assert np.all(np.diff(step) > 0)


def test_nothing_global_changes():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.draw(diagnosis_of(twins(1)), dark=True)
    assert dict(matplotlib.rcParams) == before


def test_unknown_kind_and_style():
    diagnosis = diagnosis_of(twins(1))
    with pytest.raises(ga_audit.AuditError, match="no plot"):
        plots.draw(diagnosis, "pie")
    with pytest.raises(ga_audit.AuditError, match="style"):
        plots.draw(diagnosis, style="nonesuch")


def test_a_diagnosis_draws_itself():
    assert diagnosis_of(twins(1)).plot("regression").axes


def test_many_runs_do_not_fill_the_legend():
    figure = plots.draw(diagnosis_of(ODD["30 runs"]), "curves")
    assert len(figure.axes[0].get_legend().get_texts()) <= 12


def test_names_are_no_mathtext():
    run = dataclasses.replace(make_run("a", ga=1), name="$x$")
    assert plots.label(run).startswith("\\$x\\$")
