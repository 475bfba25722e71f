"""What holds for every figure: odd data draws without a warning, nothing global changes, spikes survive, time is short."""

import time
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib.style
import numpy as np
import pytest
from factories import make_run, twins
from plots.cases import ODD
from plots.test_theme import contrast

import ga_audit
from ga_audit import pipeline, plots
from ga_audit.plots import _curve


def diagnosis_of(runs):
    return next(iter(pipeline.diagnose(runs)))


@pytest.mark.parametrize("kind", plots.KINDS)
@pytest.mark.parametrize("case", ODD)
def test_odd_data_draws_without_a_warning(case, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = plots.pictures(diagnosis_of(ODD[case]), kind)
    if drawn is not None:
        assert drawn.png.startswith(b"\x89PNG")
        for svg in (drawn.svg, drawn.svg_dark):
            ElementTree.fromstring(svg)


def mixed_groups():
    """Groups that other evidence than the regression on GA speaks about."""
    rng = np.random.default_rng(0)
    base = 2 + 2 * np.exp(-np.arange(60) / 15)

    def run(name, factor, **settings):
        noisy = base * factor * np.exp(rng.normal(0, 1e-3, 60))
        return make_run(
            name, loss=noisy, grad_norm=noisy, seed=1, learning_rate=1e-3, model="m", dataset="d", **settings
        )

    releases = {"old": "4.44.0", "new": "4.48.0"}
    yield (
        "releases at one GA",
        [run(n, f, ga=8, packages={"transformers": releases[n]}) for n, f in (("old", 1), ("new", 8))],
    )
    yield (
        "releases and GA",
        [
            run(f"{n}-{g}", g if n == "new" else 1, ga=g, packages={"transformers": releases[n]})
            for n in releases
            for g in (1, 8)
        ],
    )
    yield "one GA", [run(n, 1, ga=8) for n in "ab"]
    yield "GA with world size", [run(f"w{w}", w, ga=8 // w, world_size=w, micro_batch_size=2) for w in (1, 2, 4)]
    yield "nine values of GA", [run(f"ga{2**i}", 2**i, ga=2**i) for i in range(10)]
    yield "25 runs", [run(f"r{i}", 2 ** (i % 3), ga=2 ** (i % 3)) for i in range(25)]
    yield (
        "other steps",
        [make_run("a", ga=1, loss=base, steps=range(60)), make_run("b", ga=8, loss=base, steps=range(99, 159))],
    )


@pytest.mark.parametrize("kind", plots.KINDS)
@pytest.mark.parametrize("runs", [pytest.param(runs, id=name) for name, runs in mixed_groups()])
def test_other_groups_draw_without_a_warning_and_have_tables(runs, kind):
    from ga_audit.output import _values

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for diagnosis in pipeline.diagnose(runs):
            plots.pictures(diagnosis, kind)
            table = _values.table(diagnosis, kind)
            assert all(len(row) == len(table["header"]) for row in table["rows"])


def test_there_is_nothing_to_show_of_one_run_without_norms():
    diagnosis = diagnosis_of(ODD["one-run"])
    shown = [kind for kind in plots.KINDS if plots.pictures(diagnosis, kind) is not None]
    assert shown == ["curves", "evidence"]


def test_thinning_keeps_every_spike():
    value = np.sin(np.arange(1_000_000) / 1e5)
    value[123_456], value[654_321], value[999_999] = 99, -99, 50
    value[400_000:500_000] = np.nan
    step, kept = plots.thinned(np.arange(1_000_000), value)
    assert len(step) <= 700
    assert {99, -99, 50} <= set(kept.tolist())
    assert np.all(np.diff(step) > 0)
    assert np.isnan(kept).any()  # a gap stays a gap


@pytest.mark.parametrize("n", [160, 701, 1000, 4321])
def test_the_trend_is_the_median_of_equal_bins(n):
    rng = np.random.default_rng(n)
    x, y = np.arange(n, dtype=float), rng.normal(size=n)
    y[rng.random(n) < 0.3] = np.nan
    y[: n // 10] = np.nan
    at, level = _curve.trend(x, y)
    width = -(-n // 60)
    for i, (place, value) in enumerate(zip(at, level, strict=True)):
        part = y[i * width : (i + 1) * width]
        assert place == pytest.approx(np.mean(x[i * width : (i + 1) * width]))
        part = part[np.isfinite(part)]
        assert value == pytest.approx(np.median(part)) if len(part) else np.isnan(value)


def test_a_million_points_draw_in_seconds_with_their_extremes():
    n = 1_000_000
    rng = np.random.default_rng(0)
    value = 2 + rng.normal(0, 0.1, n)
    value[700_001], value[30_003] = 77.0, 0.011
    runs = [make_run(f"ga{ga}", ga=ga, loss=value * ga, grad_norm=value * ga, max_grad_norm=1.0) for ga in (1, 8)]
    diagnosis = diagnosis_of(runs)
    start = time.process_time()
    for kind in plots.KINDS:
        assert plots.pictures(diagnosis, kind) is not None
    assert time.process_time() - start < 10
    for ax, factor in zip(plots.draw(diagnosis).axes[:2], (8, 1), strict=True):
        drawn = np.concatenate([np.asarray(line.get_ydata()) for line in ax.lines if line.get_label() != "_logged"])
        assert np.nanmax(drawn) == pytest.approx(77.0 * factor)
        assert np.nanmin(drawn) == pytest.approx(0.011)
        low, high = ax.get_ylim()
        assert low < 0.011
        assert high > 77 * factor


def test_nothing_global_changes():
    import matplotlib

    before = dict(matplotlib.rcParams)
    for kind in plots.KINDS:
        plots.pictures(diagnosis_of(twins(1)), kind, style="ggplot")
    assert dict(matplotlib.rcParams) == before


def test_unknown_kind_and_style():
    diagnosis = diagnosis_of(twins(1))
    with pytest.raises(ga_audit.AuditError, match="no plot"):
        plots.draw(diagnosis, "pie")
    with pytest.raises(ga_audit.AuditError, match="style"):
        plots.draw(diagnosis, style="nonesuch")


def _ink(figure):
    return figure.axes[0]._left_title.get_color()


@pytest.mark.parametrize("style", ["ggplot", "dark_background", "classic", "seaborn-v0_8-poster", "grayscale"])
def test_styles_of_matplotlib(style):
    figure = plots.draw(diagnosis_of(twins(1)), style=style)
    said = matplotlib.style.library.get(style, {})
    if "axes.prop_cycle" in said and style != "grayscale":  # black, where grayscale begins, is drawn as nearly black
        first = said["axes.prop_cycle"].by_key()["color"][0]
        assert matplotlib.colors.same_color(figure.axes[0].lines[0].get_color(), first)
    # tick labels and guide lines are seen on the style's own ground
    ground = matplotlib.colors.to_hex(figure.axes[0].get_facecolor())
    for colour in (figure.axes[0].get_yticklabels()[0].get_color(), figure.axes[0].get_title("left") and _ink(figure)):
        assert contrast(matplotlib.colors.to_hex(colour), ground) > 3
    guide = next(line for line in plots.draw(diagnosis_of(twins(1)), "ratio", style=style).axes[0].lines
                 if line.get_label() == "_right")  # fmt: skip
    assert contrast(matplotlib.colors.to_hex(guide.get_color()), ground) > 2
    # larger type takes more room and leaves the picture nowhere
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= -0.05
    assert box.y0 >= -0.05
    assert box.x1 <= width + 0.05
    assert box.y1 <= height + 0.05


@pytest.mark.parametrize("kind", plots.KINDS)
@pytest.mark.parametrize("case", ["names", "30-runs", "30-runs-no-ga", "1000-steps", "single", "spike", "nan"])
def test_legends_cover_no_axes_and_nothing_is_cut_off(case, kind):
    figure = plots.draw(diagnosis_of(ODD[case]), kind)
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= -0.02
    assert box.x1 <= width + 0.02
    assert box.y0 >= -0.02
    assert box.y1 <= height + 0.02
    for legend in figure.legends:
        lowest = legend.get_window_extent().y0
        assert all(ax.title.get_window_extent().y1 <= lowest + 1 for ax in figure.axes)
        assert all(ax._left_title.get_window_extent().y1 <= lowest + 1 for ax in figure.axes)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1.8, 90, ["2", "5", "10", "20", "50"]), (2.9, 11, ["3", "5", "7", "10"]), (0.9, 1e6, None), (1e-6, 1e20, None)],
)
def test_ticks_are_plain_numbers(low, high, expected):
    found = [_curve.number(t) for t in _curve.log_ticks(low, high)]
    assert expected is None or found == expected
    assert 3 <= len(found) <= 7
    assert all(low <= float(t) <= high and len(t) <= 6 for t in found)


def test_numbers_and_counts():
    numbers = (0.0, -0.0, 3.0, 0.25, 12500.0, 1e6, 2.5e-7, 1.5e21)
    assert [_curve.number(v) for v in numbers] == ["0", "0", "3", "0.25", "12500", "1e6", "2.5e-7", "1.5e21"]
    assert [_curve.counted(v) for v in (0, 800, 12500, 2.5e6, 3e9)] == ["0", "800", "12.5k", "2.5M", "3G"]
