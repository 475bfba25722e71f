"""The dark variant is the light one with its colours mapped, whichever way it is come by."""

import io

import numpy as np
import pytest
from factories import twins
from PIL import Image

from ga_audit import pipeline, plots
from ga_audit.plots import _theme


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    one, other = sorted((luminance(a), luminance(b)))
    return (other + 0.05) / (one + 0.05)


def test_text_is_readable_and_curves_are_seen_on_both_grounds():
    ground = _theme.dark_hex("#ffffff")
    assert contrast(_theme.INK, "#ffffff") > 7
    assert contrast(_theme.dark_hex(_theme.INK), ground) > 7
    for colour in _theme._RUNS:
        assert contrast(_theme.dark_hex(colour), ground) > 3


def test_a_blend_maps_to_the_blend():
    a, b = np.array([0, 114, 178]), np.array([255, 255, 255])
    half = _theme.dark_bytes(((a + b) // 2).astype(np.uint8)).astype(int)
    ends = [_theme.dark_bytes(x.astype(np.uint8)).astype(int) for x in (a, b)]
    assert np.abs(half - sum(ends) / 2).max() <= 1


@pytest.mark.parametrize("kind", plots.KINDS)
def test_mapped_pictures_are_what_drawing_in_the_dark_gives(kind):
    diagnosis = next(iter(pipeline.diagnose(twins(1, max_grad_norm=2.0))))
    mapped = np.asarray(Image.open(io.BytesIO(plots.pictures(diagnosis, kind).png_dark)).convert("RGB")).astype(int)
    figure = plots.draw(diagnosis, kind, dark=True)
    figure.set_dpi(160)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    assert mapped.shape == drawn.shape
    assert np.sqrt(np.mean((mapped - drawn) ** 2)) < 3


def test_dark_svg_has_no_light_colour_left():
    diagnosis = next(iter(pipeline.diagnose(twins(1))))
    drawn = plots.pictures(diagnosis, "curves")
    assert b"#ffffff" in drawn.svg
    assert b"#ffffff" not in drawn.svg_dark
    assert _theme.INK.encode() not in drawn.svg_dark
    assert _theme.dark_hex("#ffffff").encode() in drawn.svg_dark


def test_text_in_svg_is_text_in_common_fonts():
    svg = plots.pictures(next(iter(pipeline.diagnose(twins(1)))), "curves").svg.decode()
    assert ">optimizer step</text>" in svg
    assert "sans-serif" in svg
    assert "<title>Logged curves, and what a correct trainer would have logged</title>" in svg
