"""What an engine wrote of one cell: `truth.json`, and the parameters beside it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ga_audit.errors import EngineFailed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# cosine with the full-batch gradient: unequal weights leave 0.97 or more, lost micro-batches 0.73
MIN_COSINE = 0.9
# share by which a value is off: below are unequal weights (mean of means: 0.1) and miscounted labels (0.07)
MAX_DEVIATION = 0.2
# relative distance from the full-batch gradient, a common factor apart; float32 resolves 1e-6 at the same data
MAX_WEIGHTING_ERROR = 0.01


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
    average_tokens: bool | None = None  # the Trainer's average_tokens_across_devices; None: not known
    data_parallel: str = ""  # ranks that are devices of one process: "devices", or a "stand-in" where there are none

    def __str__(self) -> str:
        releases = ", ".join(f"{name} {release}" for name, release in self.packages.items())
        place = ", ".join(filter(None, (self.device, self.dtype)))
        return "; ".join(filter(None, (self.what, releases, place)))


class OddStep(NamedTuple):
    """A step whose gradient is not what the others' are."""

    step: int
    ratio: float  # to that of the whole batch; NaN: not a number, where that of the whole batch is one
    cosine: float | None = None


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
    odd_steps: tuple[OddStep, ...] = ()
    n_measured: int = 0  # steps
    diverged: int = 0  # of these, without a gradient of the whole batch that is a number
    parameters: npt.NDArray[np.float32] | None = None  # (p,), all of them, after training
    moved: float | None = None  # distance from the parameters before training
    speed: Speed | None = None
    note: str | None = None  # what the numbers must say of themselves
    training: Training = Training()
    spans_steps: bool = False  # the objective is a mean over several steps: one step is not comparable

    def weighting_error(self, factor: float = 1.0) -> float | None:
        """The relative distance of the accumulated gradient, divided by a factor, from that of the full batch.

        Returns
        -------
        None where it is not known to the precision that this needs: outside float32, of an objective over several
        steps, without a measured gradient.
        """
        exact = self.training.dtype == "float32" and not self.spans_steps
        if not exact or self.gradient is None or self.cosine is None or not factor > 0:
            return None
        ratio, cosine = self.gradient / factor, min(1.0, self.cosine)
        return math.sqrt(max(0.0, ratio**2 - 2 * ratio * cosine + 1))

    @property
    def ranks_and_steps(self) -> tuple[int, int]:
        """The order of cells: ranks first, then GA."""
        return self.world_size, self.ga

    @property
    def name(self) -> str:
        """The cell in words: `GA 4`, or `GA 4 on 2 ranks`."""
        return f"GA {self.ga}" + (f" on {self.world_size} ranks" if self.world_size > 1 else "")


def read_truth(path: Path) -> Measured:
    """The measured ratios in one `truth.json`, and the parameters beside it.

    Raises
    ------
    EngineFailed
        the file is missing or is not what an engine writes.
    """
    try:
        truth = json.loads(path.read_text("utf-8"))
        measured = truth["measured"]
        logged = {row["step"]: row for row in truth["logged"] if row.get("loss") is not None}
        pairs = [(logged[row["step"]], row) for row in measured if row["step"] in logged]
        gradient, cosine = (_median([row.get(key) for row in measured]) for key in ("ratio", "cosine"))
        # of an objective that is a mean over several steps, a single step is none to judge by
        single = not truth.get("objective_spans_steps", False)
        return Measured(
            ga=int(truth["ga"]),
            world_size=int(truth.get("world_size", 1)),
            loss=_median_ratio(pairs, "loss", "reference_loss"),
            grad_norm=_median_ratio(pairs, "grad_norm", "reference_norm"),
            gradient=gradient,
            cosine=cosine,
            held_out_loss=None if truth.get("held_out_loss") is None else float(truth["held_out_loss"]),
            clipped=_clipped(truth.get("max_grad_norm"), list(logged.values())),
            n_measured=len(measured),
            diverged=sum(
                not math.isfinite(row.get("reference_norm", 1.0) + (row.get("reference_loss") or 0.0))
                for row in measured
            ),
            odd_steps=tuple(_odd_steps(measured, gradient, cosine)) if single else (),
            parameters=_parameters(path.with_name("parameters.f32"), truth.get("parameter_count")),
            moved=_finite(truth.get("parameters_moved")),
            speed=_speed(truth.get("throughput")),
            note=truth.get("note"),
            training=_training(truth),
            spans_steps=not single,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailed(
            f"no measurement to read ({type(error).__name__}: {error})",
            where=str(path),
            remedy=f"Delete {path.parent} and give --resume: its cell is trained again.",
        ) from error


def _training(truth: Mapping[str, Any]) -> Training:
    packages = {str(name): str(release) for name, release in truth.get("packages", {}).items()}
    what, device, dtype = (str(truth.get(key, "")) for key in ("what", "device", "dtype"))
    return Training(what, packages, device, dtype, truth.get("average_tokens"), str(truth.get("data_parallel") or ""))


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


def _odd_steps(measured: Sequence[Mapping[str, Any]], typical: float | None, cosine: float | None) -> Iterator[OddStep]:
    """Steps that are off while the others are not; a step whose whole batch has no gradient (it diverged) is none."""
    for row in measured:
        ratio, reference = row.get("ratio"), row.get("reference_norm", 1.0)
        if ratio is None or not (math.isfinite(reference) and reference > 0):
            continue
        own = _finite(row.get("cosine"))
        off = not math.isfinite(ratio) or bool(typical and deviates(ratio / typical))
        if off or (is_misaligned(own) and not is_misaligned(cosine)):
            yield OddStep(int(row["step"]), float(ratio), own)


def _median_ratio(pairs: Sequence[tuple[Any, Any]], above: str, below: str) -> float | None:
    return _median([a[above] / b[below] for a, b in pairs if a.get(above) is not None and b.get(below)])


def _median(values: Sequence[float | None]) -> float | None:
    finite = [v for v in values if v is not None and math.isfinite(v)]
    return statistics.median(finite) if finite else None


def deviates(ratio: float) -> bool:
    """Whether a ratio is farther from 1 than unequal weights or miscounted labels explain."""
    return abs(ratio - 1) > MAX_DEVIATION


def is_misaligned(cosine: float | None) -> bool:
    """Whether a gradient is not parallel to the full-batch gradient: no factor corrects it."""
    return cosine is not None and cosine < MIN_COSINE
