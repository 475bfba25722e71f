"""What was measured in the cells of a matrix, as exponents on GA and world size, and a verdict."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ga_audit.errors import EngineFailed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TOLERANCE = 0.15  # of an exponent: a weighting bias (mean of means) measures 0.02; every known fault is a whole number
STRAIGHT = 0.9  # cosine with the whole batch's gradient: a weighting bias leaves 0.97 or more, lost micro-batches 0.73
UNEVEN = (
    0.2  # share by which a value is off: below are a weighting bias (mean of means: 0.1) and miscounted labels (0.07)
)


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a cell trained, by all its ranks, without its first step and without what was measured."""

    tokens: float  # a second
    flops: float  # a second, of matrix products
    limit: float | None  # what one matrix product reached on one rank's device; measured in one cell only
    limit_dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Training:
    """What was trained, with what."""

    what: str = ""  # "B (the model's forward has no **kwargs)"
    packages: Mapping[str, str] = field(default_factory=dict)  # release of each
    device: str = ""
    dtype: str = ""

    def __str__(self) -> str:
        releases = ", ".join(f"{name} {release}" for name, release in self.packages.items())
        place = ", ".join(filter(None, (self.device, self.dtype)))
        return "; ".join(filter(None, (self.what, releases, place)))


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One cell: medians over its measured steps of measured / reference; None = not measured."""

    ga: int
    world_size: int
    loss: float | None
    grad_norm: float | None
    gradient: float | None
    cosine: float | None
    held_out_loss: float | None  # after training, in one pass, by us; NaN: the training diverged
    clipped: float | None  # share of logged steps whose grad_norm is above max_grad_norm; None: no clipping
    uneven: tuple[tuple[int, float], ...] = ()  # (step, gradient / reference) of steps that are off
    parameters: npt.NDArray[np.float32] | None = None  # (p,), all of them, after training
    moved: float | None = None  # distance from the parameters before training
    speed: Speed | None = None
    note: str | None = None  # what the numbers must say of themselves
    training: Training = Training()

    @property
    def ranks_and_steps(self) -> tuple[int, int]:
        """The order of cells: ranks first, then GA."""
        return self.world_size, self.ga


@dataclass(frozen=True, slots=True)
class Scale:
    """What multiplies one quantity: cell by cell, and as powers of GA and of world size times a rest."""

    ratios: tuple[float, ...]  # measured / reference of each cell that has it
    ga: float | None = None  # exponents; None where the cells do not vary in it, or nothing was measured
    world: float | None = None
    rest: float | None = None  # the factor that these exponents leave in every cell; None: GA and ranks change together

    @property
    def is_off(self) -> bool | None:
        """Whether it is not what it should be in some cell, whatever the cause; None = not measured."""
        return (self.grows or any(is_uneven(ratio) for ratio in self.ratios)) if self.ratios else None

    @property
    def grows(self) -> bool:
        """Whether it changes with GA or with the number of ranks."""
        return any(e is not None and abs(e) >= TOLERANCE for e in (self.ga, self.world))


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Scales, differences of the last cell from the first, and the verdict."""

    cells: tuple[Measured, ...]
    on_loss: Scale
    on_grad_norm: Scale
    on_gradient: Scale
    parameters_differ: float | None  # distance between the ends of training, over the distance that it moved
    held_out_loss_differs: float | None  # last cell's minus the first's
    verdict: str  # "healthy", "logging only", "gradients", "gradients at some steps", "not measured"

    @property
    def training(self) -> Training:
        """What was trained, the same in all cells."""
        return self.cells[0].training if self.cells else Training()

    @property
    def cosine(self) -> float | None:
        """The lowest of the cells."""
        return _lowest_cosine(self.cells)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers must say of themselves, each once."""
        return tuple(dict.fromkeys(cell.note for cell in self.cells if cell.note))

    @property
    def loss(self) -> float | None:
        """Exponent of the logged loss on GA."""
        return self.on_loss.ga

    @property
    def grad_norm(self) -> float | None:
        """Exponent of the logged grad_norm on GA."""
        return self.on_grad_norm.ga

    @property
    def gradient(self) -> float | None:
        """Exponent of the real gradient on GA."""
        return self.on_gradient.ga


def read_truth(path: Path) -> Measured:
    """The measured ratios in one `truth.json`, and the parameters beside it.

    Raises
    ------
    EngineFailed
        the file is missing or is not what an engine writes.
    """
    try:
        truth = json.loads(path.read_text("utf-8"))
        logged = {row["step"]: row for row in truth["logged"] if row.get("loss") is not None}
        pairs = [(logged[row["step"]], row) for row in truth["measured"] if row["step"] in logged]
        gradient = _median([row.get("ratio") for row in truth["measured"]])
        return Measured(
            ga=int(truth["ga"]),
            world_size=int(truth.get("world_size", 1)),
            loss=_median_ratio(pairs, "loss", "reference_loss"),
            grad_norm=_median_ratio(pairs, "grad_norm", "reference_norm"),
            gradient=gradient,
            cosine=_median([row.get("cosine") for row in truth["measured"]]),
            held_out_loss=None if truth.get("held_out_loss") is None else float(truth["held_out_loss"]),
            clipped=_clipped(truth.get("max_grad_norm"), list(logged.values())),
            uneven=tuple(_uneven(truth["measured"], gradient)),
            parameters=_parameters(path.with_name("parameters.f32"), truth.get("parameter_count")),
            moved=_finite(truth.get("parameters_moved")),
            speed=_speed(truth.get("throughput")),
            note=truth.get("note"),
            training=Training(
                str(truth.get("what", "")),
                {str(name): str(release) for name, release in truth.get("packages", {}).items()},
                str(truth.get("device", "")),
                str(truth.get("dtype", "")),
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailed(
            f"no measurement to read ({type(error).__name__}: {error})", where=str(path), remedy="Run the cell again."
        ) from error


def _parameters(path: Path, count: int | None) -> npt.NDArray[np.float32] | None:
    import numpy as np

    if count is None or not path.is_file() or path.stat().st_size != 4 * count:
        return None
    return np.fromfile(path, dtype="<f4")


def _speed(found: Mapping[str, Any] | None) -> Speed | None:
    if found is None:
        return None
    limit = found.get("limit") or {}
    return Speed(
        float(found["tokens_per_second"]), float(found["flops_per_second"]), _finite(limit.get("flops_per_second")),
        limit.get("dtype"),
    )  # fmt: skip


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _clipped(threshold: float | None, logged: Sequence[Mapping[str, Any]]) -> float | None:
    norms = [row["grad_norm"] for row in logged if row.get("grad_norm") is not None]
    return sum(norm > threshold for norm in norms) / len(norms) if threshold and norms else None


def _uneven(measured: Sequence[Mapping[str, Any]], typical: float | None) -> list[tuple[int, float]]:
    ratios = [(int(row["step"]), row["ratio"]) for row in measured if row.get("ratio") is not None]
    return [(step, r) for step, r in ratios if typical and math.isfinite(r) and is_uneven(r / typical)]


def _median_ratio(pairs: Sequence[tuple[Any, Any]], above: str, below: str) -> float | None:
    return _median([a[above] / b[below] for a, b in pairs if a.get(above) is not None and b.get(below)])


def _median(values: Sequence[float | None]) -> float | None:
    finite = [v for v in values if v is not None and math.isfinite(v)]
    return statistics.median(finite) if finite else None


def scale(cells: Sequence[Measured], ratio_of: Callable[[Measured], float | None]) -> Scale:
    """Least-squares slopes of ln(ratio) on ln(GA) and ln(world_size), with a constant: a factor of every cell is none."""
    import numpy as np

    points = [
        (math.log(c.ga), math.log(c.world_size), math.log(r)) for c in cells if (r := ratio_of(c)) is not None and r > 0
    ]
    if not points:
        return Scale(())
    table = np.array(points)
    ratios = tuple(np.exp(table[:, 2]).tolist())
    varied = [bool(np.ptp(table[:, i]) > 0) for i in (0, 1)]
    columns = [table[:, i] for i in (0, 1) if varied[i]]
    design = np.column_stack([np.ones(len(table)), *columns])
    if np.linalg.matrix_rank(design) < design.shape[1]:  # GA and ranks change together: not separable
        return Scale(ratios)
    constant, *slopes = np.linalg.lstsq(design, table[:, 2], rcond=None)[0].tolist()
    left = iter(slopes)
    on_ga, on_world = (next(left) if there else None for there in varied)
    return Scale(ratios, on_ga, on_world, math.exp(constant))


def judge(cells: Sequence[Measured]) -> Judgement:
    """The verdict on the cells of one stack at several GA, and perhaps several numbers of ranks."""
    cells = tuple(sorted(cells, key=lambda cell: cell.ranks_and_steps))
    loss = scale(cells, lambda cell: cell.loss)
    norm = scale(cells, lambda cell: cell.grad_norm)
    gradient = scale(cells, lambda cell: cell.gradient)
    said = verdict(loss, norm, gradient, _lowest_cosine(cells))
    if not any(cell.ga * cell.world_size > 1 for cell in cells):
        said = "not measured"  # one micro-batch a step: nothing was accumulated
    if said == "healthy" and any(cell.gradient is None for cell in cells):
        said = "not measured"  # nothing is said of a cell that left no measurement
    if said in ("healthy", "logging only") and any(cell.uneven for cell in cells):
        said = "gradients at some steps"
    return Judgement(cells, loss, norm, gradient, *_differences(cells), said)


def verdict(loss: Scale, grad_norm: Scale, gradient: Scale, cosine: float | None = None) -> str:
    """In words, from the scales and the lowest cosine; without a measured gradient nothing is said."""
    if gradient.is_off is None:
        return "not measured"
    if gradient.is_off or is_astray(cosine):
        return "gradients"
    if loss.is_off or grad_norm.is_off:
        return "logging only"
    return "not measured" if loss.is_off is None and grad_norm.is_off is None else "healthy"


def _lowest_cosine(cells: Sequence[Measured]) -> float | None:
    return min((cell.cosine for cell in cells if cell.cosine is not None), default=None)


def is_about(measured: float | None, exponent: float) -> bool:
    """Whether a measured exponent is the one that is expected."""
    return measured is not None and abs(measured - exponent) < TOLERANCE


def is_uneven(ratio: float) -> bool:
    """Whether a ratio is farther from 1 than what weighting or counting of labels explains."""
    return abs(ratio - 1) > UNEVEN


def is_astray(cosine: float | None) -> bool:
    """Whether a gradient points elsewhere than that of the whole batch: then no factor makes it right."""
    return cosine is not None and cosine < STRAIGHT


def _differences(cells: tuple[Measured, ...]) -> tuple[float | None, float | None]:
    if len(cells) < 2:
        return None, None
    first, last = cells[0], cells[-1]
    both = first.held_out_loss is not None and last.held_out_loss is not None
    return apart(first, last), (last.held_out_loss - first.held_out_loss if both else None)  # type: ignore[operator]


def apart(first: Measured, other: Measured) -> float | None:
    """Distance between the parameters of two cells after training, over the distance that the first one moved."""
    import numpy as np

    a, b = first.parameters, other.parameters
    if a is None or b is None or a.shape != b.shape or not first.moved:
        return None
    return float(np.linalg.norm(b.astype(float) - a.astype(float)) / first.moved)
