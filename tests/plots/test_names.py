"""Names of runs in figures."""

import pytest
from factories import make_run

from ga_audit import plots
from ga_audit.plots import _names


def label(name, **settings):
    return plots.labels([make_run(name, **settings)])[0]


def test_ga_is_said_once():
    assert label("sft", ga=8) == "sft (GA 8)"
    assert label("sft-GA8", ga=8) == "sft-GA8"
    assert label("sft") == "sft"


def test_long_names_keep_their_ends_and_stay_apart():
    runs = [make_run("a" * 99 + c + "b" * 99, ga=8) for c in "12"] + [make_run("c")]
    first, second, third = plots.labels(runs)
    assert first.startswith("aaa")
    assert "b (GA 8)" in first
    assert "…" in first
    assert len(first) < 45
    assert first != second
    assert third == "c"


def test_no_mathtext_no_control_characters():
    assert label("$x_1$") == "$x_1$"
    assert label("a\x1b[31m\u202eb") == "a?[31m?b"
    import matplotlib

    from ga_audit import pipeline

    runs = [make_run("$\\alpha$", ga=1, loss=[3, 2, 1]), make_run("$broken", ga=8, loss=[24, 16, 8])]
    figure = plots.draw(next(iter(pipeline.diagnose(runs))))
    texts = figure.legends[0].get_texts()
    assert [t.get_text() for t in texts] == ["$\\alpha$ (GA 1)", "$broken (GA 8)"]
    assert not any(t.get_parse_math() for t in texts)
    assert matplotlib.rcParams["text.parse_math"]


@pytest.mark.skipif(not _names._isolates(), reason="this matplotlib does not order text")
def test_right_to_left_names_are_isolated():
    assert label("تجربة", ga=8) == "\u2068تجربة\u2069 (GA 8)"
    assert label("latin", ga=8) == "latin (GA 8)"


def test_characters_without_a_font_are_spelt_out(monkeypatch):
    monkeypatch.setattr(_names, "_WIDE_FONTS", ())
    assert label("実験-a") == "[5b9f 9a13]-a"
    assert label("実験-a") != label("実用-a")
    assert label("\U0001f600") != label("\U0001f601")
    assert label("Grüße-µ-α") == "Grüße-µ-α"


def test_an_installed_font_with_the_characters_is_taken(monkeypatch):
    # any installed font will do to see the choice: what DejaVu Sans lacks and another family has
    from matplotlib.font_manager import fontManager

    monkeypatch.setattr(_names, "_WIDE_FONTS", ("No such font", "DejaVu Math TeX Gyre", "STIXGeneral"))
    installed = {entry.name for entry in fontManager.ttflist}
    have = _names._characters(["DejaVu Sans"])
    family = next(f for f in _names._WIDE_FONTS if f in installed and _names._characters([f]) - have)
    lacking = chr(next(c for c in sorted(_names._characters([family]) - have) if chr(c).isprintable()))
    assert _names.fonts_for(["a" + lacking]) == ["DejaVu Sans", family]
    assert _names.shown("a" + lacking) == "a" + lacking
    assert _names.fonts_for(["plain"]) == ["DejaVu Sans"]


def test_columns():
    assert _names.columns("実a") == 3
    assert _names.columns(_names.shown("実" * 100)) <= 31
