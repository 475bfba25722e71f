"""For the tests of a trainer: its losses and gradients must not depend on gradient accumulation.

from ga_audit.testing import assert_ga_invariant

def test_gradient_accumulation(tmp_path):
    assert_ga_invariant(lambda ga: my_training(gradient_accumulation_steps=ga), ga=[1, 2, 4])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ga_audit.errors import WrongUsage

GRADIENT_NAMES = ("gradient", "gradients", "grads", "grad")
QUANTITIES = ("loss", "grad_norm", "gradient")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What one training gave: values of each optimizer step, and the gradient of the first."""

    loss: tuple[float, ...] = ()
    grad_norm: tuple[float, ...] = ()
    gradient: tuple[float, ...] = ()  # flat; of the first step


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One quantity over GA: exponents and the factor at each GA, relative to the smallest."""

    quantity: str
    factors: Mapping[int, float]
    exponent: float
    cosines: Mapping[int, float] = field(default_factory=dict)
    wrong: bool

    def reading(self) -> str:
        """What the factors say."""
        if not all(map(math.isfinite, self.factors.values())) or not math.isfinite(self.exponent):
            return "not a number, or zero"
        base, power = next(iter(self.factors)), round(self.exponent)
        clean = all(abs(f / (ga / base) ** power - 1) < 0.1 for ga, f in self.factors.items())
        turned = [f"{c:.4f} at GA {ga}" for ga, c in self.cosines.items() if c < 0.999]
        if turned:
            return f"another direction: cosine {', '.join(turned)}: unequal weights, lost micro-batches or other data"
        if not self.wrong:
            return "the same at every GA"
        known = {
            1: "summed over micro-batches",
            -1: "divided by GA once too often",
            -2: "divided by GA twice too often",
        }
        return known.get(round(self.exponent), "no power of GA") if clean else "differs, by no power of GA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariance:
    """The comparison of trainings at several GA."""

    ga: tuple[int, ...]
    compared: tuple[Compared, ...]
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether nothing depends on GA."""
        return not any(one.wrong for one in self.compared)

    def table(self) -> str:
        """The factors, one row for each quantity."""
        head = ["quantity", *(f"GA {ga}" for ga in self.ga), "exponent", "reading"]
        body = [
            [one.quantity, *(f"x{one.factors[ga]:.4g}" for ga in self.ga), f"{one.exponent:+.2f}", one.reading()]
            for one in self.compared
        ]
        width = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
        return "\n".join(
            "  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip() for row in [head, *body]
        )


def assert_ga_invariant(
    train: Callable[[int], Any], ga: Sequence[int] = (1, 2, 4), *, tolerance: float = 0.02, steps: int | None = None
) -> Invariance:
    """Train at several GA, on the same data in the same effective batch, and compare.

    Parameters
    ----------
    train : `train(gradient_accumulation_steps)` trains a few steps and returns one of: a list of losses; a mapping with
        `loss` and, if there are any, `grad_norm` (each a number or a list) and `gradient` (arrays, tensors, or a mapping or
        list of them, of the first step); a `Trainer` of transformers, or its `state.log_history`; the path of its logs; a
        model whose parameters hold the gradient.
    ga : the values; the first is what the others are compared with, as a rule 1.
    tolerance : relative difference that is no fault. Dropout has to be off.
    steps : only the first so many optimizer steps are compared.

    Returns
    -------
    Invariance
        the factors, for a test that wants to look at them.

    Raises
    ------
    AssertionError
        with the table, if something depends on GA.
    WrongUsage
        if `train` gave nothing that can be compared.

    Examples
    --------
    >>> def train(gradient_accumulation_steps):
    ...     return {"loss": [4.0 * gradient_accumulation_steps, 3.9 * gradient_accumulation_steps]}
    >>> assert_ga_invariant(train, ga=[1, 4])
    Traceback (most recent call last):
    ...
    AssertionError: the training depends on gradient accumulation:
    quantity  GA 1  GA 4  exponent  reading
    loss      x1    x4    +1.00     summed over micro-batches
    """
    found = measure_invariance(train, ga, tolerance=tolerance, steps=steps)
    if not found.holds:
        raise AssertionError(f"the training depends on gradient accumulation:\n{found.table()}")
    return found


def measure_invariance(
    train: Callable[[int], Any], ga: Sequence[int] = (1, 2, 4), *, tolerance: float = 0.02, steps: int | None = None
) -> Invariance:
    """The comparison of `assert_ga_invariant`, without the assertion."""
    values = tuple(dict.fromkeys(ga))
    if len(values) < 2 or any(not isinstance(one, int) or one < 1 for one in values):
        raise WrongUsage(f"ga={list(ga)}: two different positive numbers at least are compared")
    runs = {one: read(train(one)) for one in values}
    first = runs[values[0]]
    compared = []
    for quantity in QUANTITIES:
        lengths = {len(getattr(run, quantity)) for run in runs.values()}
        if lengths == {0}:
            continue
        if 0 in lengths or (quantity == "gradient" and len(lengths) > 1):
            sizes = {one: len(getattr(run, quantity)) for one, run in runs.items()}
            raise WrongUsage(f"{quantity} has unequal numbers of values: {sizes}")
        compared.append(_compare(quantity, values, runs, first, tolerance=tolerance, steps=steps))
    if not compared:
        raise WrongUsage(
            "train() returned neither losses nor gradients",
            remedy="Return a list of losses, a mapping with loss, grad_norm or gradient, a Trainer, or the path of its logs.",
        )
    return Invariance(ga=values, compared=tuple(compared), tolerance=tolerance)


def _compare(
    quantity: str, values: tuple[int, ...], runs: Mapping[int, Trained], first: Trained, *, tolerance: float,
    steps: int | None,
) -> Compared:  # fmt: skip
    base: tuple[float, ...] = getattr(first, quantity)
    factors, cosines, apart = {}, {}, False
    for one in values:
        series: tuple[float, ...] = getattr(runs[one], quantity)
        if quantity == "gradient":
            factors[one], cosines[one] = _projection(series, base)
            apart |= cosines[one] < 1 - tolerance**2
        else:
            n = min(len(series), len(base), steps or len(base))
            factors[one] = _median([a / b if b else math.nan for a, b in zip(series[:n], base[:n], strict=True)])
    wrong = apart or any(not abs(factor - 1) <= tolerance for factor in factors.values())  # not: NaN is wrong
    exponent = _slope([(math.log(one), math.log(f)) for one, f in factors.items() if f > 0 and math.isfinite(f)])
    return Compared(quantity=quantity, factors=factors, exponent=exponent, cosines=cosines, wrong=wrong)


def _projection(gradient: tuple[float, ...], base: tuple[float, ...]) -> tuple[float, float]:
    dot = math.fsum(a * b for a, b in zip(gradient, base, strict=True))
    a2, b2 = math.fsum(a * a for a in gradient), math.fsum(b * b for b in base)
    return (dot / b2 if b2 else math.nan), (dot / math.sqrt(a2 * b2) if a2 and b2 else 0.0)


def _median(values: Sequence[float]) -> float:
    import statistics

    return statistics.median(values) if values and all(map(math.isfinite, values)) else math.nan


def _slope(points: Sequence[tuple[float, float]]) -> float:
    if len(points) < 2:
        return math.nan
    mx, my = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    spread = sum((x - mx) ** 2 for x, _ in points)
    return sum((x - mx) * (y - my) for x, y in points) / spread if spread else math.nan


# --- what train() may return -------------------------------------------------------------------------------------------


def read(result: Any) -> Trained:
    """A training from what `train` returned.

    Raises
    ------
    WrongUsage
        it is none of the forms that `assert_ga_invariant` names.
    """
    if isinstance(result, Trained):
        return result
    if isinstance(result, (str, Path)):
        return _from_logs(Path(result))
    if isinstance(result, Mapping):
        return _from_mapping(result)
    history = getattr(getattr(result, "state", None), "log_history", None) or getattr(result, "log_history", None)
    if history is not None:
        return _from_rows(history)
    if callable(getattr(result, "parameters", None)):
        return Trained(gradient=_flat([p.grad for p in result.parameters() if p.grad is not None]))
    if isinstance(result, Iterable):
        items = list(result)
        if items and all(isinstance(one, Mapping) for one in items):
            return _from_rows(items)
        return Trained(loss=_numbers(items))
    raise WrongUsage(f"train() returned a {type(result).__name__}, which holds no losses that are known how to be read")


def _from_mapping(result: Mapping[Any, Any]) -> Trained:
    names = [name for name in GRADIENT_NAMES if name in result]
    return Trained(
        loss=_numbers(result.get("loss", result.get("losses", ()))),
        grad_norm=_numbers(result.get("grad_norm", result.get("grad_norms", ()))),
        gradient=_flat(result[names[0]]) if names else (),
    )


def _from_rows(rows: Iterable[Mapping[str, Any]]) -> Trained:
    kept = [row for row in rows if isinstance(row.get("loss"), (int, float))]
    norms = [row["grad_norm"] for row in kept if isinstance(row.get("grad_norm"), (int, float))]
    return Trained(loss=_numbers([row["loss"] for row in kept]), grad_norm=_numbers(norms))


def _from_logs(path: Path) -> Trained:
    from ga_audit import Role, read_runs

    runs, failures = read_runs([str(path)])
    if len(runs) != 1:
        said = f"; {failures[0].error}" if failures else ""
        raise WrongUsage(f"{len(runs)} runs are logged there, one is needed{said}", where=str(path))
    loss, norm = runs[0].get(Role.LOSS), runs[0].get(Role.GRAD_NORM)
    return Trained(
        loss=() if loss is None else tuple(map(float, loss.value)),
        grad_norm=() if norm is None else tuple(map(float, norm.value)),
    )


def _numbers(values: Any) -> tuple[float, ...]:
    if isinstance(values, (int, float)) or not isinstance(values, Iterable) or getattr(values, "ndim", None) == 0:
        return (float(values),)
    return tuple(float(value) for value in values)


def _flat(gradient: Any) -> tuple[float, ...]:
    """Tensors, arrays, numbers, or containers of them, as one row of numbers."""
    if isinstance(gradient, Mapping):
        gradient = [gradient[name] for name in sorted(gradient)]
    if hasattr(gradient, "detach"):
        gradient = gradient.detach().float().cpu().flatten().tolist()
    elif hasattr(gradient, "ravel"):
        gradient = gradient.ravel().tolist()
    if isinstance(gradient, Iterable):
        return tuple(
            number for part in gradient for number in (_flat(part) if not isinstance(part, float) else (part,))
        )
    return (float(gradient),)
