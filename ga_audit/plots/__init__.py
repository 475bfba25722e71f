"""Figures of a diagnosis; draws, never computes.

One kind of figure is one module of this folder with `figure(diagnosis)`. matplotlib's Figure API without pyplot, so
nothing global changes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ga_audit.conclusion import Diagnosis
from ga_audit.errors import AuditError
from ga_audit.plots._curve import thinned
from ga_audit.plots._names import labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ga_audit.plots._files import Pictures

__all__ = ["KINDS", "draw", "labels", "pictures", "save", "thinned"]
KINDS = ("curves", "regression", "ratio", "clipping", "evidence")


def draw(diagnosis: Diagnosis, kind: str = "curves", *, dark: bool = False, style: str | None = None) -> Figure:
    """One figure of a diagnosis.

    Parameters
    ----------
    diagnosis : what is drawn.
    kind : one of `KINDS`.
    dark : light text on a dark ground.
    style : a matplotlib style name or file, laid over ours; its colours and sizes are taken.

    Raises
    ------
    AuditError
        no such kind or style.
    """
    from ga_audit.plots import _theme

    if kind not in KINDS:
        raise AuditError(f"no plot {kind!r}", remedy=f"Take one of {', '.join(KINDS)}.")
    with _theme.applied(dark=dark, style=style):
        figure: Figure = importlib.import_module(f"ga_audit.plots.{kind}").figure(diagnosis)
    return figure


def pictures(diagnosis: Diagnosis, kind: str, *, style: str | None = None) -> Pictures | None:
    """One figure as PNG and SVG, each light and dark; drawn once for each file type. None: there is nothing to show.

    Raises
    ------
    AuditError
        no such kind or style.
    """
    from ga_audit.plots import _files

    figure = draw(diagnosis, kind, style=style)
    return _files.pictures(figure) if any(ax.has_data() for ax in figure.axes) else None


def save(figure: Figure, stem: Path, suffixes: Sequence[str] = (".png", ".svg")) -> list[Path]:
    """Write a figure beside `stem`, PNG for screens of twice the resolution."""
    from ga_audit.plots import _files

    return [_files.write(figure, stem.with_name(stem.name + suffix)) for suffix in suffixes]
