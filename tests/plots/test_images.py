"""Pictures held against pictures that were looked at; `--update-golden` draws them anew.

The fonts are matplotlib's DejaVu Sans, which the theme asks for. Releases of matplotlib place text a pixel apart, so
pictures are compared by the mean colour of small tiles, with a tolerance that a missing curve exceeds (tested below).
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plots.cases import ODD

from ga_audit import pipeline, plots
from ga_audit.plots import _names

BASELINE = Path(__file__).parent / "baseline"
SAMPLES = Path(__file__).parents[2] / "sample_logs"
SCALE = 60  # dots per inch
TOLERANCE = 8.0  # of 255, mean colour of a tile

SAMPLE_CASES = [("transformers-4.48.0", k) for k in plots.KINDS] + [("transformers-4.57.6", k) for k in plots.KINDS]
SAMPLE_CASES += [(name, "curves") for name in ("console-4.48.0", "tensorboard-4.48.0", "wandb-4.48.0", "wandb-4.57.6")]
ODD_CASES = [
    ("nan", "curves"), ("nan", "ratio"), ("one-point", "curves"), ("one-point", "regression"), ("one-run", "curves"),
    ("single", "evidence"), ("30-runs", "curves"), ("30-runs", "clipping"), ("30-runs-no-ga", "curves"),
    ("names", "curves"), ("names", "clipping"), ("spike", "curves"), ("1000-steps", "curves"), ("1000-steps", "ratio"),
]  # fmt: skip
_AUDITS = {}


def sample(name):
    if name not in _AUDITS:
        (_AUDITS[name],) = pipeline.audit((str(SAMPLES / name),), pipeline.Options()).diagnoses
    return _AUDITS[name]


def pixels(figure) -> np.ndarray:
    """The figure, small, as floats (height, width, 3)."""
    figure.set_dpi(SCALE)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference of mean colour (0..255) of any tile of 16 x 16: text may move a little, a curve may not."""
    height, width = (min(one.shape[i], other.shape[i]) // 16 * 16 for i in range(2))
    assert abs(one.shape[0] - other.shape[0]) < 8
    assert abs(one.shape[1] - other.shape[1]) < 8
    tiles = [a[:height, :width].reshape(height // 16, 16, width // 16, 16, 3).mean((1, 3)) for a in (one, other)]
    return float(np.abs(tiles[0] - tiles[1]).max())


def check(figure, name: str, update: bool, tmp_path: Path) -> None:
    drawn = pixels(figure)
    path = BASELINE / f"{name}.png"
    if update:
        BASELINE.mkdir(exist_ok=True)
        Image.fromarray(drawn.astype(np.uint8)).quantize(64, dither=0).save(path, optimize=True)
    kept = np.asarray(Image.open(path).convert("RGB")).astype(float)
    difference = apart(drawn, kept)
    if difference > TOLERANCE:
        Image.fromarray(drawn.astype(np.uint8)).save(tmp_path / path.name)
    assert difference <= TOLERANCE, f"compare {path} with {tmp_path / path.name}"


@pytest.mark.parametrize(("name", "kind"), SAMPLE_CASES)
def test_sample_logs(name, kind, update_golden, tmp_path):
    check(plots.draw(sample(name), kind), f"{name}-{kind}", update_golden, tmp_path)


def test_a_dark_figure(update_golden, tmp_path):
    check(plots.draw(sample("transformers-4.48.0"), dark=True), "dark", update_golden, tmp_path)


@pytest.mark.parametrize(("name", "kind"), ODD_CASES)
def test_odd_cases(name, kind, update_golden, tmp_path):
    if name == "names" and not _names._isolates():
        pytest.skip("this matplotlib does not shape right-to-left text")
    if name == "names" and len(_names.fonts_for(["実験"])) > 1:
        pytest.skip("a font of this machine draws what the picture that is kept spells out")
    diagnosis = next(iter(pipeline.diagnose(ODD[name])))
    check(plots.draw(diagnosis, kind), f"odd-{name}-{kind}", update_golden, tmp_path)


def test_the_tolerance_sees_a_missing_curve_and_a_forgotten_correction():
    figure = plots.draw(sample("transformers-4.48.0"), "curves")
    whole = pixels(figure)
    curve = figure.axes[0].lines[-2]
    curve.set_visible(False)
    assert apart(whole, pixels(figure)) > 1.5 * TOLERANCE
    curve.set_visible(True)
    assert apart(whole, pixels(figure)) == 0
    for line in figure.axes[1].lines:
        line.set_ydata(np.asarray(line.get_ydata()) * 2)
    assert apart(whole, pixels(figure)) > 1.5 * TOLERANCE
