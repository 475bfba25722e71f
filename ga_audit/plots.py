"""Figures of a diagnosis; draws, never computes.

matplotlib's Figure API without pyplot, so nothing global changes. Colours are those of Okabe and Ito (2008), told apart
by colour-blind people; runs differ in line style too, so a print without colour can be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ga_audit.errors import AuditError
from ga_audit.finding import Diagnosis
from ga_audit.run import FloatArray, IntArray, Role, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("curves", "regression", "ratio", "clipping", "evidence")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c00")
_STYLES = ("-", "--", "-.", ":")
_MOST_POINTS = 2000  # drawn per curve: extremes of each bin are kept, see `thinned`
_MOST_NAMED = 12
_DARK = {
    "figure.facecolor": "#14171c", "axes.facecolor": "#14171c", "savefig.facecolor": "#14171c", "text.color": "#e6e6e6",
    "axes.edgecolor": "#9aa0a6", "axes.labelcolor": "#e6e6e6", "xtick.color": "#c9cdd2", "ytick.color": "#c9cdd2",
    "grid.color": "#3a3f46", "legend.facecolor": "#1d2127", "legend.edgecolor": "#3a3f46",
}  # fmt: skip
_BASE = {
    "font.size": 9.0, "axes.grid": True, "grid.alpha": 0.4, "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "ga-audit", "axes.titlesize": 10.0, "legend.fontsize": 8.0, "legend.framealpha": 0.85,
}  # fmt: skip


def draw(diagnosis: Diagnosis, kind: str = "curves", *, dark: bool = False, style: str | None = None) -> Figure:
    """One figure of a diagnosis.

    Parameters
    ----------
    diagnosis : what is drawn.
    kind : one of `KINDS`.
    dark : light text on a dark ground.
    style : a matplotlib style name or file, laid over ours.

    Raises
    ------
    AuditError
        no such kind or style.
    """
    if kind not in KINDS:
        raise AuditError(f"no plot {kind!r}", remedy=f"Take one of {', '.join(KINDS)}.")
    with _style(dark, style):
        return _DRAWN[kind](diagnosis)


@contextmanager
def _style(dark: bool, style: str | None) -> Iterator[None]:
    import matplotlib
    from matplotlib import style as styles

    with matplotlib.rc_context({**_BASE, **(_DARK if dark else {})}):
        if style is not None:
            try:
                styles.use(style)
            except OSError:
                raise AuditError(f"no matplotlib style {style!r}", remedy="See matplotlib.style.available.") from None
        yield


def save(figure: Figure, stem: Path, suffixes: Sequence[str] = (".png", ".svg")) -> list[Path]:
    """Write a figure beside `stem`, PNG at twice the screen's resolution."""
    written = []
    for suffix in suffixes:
        path = stem.with_name(stem.name + suffix)
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(path, dpi=200, metadata=metadata, facecolor=figure.get_facecolor())
        written.append(path)
    return written


def thinned(step: IntArray, value: FloatArray, most: int = _MOST_POINTS) -> tuple[IntArray, FloatArray]:
    """At most about `most` points of a curve: lowest and highest of each bin, so that no spike is lost.

    Parameters
    ----------
    step, value : (n,)
    most : points to keep.
    """
    n = len(step)
    if n <= most:
        return step, value
    edges = np.linspace(0, n, most // 2 + 1).astype(np.int64)
    keep = []
    for low, high in pairwise(edges):
        part = value[low:high]
        if np.all(np.isnan(part)):
            keep.append(low)
            continue
        keep += sorted({low + int(np.nanargmin(part)), low + int(np.nanargmax(part))})
    index = np.array(keep)
    return step[index], value[index]


def _figure(columns: int, rows: int = 1) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, 3.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        # constrained layout and rc colours are read when drawn, after our style has ended
        ax.set_axisbelow(True)
    return figure, axes


def label(run: Run) -> str:
    """A run's name for a legend, at most 28 characters, no mathtext."""
    name = "".join(c if c.isprintable() else "?" for c in run.name)
    name = name if len(name) <= 28 else f"{name[:13]}…{name[-13:]}"
    ga = run.settings.ga
    text = name if ga is None or f"ga{ga}" in name.lower() else f"{name} (GA {ga})"
    return text.replace("$", r"\$")


def _lines(runs: Sequence[Run]) -> Iterator[tuple[Run, dict[str, Any]]]:
    looks = cycle([(c, s) for s in _STYLES for c in _COLOURS])
    for i, (run, (colour, line)) in enumerate(zip(runs, looks, strict=False)):
        named = {"label": label(run)} if i < _MOST_NAMED else {}
        # a second channel beside colour: later runs are thinner, so that overlaid curves all show
        yield run, {"color": colour, "linestyle": line, "linewidth": max(2.6 - 0.45 * i, 0.9), **named}


def _plain_axis(ax: Axes, title: str, ylabel: str, xlabel: str = "optimizer step") -> None:
    ax.set_title(title, loc="left")
    ax.set_ylabel(ylabel)
    ax.set_xlabel(xlabel)


def _log_if_wide(ax: Axes, values: Sequence[FloatArray]) -> None:
    finite = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.empty(0)
    if len(finite) and finite.min() > 0 and finite.max() / finite.min() > 4:
        from matplotlib.ticker import NullFormatter, ScalarFormatter

        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(ScalarFormatter())
        wide = finite.max() / finite.min() > 30
        ax.yaxis.set_minor_formatter(NullFormatter() if wide else ScalarFormatter())


def _empty(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, wrap=True)
    ax.grid(visible=False)


def _curves(d: Diagnosis) -> Figure:
    """Logged beside corrected curves, one row for each quantity, eval loss where there is one."""
    roles = [r for r in (Role.LOSS, Role.GRAD_NORM) if any(run.get(r) for run in d.runs)] or [Role.LOSS]
    figure, axes = _figure(2, len(roles))
    for row, role in zip(axes, roles, strict=True):
        shown: list[list[FloatArray]] = [[], []]
        for run, look in _lines(d.runs):
            series = run.get(role)
            if series is None or not len(series):
                continue
            step, value = thinned(series.step, series.value)
            marker = {"marker": "o", "markersize": 4} if len(step) < 3 else {}
            for i, factor in enumerate((1.0, math.exp(d.log_factor(run, role)))):
                row[i].plot(step, value / factor, **look, **marker)
                shown[i].append(value / factor)
            evals = run.get(Role.EVAL_LOSS) if role is Role.LOSS else None
            if evals is not None:
                for i in range(2):
                    row[i].plot(
                        evals.step, evals.value, linestyle="none", marker="x", color=look["color"], markersize=5
                    )
        _plain_axis(row[0], f"{role.value} as logged", role.value)
        found = any(f.role is role for f in d.findings)
        _plain_axis(row[1], f"{role.value} {'corrected' if found else '(nothing to correct)'}", role.value)
        for ax, values in zip(row, shown, strict=True):
            _log_if_wide(ax, values)
        low, high = row[0].get_ylim()
        if found and row[0].get_yscale() == "log":
            row[1].set_yscale("log")
            row[1].set_ylim(low, high)
    handles, _ = axes[0][0].get_legend_handles_labels()
    if handles:
        more = f"\n+{len(d.runs) - _MOST_NAMED} more" if len(d.runs) > _MOST_NAMED else ""
        axes[0][0].legend(
            title=f"x: eval loss{more}" if any(r.get(Role.EVAL_LOSS) for r in d.runs) else (more.strip() or None)
        )
    return figure


def _levels(run: Run, role: Role) -> float:
    series = run.get(role)
    if series is None:
        return math.nan
    good = series.value[np.isfinite(series.value) & (series.value > 0)]
    return float(np.mean(np.log(good))) if len(good) else math.nan


def _regression(d: Diagnosis) -> Figure:
    """Log ratio against log GA with the lines of slope 0, 1 and -1, and the fitted exponent with its interval."""
    roles = (Role.LOSS, Role.GRAD_NORM)
    figure, axes = _figure(2)
    runs = [run for run in d.runs if run.settings.ga]
    for ax, role in zip(axes[0], roles, strict=True):
        points = [(run.settings.ga or 1, _levels(run, role)) for run in runs]
        points = [(g, y) for g, y in points if math.isfinite(y)]
        _plain_axis(ax, role.value, "ratio to the smallest GA", "gradient_accumulation_steps")
        if len({g for g, _ in points}) < 2:
            _empty(ax, "needs two values of GA")
            continue
        smallest = min(g for g, _ in points)
        base = float(np.mean([y for g, y in points if g == smallest]))
        x = np.array([g for g, _ in points], float)
        y = np.exp([y - base for _, y in points])
        grid = np.array([x.min(), x.max()])
        for slope, text in ((0, "right"), (1, "summed"), (-1, "divided")):
            ax.plot(grid, (grid / smallest) ** slope, color="#888888", linewidth=0.9, linestyle=(0, (4, 3)))
            ax.annotate(text, (grid[1], (grid[1] / smallest) ** slope), textcoords="offset points", xytext=(3, 0), fontsize=8,
                        va="center")  # fmt: skip
        estimate = next((p.estimate for p in d.evidence if p.role is role and p.estimate), None)
        if estimate is not None:
            fan = np.geomspace(grid[0], grid[1], 50)
            low, high = estimate.interval.low, estimate.interval.high
            ax.fill_between(
                fan, (fan / smallest) ** low, (fan / smallest) ** high, color=_COLOURS[0], alpha=0.2, linewidth=0
            )
            ax.plot(fan, (fan / smallest) ** estimate.value, color=_COLOURS[0])
            ax.set_title(f"{role.value}: exponent {estimate.value + 0.0:.3f} [{low:.3f}, {high:.3f}]", loc="left")
        ax.plot(x, y, "o", color=_COLOURS[1], markersize=6, zorder=3)
        _log2_axes(ax, x)
    return figure


def _log2_axes(ax: Axes, x: FloatArray) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ticks = sorted(set(x.tolist()))
    ax.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) < 9 else ticks[:: len(ticks) // 8 + 1]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if v >= 1 else f"1/{1 / v:g}"))
    ax.set_xlim(min(ticks) / 1.15, max(ticks) * 1.6)


def _ratio(d: Diagnosis) -> Figure:
    """Each run against the one with the smallest GA, over training, with the expected lines."""
    figure, axes = _figure(2)
    known = [run for run in d.runs if run.settings.ga]
    reference = min(known, key=lambda r: r.settings.ga or 1) if known else None
    for ax, role in zip(axes[0], (Role.LOSS, Role.GRAD_NORM), strict=True):
        _plain_axis(ax, f"{role.value}: ratio to {label(reference) if reference else 'the reference'}", "ratio")
        base = reference.get(role) if reference else None
        drawn = []
        for run, look in _lines(d.runs):
            series = run.get(role)
            if run is reference or series is None or base is None:
                continue
            common, mine, theirs = np.intersect1d(series.step, base.step, return_indices=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                value = series.value[mine] / base.value[theirs]
            if not len(common):
                continue
            step, value = thinned(common, value)
            ax.plot(step, value, **look, marker="o" if len(step) < 3 else None)
            drawn.append(value)
            if run.settings.ga and reference and reference.settings.ga:
                ax.axhline(
                    run.settings.ga / reference.settings.ga, color=look["color"], linewidth=0.8, linestyle=(0, (1, 2))
                )
        if not drawn:
            _empty(ax, "no two runs share a step")
            continue
        ax.axhline(1.0, color="#888888", linewidth=0.9)
        _log_if_wide(ax, [*drawn, np.ones(1)])
        ax.legend(title="dotted: what a sum would give")
    return figure


def _clipping(d: Diagnosis) -> Figure:
    """grad_norm against max_grad_norm, logged and corrected, with the share of clipped steps."""
    figure, axes = _figure(2)
    shares = {c.run: c for c in d.clipping}
    for i, ax in enumerate(axes[0]):
        _plain_axis(ax, "grad_norm as logged" if i == 0 else "grad_norm corrected", "grad_norm")
        drawn = []
        limits = set()
        for run, look in _lines(d.runs):
            series = run.get(Role.GRAD_NORM)
            if series is None or not len(series):
                continue
            step, value = thinned(series.step, series.value)
            factor = math.exp(d.log_factor(run, Role.GRAD_NORM)) if i else 1.0
            share = shares.get(run.name)
            if share and "label" in look:
                part = share.as_corrected if i else share.as_logged
                look["label"] += f": {part:.0%} clipped"
                limits.add(share.max_grad_norm)
            ax.plot(step, value / factor, **look)
            drawn.append(value / factor)
        if not drawn:
            _empty(ax, "no grad_norm in these logs")
            continue
        for limit in sorted(limits):
            ax.axhline(limit, color="#888888", linewidth=1.2, linestyle=(0, (5, 2)))
            ax.annotate(f"max_grad_norm {limit:g}", (0.99, limit), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                        fontsize=8)  # fmt: skip
        _log_if_wide(ax, [*drawn, np.array(sorted(limits))])
        ax.legend()
    return figure


def _evidence(d: Diagnosis) -> Figure:
    """What each piece of evidence adds: log-likelihood of the leading hypothesis against healthy, in nats."""
    figure, axes = _figure(1)
    ax = axes[0][0]
    rows = []
    for piece in d.evidence:
        others = {h: x for h, x in piece.log_likelihood.items() if h.name not in {"healthy", "other"}}
        if others:
            best = max(others, key=lambda h: others[h])
            rows.append((f"{piece.kind} on {piece.role.value}", best.name, others[best]))
    _plain_axis(ax, "for a fault (right), for healthy (left)", "", "nats: ln(likelihood ratio to healthy)")
    if not rows:
        _empty(ax, "no evidence could speak")
        return figure
    at = np.arange(len(rows))
    ax.barh(at, [x for *_, x in rows], color=[_COLOURS[1] if x > 0 else _COLOURS[2] for *_, x in rows])
    ax.set_yticks(at, [f"{kind}\n{name}" for kind, name, _ in rows])
    ax.axvline(0, color="#888888", linewidth=1)
    ax.invert_yaxis()
    return figure


_DRAWN: dict[str, Callable[[Diagnosis], Figure]] = {
    "curves": _curves, "regression": _regression, "ratio": _ratio, "clipping": _clipping, "evidence": _evidence,
}  # fmt: skip
