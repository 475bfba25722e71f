"""The verdict on what was measured in the cells of a matrix: exponents on GA and world size, and what they leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ga_audit.errors import EngineFailed
from ga_audit.repro.measurement import (
    MAX_WEIGHTING_ERROR,
    Measured,
    Training,
    deviates,
    is_misaligned,
)

TOLERANCE = 0.15  # of an exponent: a weighting bias (mean of means) measures 0.02; every known fault is a whole number
MISFIT = 0.1  # of ln(ratio): a cell that is farther from the powers of GA and world size is not described by them


_DEVICES = {
    "devices": "ranks that are devices of one process (torch.nn.DataParallel)",
    "stand-in": "ranks that are devices of one process (torch.nn.DataParallel), of which there are not so many here: one after "
    "the other, split and gathered alike",
}


class MatrixVerdict(StrEnum):
    """The verdict on a matrix."""

    HEALTHY = "healthy"
    LOG_ONLY = "logging only"
    GRADIENTS = "gradients"
    SOME_STEPS = "gradients at some steps"
    UNEQUAL_WEIGHTS = "unequally weighted"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Scale:
    """What multiplies one quantity: cell by cell, and as powers of GA and of world size times a rest."""

    ratios: tuple[float, ...]  # measured / reference of each cell that has it
    ga: float | None = None  # exponents; None where the cells do not vary in it, or no powers describe the ratios
    world: float | None = None
    rest: float | None = (
        None  # the factor that these exponents leave in every cell; None: no powers describe the ratios
    )

    @property
    def is_off(self) -> bool | None:
        """Whether it is not what it should be in some cell, whatever the cause; None = not measured."""
        return (self.grows or any(deviates(ratio) for ratio in self.ratios)) if self.ratios else None

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
    verdict: MatrixVerdict

    @property
    def training(self) -> Training:
        """What was trained, the same in all cells."""
        return self.cells[0].training if self.cells else Training()

    @property
    def gas(self) -> frozenset[int]:
        """GA of the cells."""
        return frozenset(cell.ga for cell in self.cells)

    @property
    def world_sizes(self) -> frozenset[int]:
        """Ranks of the cells."""
        return frozenset(cell.world_size for cell in self.cells)

    @property
    def cosine(self) -> float | None:
        """The lowest of the cells."""
        return _lowest_cosine(self.cells)

    @property
    def weighting(self) -> tuple[Measured, float] | None:
        """The cell whose gradient is farthest from that of the full batch, and how far; None = not known."""
        return _worst_weighting(self.cells)

    @property
    def data_parallel(self) -> str:
        """What the devices of one process were, where ranks were that; else empty."""
        return next((cell.training.data_parallel for cell in self.cells if cell.training.data_parallel), "")

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats on the measurement, each once."""
        said = [cell.note for cell in self.cells if cell.note] + [_DEVICES.get(self.data_parallel, "")]
        return tuple(dict.fromkeys(filter(None, said)))

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

    def exponents(self, scale: Scale) -> tuple[float | None, float | None]:
        """Exponents on GA and world size; one in which the cells do not vary is what the rest would be as its power."""
        ga, world = scale.ga, scale.world
        alone = [max(values) for values in (self.gas, self.world_sizes) if len(values) == 1 and max(values) > 1]
        if scale.rest and len(alone) == 1:  # of two, the rest could be either's
            power = math.log(scale.rest) / math.log(alone[0])
            ga, world = (power, world) if len(self.gas) == 1 and max(self.gas) > 1 else (ga, power)
        return ga, world


def judge(cells: Sequence[Measured]) -> Judgement:
    """The verdict on the cells of one stack at several GA, and perhaps several numbers of ranks.

    Raises
    ------
    EngineFailed
        the cells were trained with different releases.
    """
    cells = tuple(sorted(cells, key=lambda cell: cell.ranks_and_steps))
    for cell in cells[1:]:
        if cell.training.packages != cells[0].training.packages:
            raise EngineFailed(
                f"{cells[0].name} was trained with {_releases(cells[0])}, {cell.name} with {_releases(cell)}",
                remedy="Train all cells anew: give another --out.",
            )
    loss = scale(cells, lambda cell: cell.loss)
    norm = scale(cells, lambda cell: cell.grad_norm)
    gradient = scale(cells, lambda cell: cell.gradient)
    said = verdict(loss, norm, gradient, _lowest_cosine(cells))
    if not any(cell.ga * cell.world_size > 1 for cell in cells):
        said = MatrixVerdict.NOT_MEASURED  # one micro-batch a step: nothing was accumulated
    mild = (MatrixVerdict.HEALTHY, MatrixVerdict.LOG_ONLY)
    if said in mild and _has_gaps(cells):
        said = MatrixVerdict.NOT_MEASURED
    worst = _worst_weighting(cells)
    if said in mild and worst is not None and worst[1] > MAX_WEIGHTING_ERROR:
        said = MatrixVerdict.UNEQUAL_WEIGHTS
    if said is not MatrixVerdict.GRADIENTS and any(cell.odd_steps for cell in cells):
        said = MatrixVerdict.SOME_STEPS
    return Judgement(cells, loss, norm, gradient, *_differences(cells), said)


def _worst_weighting(cells: Sequence[Measured]) -> tuple[Measured, float] | None:
    """The largest weighting error and its cell.

    A factor that the smallest cell shows without any accumulation (labels counted before the shift) is common to all
    cells and says nothing about weights. Without such a cell the common factor is unknown: it is taken to be the
    cell's own ratio, and only the direction counts.
    """
    alone = next((c.gradient for c in cells if c.ga * c.world_size == 1), None)
    found = []
    for cell in cells:
        if cell.gradient is None or cell.cosine is None:
            continue
        factor = alone or (cell.gradient / cell.cosine if cell.cosine > 0 else 1.0)
        error = cell.weighting_error(factor)
        if error is not None:
            found.append((cell, error))
    return max(found, key=lambda pair: pair[1], default=None)


def _releases(cell: Measured) -> str:
    return ", ".join(f"{name} {release}" for name, release in cell.training.packages.items())


def _has_gaps(cells: Sequence[Measured]) -> bool:
    """Whether a cell lacks its gradient, or a logged value that another one has: nothing is said of what is not there."""
    lacking = [[getattr(cell, name) is None for cell in cells] for name in ("loss", "grad_norm")]
    some = any(any(missing) and not all(missing) for missing in lacking)
    return any(cell.gradient is None for cell in cells) or (some and not any(cell.note for cell in cells))


def scale(cells: Sequence[Measured], ratio_of: Callable[[Measured], float | None]) -> Scale:
    """Least-squares slopes of ln(ratio) on ln(GA) and ln(world_size), with a constant: a factor of every cell is none."""
    import numpy as np

    points = [(c.ga, c.world_size, r) for c in cells if (r := ratio_of(c)) is not None]
    ratios = tuple(r for *_, r in points)
    if not points or min(ratios) <= 0:
        return Scale(ratios)
    table = np.log(np.array(points, float))
    varied = [bool(np.ptp(table[:, i]) > 0) for i in (0, 1)]
    columns = [table[:, i] for i in (0, 1) if varied[i]]
    design = np.column_stack([np.ones(len(table)), *columns])
    if np.linalg.matrix_rank(design) < design.shape[1]:  # GA and ranks change together: not separable
        return Scale(ratios)
    found = np.linalg.lstsq(design, table[:, 2], rcond=None)[0]
    if np.abs(design @ found - table[:, 2]).max() > MISFIT:
        return Scale(ratios)
    constant, *slopes = found.tolist()
    left = iter(slopes)
    on_ga, on_world = (next(left) if there else None for there in varied)
    return Scale(ratios, on_ga, on_world, math.exp(constant))


def verdict(loss: Scale, grad_norm: Scale, gradient: Scale, cosine: float | None = None) -> MatrixVerdict:
    """The verdict from the scales and the lowest cosine; there is none without a measured gradient."""
    if gradient.is_off is None:
        return MatrixVerdict.NOT_MEASURED
    if gradient.is_off or is_misaligned(cosine):
        return MatrixVerdict.GRADIENTS
    if loss.is_off or grad_norm.is_off:
        return MatrixVerdict.LOG_ONLY
    unknown = loss.is_off is None and grad_norm.is_off is None
    return MatrixVerdict.NOT_MEASURED if unknown else MatrixVerdict.HEALTHY


def _lowest_cosine(cells: Sequence[Measured]) -> float | None:
    return min((cell.cosine for cell in cells if cell.cosine is not None), default=None)


def is_about(measured: float | None, exponent: float) -> bool:
    """Whether a measured exponent is the one that is expected."""
    return measured is not None and abs(measured - exponent) < TOLERANCE


def _differences(cells: tuple[Measured, ...]) -> tuple[float | None, float | None]:
    if len(cells) < 2:
        return None, None
    first, last = cells[0], cells[-1]
    both = first.held_out_loss is not None and last.held_out_loss is not None
    return parameter_distance(first, last), (last.held_out_loss - first.held_out_loss if both else None)  # type: ignore[operator]


def parameter_distance(first: Measured, other: Measured) -> float | None:
    """Distance between the parameters of two cells after training, over the distance that the first one moved."""
    import numpy as np

    a, b = first.parameters, other.parameters
    if a is None or b is None or a.shape != b.shape or not first.moved:
        return None
    return float(np.linalg.norm(b.astype(float) - a.astype(float)) / first.moved)
