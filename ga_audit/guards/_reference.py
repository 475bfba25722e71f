"""The gradient of the whole batch, computed again micro-batch by micro-batch, and the accumulated one held against it.

The reference is the sum over the micro-batches of all ranks of (items in it / items in all) times the gradient of the
mean loss of that micro-batch alone: what one pass over the whole batch would give. Each is run again from the random
state that it had, in the mode that it had, so that dropout is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ga_audit.guards import _targets
from ga_audit.guards._ranks import Ranks
from ga_audit.guards._result import CannotMeasure, Measurement, Reason, Unit
from ga_audit.guards._state import RandomState, untouched

SAMPLE = 16_384  # coordinates from which the weights of the micro-batches are found
CHUNK = 1 << 22  # elements in one product: no second copy of a large parameter
TOLERANCE, TOLERANCE_LOW = 2e-3, 3e-2  # relative error of a gradient that arithmetic explains: float32, bfloat16


@dataclass(slots=True, kw_only=True)
class MicroBatch:
    """A micro-batch that can be run again."""

    loss: Callable[[], torch.Tensor]  # its mean loss, with a graph; whatever it means over
    rng: RandomState
    inputs: Any = None
    counts: Mapping[Unit, float] = field(default_factory=dict)
    returned: torch.Tensor | float | None = None  # what it adds to the logged loss


@dataclass(slots=True, kw_only=True)
class Step:
    """One optimizer step, complete up to its last backward pass."""

    model: torch.nn.Module  # what is called, without wrappers that reduce gradients
    micro_batches: Sequence[MicroBatch]
    number: int
    loss_scale: float = 1.0  # by which the accumulated gradient is too large, of a GradScaler
    unit: Unit | None = None  # given by the caller
    low_precision: bool = False
    stale: bool = False
    objects: tuple[object, ...] = ()  # whose plain attributes a run of the loss may change
    called: bool = True  # False: the loss calls parts of the model, not the model
    by_hooks: bool = False  # hooks of the backward pass collect the gradient: they are not to run again
    weights: tuple[float, ...] | None = None  # what `fingerprint` gave before the first micro-batch
    memory: int | None = None  # bytes that the reference may take; None: what is free


def measure_step(step: Step) -> Measurement:
    """Measure a step; the model, its gradients and all random states are afterwards as they were.

    Raises
    ------
    CannotMeasure
        on every rank, if one of them cannot.
    """
    accumulated = [p.grad for p in step.model.parameters() if p.requires_grad]
    return run_again(step).compare(accumulated)


def run_again(step: Step) -> Reference:
    """The reference gradient alone, to be compared later; raises as `measure_step` does."""
    trainable = [p for p in step.model.parameters() if p.requires_grad]
    if not trainable or not step.micro_batches:
        raise CannotMeasure(Reason.NO_MICRO_BATCH)
    ranks = Ranks(trainable[0].device)
    memory = ranks.least(_memory(step, trainable[0].device))
    failure: BaseException | None = None
    run: Reference | None = None
    with untouched(step.model, *step.objects):
        try:
            _refuse(step, trainable)
            run = Reference(step, trainable, ranks, memory)
            run.find_unit()
        except Exception as error:
            failure = error
        _together(ranks, failure)
        assert run is not None
        run.agree_on_counts()
        try:
            run.again()
        except Exception as error:
            failure = error
        _together(ranks, failure)
    return run


def _together(ranks: Ranks, failure: BaseException | None) -> None:
    """Go on if every rank can."""
    can = ranks.all_can(failure is None)
    if failure is not None:
        raise failure
    if not can:
        raise CannotMeasure(Reason.OTHER_RANK)


def _refuse(step: Step, trainable: Sequence[torch.nn.Parameter]) -> None:
    if not step.by_hooks and any(getattr(p, "_post_accumulate_grad_hooks", None) for p in trainable):
        raise CannotMeasure(Reason.OPTIMIZER_IN_BACKWARD)
    if any(hasattr(p, "device_mesh") for p in trainable):
        raise CannotMeasure(Reason.SHARDED)
    if step.weights is not None and step.weights != fingerprint(step.model):
        raise CannotMeasure(Reason.WEIGHTS_CHANGE)


def fingerprint(model: torch.nn.Module) -> tuple[float, ...]:
    """A number for each parameter that changes if the parameter does."""
    kept = [p.detach() for p in model.parameters() if p.numel() and not hasattr(p, "device_mesh")]
    sums = [p.sum(dtype=torch.float64 if p.device.type != "mps" else torch.float32) for p in kept if not p.is_complex()]
    on = {s.device for s in sums}
    return tuple(float(v) for device in on for v in torch.stack([s for s in sums if s.device == device]).cpu())


class Reference:
    """The second run of one rank's micro-batches."""

    def __init__(self, step: Step, trainable: list[torch.nn.Parameter], ranks: Ranks, memory: int | None) -> None:
        self.step, self.trainable, self.ranks = step, trainable, ranks
        self.compared = _within(memory, trainable)
        self.low = step.low_precision or any(p.dtype in (torch.bfloat16, torch.float16) for p in trainable)
        self.places = _places(self.compared)
        self.unit, self.verified, self.first_loss = Unit.SAMPLES, False, math.nan
        self.counts: list[float] = []
        self.total = 0.0
        self.losses: list[float] = []
        self.sketches: list[torch.Tensor] = []
        self.wanted: list[torch.Tensor | None] = []

    def find_unit(self) -> None:
        """Run the first micro-batch forward: what its loss is a mean over, and a value to repeat."""
        first = self.step.micro_batches[0]
        seen: list[Any] = []
        watched = [self.step.model] if self.step.called else list(self.step.model.modules())
        handles = [m.register_forward_hook(lambda _module, _args, output: seen.append(output)) for m in watched]
        try:
            first.rng.restore()
            loss = first.loss()
        finally:
            for handle in handles:
                handle.remove()
        if not (isinstance(loss, torch.Tensor) and loss.numel() == 1 and loss.requires_grad):
            raise CannotMeasure(Reason.NO_LOSS)
        self.first_loss = float(loss.detach())
        if self.step.unit is not None:
            self.unit, self.verified = self.step.unit, True
        elif (found := self._unit_of(loss, seen, first.inputs)) is not None:
            self.unit, self.verified = found, True
        else:
            self.unit = _targets.head_unit(self.step.model, first.counts)

    def _unit_of(self, loss: torch.Tensor, seen: Sequence[Any], inputs: Any) -> Unit | None:
        """From the outputs of the model; of its parts, where the model itself is not what is called."""
        if self.step.called and len(seen) != 1:
            return None
        tried = (_targets.unit_of(loss, output, inputs, low_precision=self.low) for output in reversed(seen))
        return next((unit for unit in tried if unit is not None), None)

    def agree_on_counts(self) -> None:
        """Items in the micro-batches of all ranks, in a unit that all of them have."""
        held = [batch.counts for batch in self.step.micro_batches]
        n, squared, *lacking = self.ranks.sum([
            float(len(held)), float(len(held) ** 2),
            *(float(unit is not self.unit or any(unit not in one for one in held)) for unit in Unit),
        ])  # fmt: skip
        if n * n != self.ranks.size * squared:
            raise CannotMeasure(Reason.NO_MICRO_BATCH, "the ranks have unequal numbers of micro-batches")
        if lacking[list(Unit).index(self.unit)]:
            self.unit, self.verified = Unit.SAMPLES, False
        self.counts = [one.get(self.unit, 1.0) for one in held]
        labels = sum(one.get(Unit.TOKENS, 0.0) for one in held)
        shifted = sum(one.get(Unit.SHIFTED_TOKENS, 0.0) for one in held)
        self.total, labels, shifted, *counts = self.ranks.sum([
            sum(self.counts), labels, shifted,
            *(c if rank == self.ranks.number else 0.0 for rank in range(self.ranks.size) for c in self.counts),
        ])  # fmt: skip
        self.all_counts = counts
        self.count_ratio = shifted / labels if labels and self.unit is Unit.SHIFTED_TOKENS else 1.0

    def again(self) -> None:
        """Run every micro-batch again; `.grad` is then this rank's part of the reference, times the loss scale."""
        if self.total <= 0:
            raise CannotMeasure(Reason.NO_LOSS, "no labels in the step")
        before = torch.zeros(len(self.places), dtype=torch.float32)
        for i, (batch, count) in enumerate(zip(self.step.micro_batches, self.counts, strict=True)):
            batch.rng.restore()
            loss = batch.loss()
            value = float(loss.detach())
            if not math.isfinite(value) and count > 0:
                raise CannotMeasure(Reason.NOT_FINITE, "loss")
            if i == 0 and abs(value - self.first_loss) > (2e-2 if self.low else 1e-4) * max(abs(value), 1e-8):
                raise CannotMeasure(Reason.NOT_REPEATABLE, f"loss {self.first_loss:.6g}, then {value:.6g}")
            weight = count / self.total
            self.losses.append(weight * value if count > 0 else 0.0)
            if count > 0:
                self._backward(loss * (weight * self.step.loss_scale))
            now = _sketch([p.grad for p in self.compared], self.places)
            self.sketches.append((now - before) / weight if weight else now - before)
            before = now
            del loss
        self.wanted = [p.grad for p in self.compared]

    def _backward(self, loss: torch.Tensor) -> None:
        if self.step.by_hooks:
            found = torch.autograd.grad(loss, self.compared, allow_unused=True)
            for p, gradient in zip(self.compared, found, strict=True):
                if gradient is not None:
                    p.grad = gradient if p.grad is None else p.grad + gradient
        elif len(self.compared) == len(self.trainable):
            loss.backward()
        else:
            loss.backward(inputs=self.compared)

    def compare(self, accumulated: Sequence[torch.Tensor | None]) -> Measurement:
        """The measurement, of all ranks."""
        loss = self.ranks.sum([sum(self.losses)])[0]
        returned = [_number(batch.returned) for batch in self.step.micro_batches]
        known = all(value is not None for value in returned)
        logged = self.ranks.sum([sum(value or 0.0 for value in returned), float(known)])
        common: dict[str, Any] = {
            "step": self.step.number, "micro_batches": len(self.step.micro_batches), "world_size": self.ranks.size,
            "reference_loss": loss, "counts": tuple(self.all_counts), "unit": self.unit, "verified": self.verified,
            "count_ratio": self.count_ratio, "stale": self.step.stale,
            "has_labels": all(isinstance(b.inputs, Mapping) and "labels" in b.inputs for b in self.step.micro_batches),
            "loss_factor": logged[0] / self.ranks.size / loss if logged[1] == self.ranks.size and loss else None,
            "tolerance": TOLERANCE_LOW if self.low else TOLERANCE,
        }  # fmt: skip
        held = dict(zip(map(id, self.trainable), accumulated, strict=True))
        mine = [held[id(p)] for p in self.compared]
        wanted = self.wanted
        if self.ranks.size > 1:
            wanted = [torch.zeros_like(p) if g is None else g for p, g in zip(self.compared, wanted, strict=True)]
            for gradient in wanted:
                self.ranks.add(gradient)
        found = compare(mine, wanted, scale=self.step.loss_scale)
        weights, span_error, agree = self._weights(mine)
        share = sum(p.numel() for p in self.compared) / sum(p.numel() for p in self.trainable)
        return Measurement(**common, **found, weights=weights, span_error=span_error, ranks_agree=agree, share=share)

    def _weights(
        self, accumulated: Sequence[torch.Tensor | None]
    ) -> tuple[tuple[float, ...] | None, float | None, bool]:
        """The weight of each micro-batch in the accumulated gradient, relative to the right one, by least squares."""
        mine = _sketch(accumulated, self.places).to(self.ranks.device)
        columns = torch.stack(self.sketches).to(self.ranks.device)
        everyone = torch.cat(self.ranks.gather(columns)).cpu().double()
        all_mine = self.ranks.gather(mine)
        size = float(mine.norm())
        agree = all(float((one - mine).norm()) <= 1e-3 * size for one in all_mine)
        agree = bool(self.ranks.sum([float(not agree)])[0] == 0)
        right = torch.tensor(self.all_counts, dtype=torch.float64) / self.total
        return *solve(everyone, mine.cpu().double(), right), agree


def solve(
    gradients: torch.Tensor, accumulated: torch.Tensor, right: torch.Tensor
) -> tuple[tuple[float, ...] | None, float | None]:
    """Weights relative to the right ones, and the share of the gradient that no weights explain.

    Parameters
    ----------
    gradients : (k, s), of the mean loss of each micro-batch, at s coordinates.
    accumulated : (s,).
    right : (k,), the weights that the whole batch has.
    """
    norms = gradients.norm(dim=1)
    size = float(accumulated.norm())
    if not size or bool((norms == 0).any()) or len(gradients) > gradients.shape[1] // 2:
        return None, None
    scaled = (gradients / norms[:, None]).T
    if float(torch.linalg.cond(scaled)) > 1e4:
        return None, None
    found = torch.linalg.lstsq(scaled, accumulated[:, None]).solution[:, 0]
    span_error = float((scaled @ found - accumulated).norm()) / size
    return tuple(float(v) for v in found / norms / right), span_error


def compare(
    accumulated: Sequence[torch.Tensor | None], wanted: Sequence[torch.Tensor | None], *, scale: float = 1.0
) -> dict[str, Any]:
    """Two gradients given parameter by parameter: norms, factor, cosine, relative error."""
    dot, a2, b2 = _sums(accumulated, wanted, lambda x, y: torch.stack((x @ y, x @ x, y @ y)))
    if not (math.isfinite(a2) and math.isfinite(b2)):
        raise CannotMeasure(Reason.NOT_FINITE, "gradient")
    a, b = math.sqrt(a2), math.sqrt(b2)
    if not b:
        raise CannotMeasure(Reason.NOT_FINITE, "the gradient of the whole batch is zero")
    factor = dot / b2
    (off2,) = _sums(accumulated, wanted, lambda x, y: ((d := x - factor * y) @ d)[None])
    return {
        "grad_factor": factor, "cosine": dot / (a * b) if a else 0.0,
        "relative_error": math.sqrt(max(off2, 0.0)) / a if a else 0.0,
        "reference_norm": b / scale, "accumulated_norm": a / scale,
    }  # fmt: skip


def _sums(
    left: Sequence[torch.Tensor | None], right: Sequence[torch.Tensor | None],
    products: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> list[float]:  # fmt: skip
    """Sums of products over all elements, a chunk at a time; a gradient that is missing counts as zero."""
    found: dict[torch.device, torch.Tensor] = {}
    with torch.no_grad():
        for a, b in zip(left, right, strict=True):
            known = a if a is not None else b
            if known is None:
                continue
            x, y = (_flat(t if t is not None else torch.zeros_like(known)) for t in (a, b))
            for i in range(0, x.numel(), CHUNK):
                value = products(x[i : i + CHUNK].float(), y[i : i + CHUNK].float()).double()
                found[x.device] = found[x.device] + value if x.device in found else value
    sums = torch.stack([value.cpu() for value in found.values()]).sum(dim=0) if found else torch.zeros(3)
    return [float(value) for value in sums]


def _flat(gradient: torch.Tensor) -> torch.Tensor:
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return dense.detach().reshape(-1)


@dataclass(frozen=True, slots=True)
class _Places:
    """Which coordinates of each parameter are sampled."""

    stride: int
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.lengths)


def _places(parameters: Sequence[torch.nn.Parameter]) -> _Places:
    stride = max(1, sum(p.numel() for p in parameters) // SAMPLE)
    return _Places(stride, tuple(-(-p.numel() // stride) for p in parameters))


def _sketch(gradients: Sequence[torch.Tensor | None], places: _Places) -> torch.Tensor:
    """The sampled coordinates of a gradient, (s,) float32 on the CPU."""
    return torch.cat([
        torch.zeros(n) if g is None else _flat(g)[:: places.stride].float().cpu()
        for g, n in zip(gradients, places.lengths, strict=True)
    ])  # fmt: skip


def _memory(step: Step, device: torch.device) -> int | None:
    """Bytes that a second gradient may take."""
    if step.memory is not None or device.type != "cuda":
        return step.memory
    free, _ = torch.cuda.mem_get_info(device)
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(0.5 * (free + idle))


def _within(memory: int | None, parameters: list[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
    """All parameters, or every k-th of them where memory is short."""
    size = sum(p.numel() * p.element_size() for p in parameters)
    if memory is None or size <= memory:
        return parameters
    found = parameters[:: max(1, -(-size // max(memory, 1)))]
    while len(found) > 1 and sum(p.numel() * p.element_size() for p in found) > memory:
        found.remove(max(found, key=lambda p: p.numel()))
    return found


def _number(value: torch.Tensor | float | None) -> float | None:
    return float(value.detach().mean()) if isinstance(value, torch.Tensor) else value
