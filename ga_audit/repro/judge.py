"""What was measured in the cells of a matrix, as exponents on GA and a verdict."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ga_audit.errors import EngineFailed

TOLERANCE = 0.15  # a weighting bias (mean of means) measures 0.02; every known fault is a whole number


@dataclass(frozen=True, slots=True)
class Measured:
    """One cell: medians over its measured steps of measured / reference; None = not measured."""

    ga: int
    loss: float | None
    grad_norm: float | None
    gradient: float | None
    cosine: float | None
    eval_loss: float | None
    parameters: tuple[float, ...]  # the first ones, as the engine wrote them


@dataclass(frozen=True, slots=True)
class Judgement:
    """Exponents on GA, differences of the largest GA from the smallest, and the verdict."""

    cells: tuple[Measured, ...]
    loss: float | None
    grad_norm: float | None
    gradient: float | None
    parameters_differ: float | None  # relative to the norm, over the parameters that the engine kept
    eval_loss_differs: float | None
    verdict: str  # "healthy", "logging only", "gradients", "not measured"


def read_truth(path: Path) -> Measured:
    """The measured ratios in one `truth.json`.

    Raises
    ------
    EngineFailed
        the file is missing or is not what an engine writes.
    """
    try:
        truth = json.loads(path.read_text("utf-8"))
        logged = {row["step"]: row for row in truth["logged"]}
        pairs = [(logged[row["step"]], row) for row in truth["measured"] if row["step"] in logged]
        return Measured(
            ga=int(truth["ga"]),
            loss=_median_ratio(pairs, "loss", "reference_loss"),
            grad_norm=_median_ratio(pairs, "grad_norm", "reference_norm"),
            gradient=_median([row.get("ratio") for row in truth["measured"]]),
            cosine=_median([row.get("cosine") for row in truth["measured"]]),
            eval_loss=_last_eval(truth),
            parameters=tuple(float(x) for x in truth.get("parameters_head", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailed(
            f"no measurement to read ({type(error).__name__}: {error})", where=str(path), remedy="Run the cell again."
        ) from error


def _last_eval(truth: Mapping[str, Any]) -> float | None:
    values = [row["eval_loss"] for row in truth["logged"] if row.get("eval_loss") is not None]
    return float(values[-1]) if values else None


def _median_ratio(pairs: Sequence[tuple[Any, Any]], above: str, below: str) -> float | None:
    return _median([a[above] / b[below] for a, b in pairs if a.get(above) is not None and b.get(below)])


def _median(values: Sequence[float | None]) -> float | None:
    finite = [v for v in values if v is not None and math.isfinite(v)]
    return statistics.median(finite) if finite else None


def exponent(ga: Sequence[int], ratio: Sequence[float | None]) -> float | None:
    """Least-squares slope of ln(ratio) on ln(GA); None with fewer than two usable GAs."""
    points = [(math.log(g), math.log(r)) for g, r in zip(ga, ratio, strict=True) if r is not None and r > 0]
    if len({x for x, _ in points}) < 2:
        return None
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def judge(cells: Sequence[Measured]) -> Judgement:
    """The verdict on the cells of one stack at several GA."""
    cells = tuple(sorted(cells, key=lambda cell: cell.ga))
    ga = [cell.ga for cell in cells]
    loss = exponent(ga, [cell.loss for cell in cells])
    norm = exponent(ga, [cell.grad_norm for cell in cells])
    gradient = exponent(ga, [cell.gradient for cell in cells])
    return Judgement(cells, loss, norm, gradient, *_differences(cells), verdict(loss, norm, gradient))


def verdict(loss: float | None, grad_norm: float | None, gradient: float | None) -> str:
    """In words; without a measured gradient nothing is said."""
    if gradient is None:
        return "not measured"
    if abs(gradient) >= TOLERANCE:
        return "gradients"
    if any(e is not None and abs(e) >= TOLERANCE for e in (loss, grad_norm)):
        return "logging only"
    return "healthy" if loss is not None else "not measured"


def _differences(cells: tuple[Measured, ...]) -> tuple[float | None, float | None]:
    if len(cells) < 2:
        return None, None
    first, last = cells[0], cells[-1]
    size = math.hypot(*first.parameters) if first.parameters else 0.0
    same_shape = len(first.parameters) == len(last.parameters)
    parameters = math.dist(first.parameters, last.parameters) / size if size and same_shape else None
    both = first.eval_loss is not None and last.eval_loss is not None
    return parameters, (last.eval_loss - first.eval_loss if both else None)  # type: ignore[operator]


def table(judgement: Judgement) -> str:
    """The measured table as text."""
    head = f"{'GA':>4}  {'logged loss':>12}  {'logged grad_norm':>16}  {'real gradient':>13}  {'cosine':>7}"
    lines = [head, *(
        f"{c.ga:>4}  {_times(c.loss):>12}  {_times(c.grad_norm):>16}  {_times(c.gradient):>13}  {_number(c.cosine):>7}"
        for c in judgement.cells
    )]  # fmt: skip
    lines.append(
        f"exponent on GA: loss {_number(judgement.loss)}, grad_norm {_number(judgement.grad_norm)}, "
        f"gradient {_number(judgement.gradient)}"
    )
    lines.append(
        f"largest GA against smallest: parameters differ by {_number(judgement.parameters_differ)} (relative), "
        f"eval loss by {_number(judgement.eval_loss_differs)}"
    )
    lines.append(f"verdict: {judgement.verdict}")
    return "\n".join(lines)


def _times(value: float | None) -> str:
    return "-" if value is None else f"x{value:.3f}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
