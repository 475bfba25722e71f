"""Colours, fonts and sizes: one light theme, and the affine map of colours that makes its dark variant.

The colours of the runs are those of Okabe and Ito (2008), told apart by colour-blind people; dashes and widths differ
too, so that a print without colour can be read. The dark variant is no second theme: `dark_bytes` maps white to the dark
ground and black to light text, and keeps hue and saturation. Being affine, it maps a blend of two colours to the blend
of their images, so a finished picture, its soft edges included, can be mapped instead of drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ga_audit.errors import AuditError

if TYPE_CHECKING:
    from ga_audit.run import FloatArray

INK = "#1c2024"
GREY = "#80868b"
_RUNS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c00", "#5b5b5b")
# GA 1, 2, 4, 8, ...; each has a contrast of 3 to 1 or more with white
_BY_GA = ("#80868b", "#c47500", "#c2410c", "#9d174d", "#6b1d8e", "#3b1580", "#1e1250")
_BASE = {
    "axes.axisbelow": True, "axes.edgecolor": GREY, "axes.grid": True, "axes.labelcolor": INK, "axes.labelsize": "medium",
    "axes.spines.right": False, "axes.spines.top": False, "axes.titlelocation": "left", "axes.titlesize": "medium",
    "axes.titley": 1.03,  # said, so that nothing has to be measured for it
    "figure.facecolor": "#ffffff", "axes.facecolor": "#ffffff", "font.size": 9.0, "grid.color": "#dfe2e5",
    "grid.linewidth": 0.6, "legend.fontsize": "medium", "path.simplify_threshold": 0.3, "savefig.facecolor": "auto",
    "text.color": INK, "text.parse_math": False, "text.usetex": False, "xtick.bottom": False, "xtick.color": INK,
    "ytick.color": INK, "ytick.left": False,  # the grid says where
}  # fmt: skip
# text stays text: small files that can be searched, read aloud, and shown in any script that the reader has
SVG = {"svg.fonttype": "none", "svg.hashsalt": "ga-audit"}
_COLOURS = (
    "figure.facecolor", "axes.facecolor", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "grid.color",
    "text.color", "xtick.color", "xtick.labelcolor", "ytick.color", "ytick.labelcolor",
)  # fmt: skip
_GROUND = np.array([0x14, 0x17, 0x1C]) / 255  # what white becomes
_LIGHT = np.array([0xF0, 0xF0, 0xF0]) / 255  # what black becomes
_LUMA = np.array([0.2126, 0.7152, 0.0722])


def _affine() -> tuple[FloatArray, FloatArray]:
    """Matrix (3, 3) and offset (3,) with dark = matrix @ light + offset; channels from 0 to 1.

    The grey part of a colour runs from `_LIGHT` (black) to `_GROUND` (white); what it has beyond grey is kept.
    """
    return np.eye(3) - np.outer(np.ones(3), _LUMA) + np.outer(_GROUND - _LIGHT, _LUMA), _LIGHT


def dark_bytes(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours (..., 3) in the dark variant."""
    matrix, offset = _affine()
    out: NDArray[np.uint8] = np.clip(np.rint(colours @ matrix.T + 255 * offset), 0, 255).astype(np.uint8)
    return out


@cache
def dark_hex(colour: str) -> str:
    """`#rrggbb` in the dark variant."""
    return "#" + dark_bytes(np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)).tobytes().hex()


@contextmanager
def applied(*, dark: bool, style: str | None) -> Iterator[None]:
    """Our settings, then a style, then the dark map of all their colours; outside nothing changes.

    Raises
    ------
    AuditError
        no such style.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib import style as styles

    ours = {**_BASE, "font.family": ["DejaVu Sans"], "axes.prop_cycle": cycler(color=_RUNS)}
    with matplotlib.rc_context(ours):
        if style is not None:
            try:
                styles.use(style)
            except OSError:
                raise AuditError(f"no matplotlib style {style!r}", remedy="See matplotlib.style.available.") from None
        rc = matplotlib.rcParams
        # run names are plain text whatever the style says, and SVG files leave black unsaid, so there is none
        rc.update({"text.parse_math": False, "text.usetex": False})
        rc.update({key: _said(rc[key], dark) for key in _COLOURS})
        rc["axes.prop_cycle"] = cycler(
            color=[_said(c, dark) for c in rc["axes.prop_cycle"].by_key().get("color", _RUNS)]
        )
        yield


def _said(colour: object, dark: bool) -> str:
    from matplotlib.colors import is_color_like, to_hex

    if colour in ("auto", "inherit") or not is_color_like(colour):
        return str(colour)
    said = to_hex(colour)
    said = "#010101" if said == "#000000" else said
    return dark_hex(said) if dark else said


def run_colours() -> list[str]:
    """Colours for runs under the theme that is applied, at least one."""
    import matplotlib

    return [str(c) for c in matplotlib.rcParams["axes.prop_cycle"].by_key().get("color", _RUNS)] or list(_RUNS)


def ga_colour(ga: int) -> str | None:
    """The colour of a GA in every figure: grey for 1, then from light to dark; None under a style with its own colours."""
    dark = [dark_hex(colour) for colour in _RUNS]
    cycle = [colour.lower() for colour in run_colours()]
    light = cycle == [colour.lower() for colour in _RUNS]
    if not light and cycle != dark:
        return None
    colour = _BY_GA[min(max(ga, 1).bit_length() - 1, len(_BY_GA) - 1)]
    return colour if light else dark_hex(colour)


def ink() -> str:
    """The colour of text under the theme that is applied."""
    import matplotlib

    return str(matplotlib.rcParams["text.color"])


def quiet() -> str:
    """The colour of guide lines under the theme that is applied: half way from the ground to the text."""
    import matplotlib
    from matplotlib.colors import to_hex, to_rgb

    text, ground = (np.array(to_rgb(matplotlib.rcParams[key])) for key in ("text.color", "axes.facecolor"))
    return str(to_hex((text + ground) / 2))
