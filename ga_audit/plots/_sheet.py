"""The sheet that a figure is drawn on: axes at fixed places, a heading, one legend above all axes.

Places are reckoned in the size of the type, not found by trial drawing (constrained layout draws everything twice, and
`loc="best"` measures every point). A legend above the axes covers no curve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

from ga_audit.plots import _curve, _names, _theme
from ga_audit.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NAMED = 8
_DASHES = ("-", (0, (5, 1.4)), (0, (3, 1, 1, 1)), (0, (1.2, 1)))
_CELL = (4.6, 2.35)  # inches: width of a column, height of its axes


@dataclass(frozen=True, slots=True)
class Family:
    """Runs that one line of the legend stands for: a single run, those of one GA, or the rest."""

    label: str
    runs: tuple[Run, ...]
    look: dict[str, Any]  # keywords of Line2D


@dataclass(slots=True)
class Sheet:
    """A figure in the making."""

    figure: Figure
    axes: list[list[Axes]]
    heading: str
    legend: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)  # room for tick labels of each column, in sizes of the type
    shared: bool = False  # rows share x, columns share y: the outer axes alone carry numbers


def families(runs: Sequence[Run]) -> list[Family]:
    """The runs as a legend can name them, with their looks.

    A GA has one colour in every figure, and the highest GA the widest line, drawn below the others, so that curves
    that lie on each other all show. Up to 8 runs stand alone. More are put together by GA, or, where GA is not known,
    all but the first 8 are grey and counted.
    """
    names = _names.labels(runs)
    if len(runs) <= _MOST_NAMED:
        looks = _by_ga([run.settings.ga for run in runs], 1.0)
        looks = looks or _looks([max(2.6 - 0.35 * i, 1.3) for i in range(len(runs))], 1.0)
        return [Family(n, (r,), look) for n, r, look in zip(names, runs, looks, strict=True)]
    gas = sorted({run.settings.ga for run in runs if run.settings.ga})
    if gas and len(gas) <= _MOST_NAMED:
        sets = [(f"GA {ga}", tuple(r for r in runs if r.settings.ga == ga)) for ga in gas]
        sets += [("GA unknown", rest)] if (rest := tuple(r for r in runs if not r.settings.ga)) else []
        looks = _by_ga([*gas, *([None] * (len(sets) - len(gas)))], 0.75, width=0.9) or _looks([0.9] * len(sets), 0.75)
        return [Family(f"{n} ({len(m)} run{'s' * (len(m) != 1)})", m, k) for (n, m), k in zip(sets, looks, strict=True)]
    looks = _looks([1.1] * _MOST_NAMED, 0.9)
    first = [Family(n, (r,), k) for n, r, k in zip(names[:_MOST_NAMED], runs[:_MOST_NAMED], looks, strict=True)]
    rest = tuple(runs[_MOST_NAMED:])
    grey = {"color": _theme.quiet(), "linestyle": "-", "linewidth": 0.7, "alpha": 0.6, "zorder": 1.5}
    return [*first, Family(f"and {len(rest)} more", rest, grey)]


def _by_ga(gas: Sequence[int | None], alpha: float, *, width: float | None = None) -> list[dict[str, Any]]:
    """Looks by GA, runs of one GA told apart by dashes; empty where two GA are not known or a style has colours."""
    levels = sorted({ga for ga in gas if ga})
    if not levels or any(_theme.ga_colour(ga) is None for ga in levels):
        return []
    seen: Counter[int | None] = Counter()
    looks = []
    for ga in gas:
        rank = (levels.index(ga) + 1) / len(levels) if ga else 0.0
        looks.append({
            "color": (_theme.ga_colour(ga) if ga else None) or _theme.quiet(),
            "linestyle": _DASHES[seen[ga] % len(_DASHES)] if ga else ":",
            "linewidth": width or 1.2 + 1.6 * rank, "alpha": alpha, "zorder": 2.5 - 0.4 * rank,
        })  # fmt: skip
        seen[ga] += 1
    return looks


def _looks(widths: Sequence[float], alpha: float) -> list[dict[str, Any]]:
    kinds = zip(cycle(_theme.run_colours()), cycle(_DASHES), widths, strict=False)
    return [{"color": c, "linestyle": s, "linewidth": w, "alpha": alpha} for c, s, w in kinds]


def each_run(shown: Sequence[Family]) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Every run with its look."""
    for family in shown:
        for run in family.runs:
            yield run, family.look


def sheet(columns: int, rows: int, heading: str, shown: Sequence[Family] = (), *, shared: bool = False) -> Sheet:
    """Axes in columns and rows under a heading, with families in the legend.

    `shared`: axes of a column have one x axis and those of a row one y axis, so the outer ones alone carry numbers.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_CELL[0] * columns, _CELL[1] * rows))
    FigureCanvasAgg(figure)
    # where they stand is said in `finish`
    axes = [[figure.add_axes((0, 0, 1, 1), label=f"{i} {j}") for j in range(columns)] for i in range(rows)]
    for row in axes:
        for ax in row:
            ax.set_autoscale_on(False)  # limits are said too
    left = [4.6] + [0.6 if shared else 4.6] * (columns - 1)
    return Sheet(figure, axes, heading, [(f.label, f.look) for f in shown], left, shared)


def finish(page: Sheet) -> Figure:
    """Put everything in its place; lengths are reckoned in sizes of the type."""
    import matplotlib
    from matplotlib.font_manager import FontProperties

    def size(key: str) -> float:
        return float(FontProperties(size=matplotlib.rcParams[key]).get_size_in_points()) / 72

    em = max(size("font.size"), size("axes.titlesize"), size("xtick.labelsize"), size("legend.fontsize"))
    if any(line.get_label() == _curve.LOST for ax in _flat(page) for line in ax.lines):
        page.legend.append(("NaN or infinite", {"color": _theme.quiet(), **_curve.LOST_LOOK}))
    columns, rows = len(page.axes[0]), len(page.axes)
    width = _CELL[0] * columns * max(1.0, em / 0.14)
    per_row, n_rows = _legend_shape(page, width / em)
    top = (2.6 + 1.5 * n_rows) * em
    below = [(0.6 if page.shared else 3.4) * em] * (rows - 1) + [3.6 * em]
    height = top + rows * (2.0 * em + _CELL[1]) + sum(below)
    page.figure.set_size_inches(width, height)
    each = (width - (sum(page.left) + 1.4 * columns) * em) / columns
    for i, row in enumerate(page.axes):
        base = height - top - (i + 1) * (2.0 * em + _CELL[1]) - sum(below[:i])
        for j, ax in enumerate(row):
            left = sum(page.left[: j + 1]) * em + j * (each + 1.4 * em)
            ax.set_position((left / width, base / height, each / width, _CELL[1] / height))
            # a place that is said is not measured, and so not drawn for measuring
            ax.xaxis.set_label_coords(0.5, -2.9 * em / _CELL[1])
            ax.xaxis.label.set_verticalalignment("baseline")
            ax.yaxis.set_label_coords(0, 0.5)
    families = _names.fonts_for(
        [page.heading, *(t for t, _ in page.legend), *(ax.get_title("left") for ax in _flat(page))]
    )
    families += [f for f in matplotlib.rcParams["font.family"] if f not in families]
    look = {"fontweight": "bold", "fontsize": matplotlib.rcParams["axes.titlesize"], "family": families}
    page.figure.text(0.8 * em / width, 1 - 0.7 * em / height, page.heading, va="top", **look)
    if page.legend:
        _legend(page, per_row, 0.8 * em / width, 1 - 2.2 * em / height, families)
    return page.figure


def _flat(page: Sheet) -> list[Axes]:
    return [ax for row in page.axes for ax in row]


def _legend_shape(page: Sheet, width: float) -> tuple[int, int]:
    """Columns and rows of the legend, filled column by column, for a sheet of `width` sizes of the type."""
    sizes = [0.62 * _names.columns(text) + 4.0 for text, _ in page.legend]
    for rows in range(1, len(sizes) + 1):
        columns = -(-len(sizes) // rows)
        # matplotlib gives the first columns one entry more where they do not come out even
        short = columns * rows - len(sizes)
        cut = [rows] * (columns - short) + [rows - 1] * short
        parts, at = [], 0
        for n in cut:
            parts.append(max(sizes[at : at + n], default=0.0))
            at += n
        if sum(parts) <= width - 2:
            return columns, rows
    return min(len(sizes), 1), len(sizes)


def _legend(page: Sheet, per_row: int, left: float, top: float, families: Sequence[str]) -> None:
    import matplotlib
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], **look) for _, look in page.legend]
    page.figure.legend(
        keys, [text for text, _ in page.legend], loc="upper left", bbox_to_anchor=(left, top), ncols=per_row,
        frameon=False, borderpad=0, borderaxespad=0, handlelength=2.2, columnspacing=1.4, labelspacing=0.3,
        prop={"family": list(families), "size": matplotlib.rcParams["legend.fontsize"]},
    )  # fmt: skip


def say(ax: Axes, text: str) -> None:
    """A sentence instead of data."""
    for line in list(ax.lines):
        line.remove()
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, wrap=True)
    ax.grid(visible=False)
    ax.set(xticks=[], yticks=[])
