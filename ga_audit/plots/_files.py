"""A figure as files: PNG for screens of twice the resolution, SVG, and their dark variants."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ga_audit._version import __version__
from ga_audit.plots import _theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WRITER = f"ga-audit {__version__}"
_DPI = 160  # a sheet of two columns is 1472 pixels wide: twice the column of an issue tracker
Pixels = NDArray[np.uint8]
# who reads an SVG may not have the font; matplotlib's own list of them is long and stands in every text
_FAMILIES = "'DejaVu Sans', Verdana, sans-serif"
_DIGITS = re.compile(r"(\.\d\d)\d{4}(?!\d)")  # a hundredth of a point is enough
_PAINT = re.compile(r"((?:fill|stroke): ?)(#[0-9a-f]{6})")


@dataclass(frozen=True, slots=True)
class Pictures:
    """One figure in every form that a report holds."""

    png: bytes
    png_dark: bytes
    svg: bytes
    svg_dark: bytes


def pictures(figure: Figure) -> Pictures:
    """PNG and SVG of a light figure; the dark variants by mapping colours (`_theme.dark`), nothing is drawn again."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(_DPI)
    canvas.draw()
    light, dark = _png(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    figure.set_dpi(100)
    svg = _svg(figure)
    svg_dark = _PAINT.sub(lambda m: m[1] + _theme.dark_hex(m[2]), svg)
    return Pictures(light, dark, svg.encode(), svg_dark.encode())


def write(figure: Figure, path: Path) -> Path:
    """Write a figure; the suffix says as what."""
    suffix = path.suffix.lower()
    if suffix == ".svg":
        path.write_text(_svg(figure), "utf-8")
    else:
        # by it `--force` knows a file of ours
        figure.savefig(path, dpi=_DPI, metadata={"Software" if suffix == ".png" else "Creator": _WRITER})
    return path


def _svg(figure: Figure) -> str:
    import matplotlib

    out = io.StringIO()
    # read when a file is written, after the theme has ended
    with matplotlib.rc_context(_theme.SVG):
        heading = figure.texts[0].get_text() if figure.texts else "ga-audit"
        figure.savefig(out, format="svg", metadata={"Date": None, "Title": heading, "Creator": _WRITER})
    text = out.getvalue().replace("'DejaVu Sans'", _FAMILIES)
    return _DIGITS.sub(r"\1", text)


def _png(pixels: Pixels) -> tuple[bytes, bytes]:
    """The picture and its dark variant: 256 colours chosen for it, and those mapped."""
    from PIL import Image

    image = Image.fromarray(pixels).quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    # an entry is the mean of its colours: the ground, most of the picture, is to be exact
    palette[np.asarray(image)[0, 0]] = pixels[0, 0]
    return _encoded(image, palette), _encoded(image, _theme.dark_bytes(palette))


def _encoded(image: Any, palette: Pixels) -> bytes:
    image.putpalette(palette.tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=4, dpi=(_DPI, _DPI))
    return out.getvalue()
