"""`guard` for a training loop of your own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from ga_audit.guards import _known, _targets, _watch
from ga_audit.guards._reference import MicroBatch, Step, fingerprint, measure_step
from ga_audit.guards._result import CannotMeasure, Measurement, Reading, Reason, Unit
from ga_audit.guards._state import RandomState
from ga_audit.guards.measuring import own_loss

_harmless = _watch.harmless(lambda guard: guard.watch)
LossFn = Callable[[Any, Any], torch.Tensor]


def guard(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss_fn: LossFn | None = None, *,
    items: Callable[[Any], float] | None = None, max_grad_norm: float | None = None, steps: int = 2,
    on_fault: _watch.OnFault = "warn",
) -> LoopGuard:  # fmt: skip
    """Measure in the first optimizer steps whether the accumulated gradient is that of the whole batch.

    Parameters
    ----------
    model : the one that is trained, in DistributedDataParallel or not.
    optimizer : its `step` ends a step of accumulation.
    loss_fn : `loss_fn(model, micro_batch)` gives the mean loss of a micro-batch; then call `guard.micro_batch(batch)`
        before each forward pass. Without it the model returns its loss itself, and every forward pass is a micro-batch.
    items : `items(micro_batch)`, how many items the loss is a mean over; see `ga_audit.measure`.
    max_grad_norm : of the clipping, to say when it fires.
    steps : optimizer steps that are measured.
    on_fault : "warn", "raise" or "ignore".

    Returns
    -------
    LoopGuard
        with `measurements`, `reading`, `reason`, `message`; `log(loss=..., grad_norm=...)` checks what is logged, `check()`
        measures at once, before a clipping that the guard does not see; `again()` after a resume.
    """
    return LoopGuard(
        model, optimizer, loss_fn, items=items, max_grad_norm=max_grad_norm, steps=steps, on_fault=on_fault
    )


class LoopGuard:
    """See `guard`."""

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss_fn: LossFn | None, *,
        items: Callable[[Any], float] | None, max_grad_norm: float | None, steps: int, on_fault: _watch.OnFault,
    ) -> None:  # fmt: skip
        self.watch = _watch.Watch(steps=steps, on_fault=on_fault)
        self.model = _unwrapped(model)
        self.loss_fn, self.items, self.max_grad_norm = loss_fn, items, max_grad_norm
        self._sharing = model is not self.model  # gradients are changed after they are accumulated: by reduction
        self._batches: list[MicroBatch] = []
        self._versions: dict[torch.nn.Parameter, int] = {}
        self._backwards: dict[torch.nn.Parameter, int] = {}
        self._weights: tuple[float, ...] = ()
        self._in_window: list[Any] = []  # what to undo when the step ends
        self._autocast: Callable[[], ExitStack] = ExitStack
        self._stale = self._busy = self._measured = False
        self._step = 0
        self._passes = self._before = self._usual = 0  # forward passes of this step, the last, the one measured
        self._handles: list[Any] = [
            self.model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    @property
    def measurements(self) -> list[Measurement]:
        """Of each measured step."""
        return self.watch.measurements

    @property
    def reading(self) -> Reading | None:
        """Of the latest measurement."""
        return self.watch.reading

    @property
    def reason(self) -> Reason | None:
        """Why nothing is measured."""
        return self.watch.reason

    @property
    def message(self) -> str | None:
        """What was said of a fault."""
        return self.watch.message

    # --- called by the loop --------------------------------------------------------------------------------------------

    @_harmless
    def micro_batch(self, batch: Any) -> None:
        """Before the forward pass of a micro-batch; needed with a loss_fn."""
        if not self.watch.due or self._busy or self.loss_fn is None:
            return
        self._begin()
        counts = {Unit.GIVEN: float(self.items(batch))} if self.items else _targets.counts(batch)
        self._batches.append(
            MicroBatch(loss=self._bound(self.loss_fn, batch), rng=RandomState.now(), inputs=batch, counts=counts)
        )

    @_harmless
    def check(self) -> None:
        """Measure now: after the last backward pass of a step, before its gradient is clipped."""
        if self.watch.due and self._batches and not self._measured:
            self._measure(altered=False)

    @_harmless
    def log(self, *, loss: float | None = None, grad_norm: float | None = None) -> None:
        """What the loop logs for the step that was just made, to be checked too."""
        if not self.measurements or self.measurements[-1].step != self._step:
            return
        m = self.measurements[-1]
        if loss is not None and m.reference_loss:
            m = replace(m, loss_factor=float(loss) / m.reference_loss)
        if grad_norm is not None and m.accumulated_norm:
            m = replace(m, grad_norm_factor=float(grad_norm) / m.accumulated_norm)
        self.watch.revise(m, lambda: self._stack(m))

    def again(self) -> None:
        """Measure the next steps too."""
        self.watch.again()

    def remove(self) -> None:
        """Leave model and optimizer."""
        self._close()
        while self._handles:
            self._handles.pop().remove()

    # --- hooks ---------------------------------------------------------------------------------------------------------

    @_harmless
    def _before_forward(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._busy or not module.training or not torch.is_grad_enabled():
            return
        self._passes += 1
        if not self.watch.due:
            return
        self._autocast = _autocast_now(next(module.parameters()).device.type)
        if self.loss_fn is None:
            self._begin()
            named = {k: v for k, v in kwargs.items() if k != "num_items_in_batch"}
            names = ("input_ids", "attention_mask")  # the first two of nearly all models of transformers
            inputs = {**dict(zip(names, args, strict=False)), **named}
            run = self._bound(lambda model, call: _loss_of(model(*call[0], **call[1])), (args, named))
            self._batches.append(
                MicroBatch(loss=run, rng=RandomState.now(), inputs=inputs, counts=_targets.counts(inputs))
            )

    @_harmless
    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self._batches or self._measured:
            return
        altered = any(p.grad is not None and p.grad._version != v for p, v in self._versions.items())
        self._measure(altered=altered, scale=_scale_of(optimizer))

    @_harmless
    def _after_step(self, *_: Any) -> None:
        self._step += 1
        if not self.watch.due and self._passes not in (0, self._usual) and self._passes == self._before:
            self.watch.again()  # twice in a row: no short last step of an epoch
        self._before, self._passes = self._passes, 0
        self._close()
        self._batches, self._measured = [], False

    # --- one step ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The first micro-batch of a step."""
        if self._batches:
            return
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self._stale = any(p.grad is not None and bool(p.grad.any()) for p in trainable)
        if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in trainable):
            raise CannotMeasure(Reason.OPTIMIZER_IN_BACKWARD)
        self._versions, self._backwards, self._weights = {}, {}, fingerprint(self.model)
        self._in_window = [p.register_post_accumulate_grad_hook(self._accumulated) for p in trainable]
        self._watch_clipping()

    def _accumulated(self, p: torch.Tensor) -> None:
        if p.grad is not None:
            assert isinstance(p, torch.nn.Parameter)
            self._versions[p] = p.grad._version
            self._backwards[p] = self._backwards.get(p, 0) + 1

    def _watch_clipping(self) -> None:
        """Measure before `torch.nn.utils.clip_grad_norm_`, which this step may call; undone when the step ends."""
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            self._in_window.append(_Replaced(torch.nn.utils, name, self.check))

    def _close(self) -> None:
        while self._in_window:
            self._in_window.pop().remove()

    def _measure(self, *, altered: bool, scale: float = 1.0) -> None:
        self._close()
        self._measured = self._busy = True
        try:
            self._measure_now(altered, scale)
        finally:
            self._busy = False

    def _measure_now(self, altered: bool, scale: float) -> None:
        self._usual = self._passes
        passes = max(self._backwards.values(), default=0)
        if self.loss_fn is None and passes != len(self._batches):
            detail = f"{len(self._batches)} forward and {passes} backward passes"
            raise CannotMeasure(Reason.SEVERAL_LOSSES, detail)
        device = next(self.model.parameters()).device
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if len(self._batches) * world == 1:
            raise CannotMeasure(Reason.NOTHING_ACCUMULATED)
        low = self._autocast is not ExitStack
        m = measure_step(
            Step(
                model=self.model, micro_batches=self._batches, number=self._step + 1, loss_scale=scale,
                unit=Unit.GIVEN if self.items else None, low_precision=low, stale=self._stale,
                weights=self._weights,
            )
        )  # fmt: skip
        limit = self.max_grad_norm
        clipped_size = limit is not None and m.accumulated_norm is not None and m.accumulated_norm < 0.999 * limit
        if altered and not clipped_size and not _is_whole(m) and not (self._sharing and not limit):
            raise CannotMeasure(Reason.CLIPPED, f"call check() before the clipping; {device.type}")
        m = replace(m, max_grad_norm=limit, received_norm=min(m.accumulated_norm or 0.0, limit) if limit else None)
        self.watch.take(m, lambda: self._stack(m))

    def _bound(self, run: LossFn, batch: Any) -> Callable[[], torch.Tensor]:
        def loss() -> torch.Tensor:
            with self._autocast():
                return run(self.model, batch)

        return loss

    def _stack(self, m: Measurement) -> _known.Stack:
        facts = {"trainer": "a loop", "custom_loss": "none", "model": "none"}  # no trainer's bug
        return _known.Stack(ga=m.micro_batches, world_size=m.world_size, facts=facts)


class _Replaced:
    """A function of a module that calls `before` first, until it is removed."""

    def __init__(self, module: Any, name: str, before: Callable[[], Any]) -> None:
        self.module, self.name, self.original = module, name, getattr(module, name)

        def replacement(*args: Any, **kwargs: Any) -> Any:
            before()
            return self.original(*args, **kwargs)

        self.replacement = replacement
        setattr(module, name, replacement)

    def remove(self) -> None:
        """Put the original back, unless somebody else has put something there since."""
        if getattr(self.module, self.name) is self.replacement:
            setattr(self.module, self.name, self.original)


def _is_whole(m: Measurement) -> bool:
    """Whether nothing has changed the size of the gradient: it is that of the whole batch."""
    return m.grad_factor is not None and abs(m.grad_factor - 1) < max(m.tolerance, 0.01)


def _unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    while isinstance(model, torch.nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def _loss_of(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None:
        raise CannotMeasure(Reason.NO_LOSS, "the model returns none: give guard() a loss_fn")
    found: torch.Tensor = loss
    return found


def _scale_of(optimizer: torch.optim.Optimizer) -> float:
    """A GradScaler leaves the unscaling to fused optimizers."""
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else float(scale)


def _autocast_now(device: str) -> Callable[[], ExitStack]:
    """The autocast in force, to be entered again."""
    if not torch.is_autocast_enabled(device):
        return ExitStack
    dtype = torch.get_autocast_dtype(device)

    def enter() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(torch.autocast(device, dtype=dtype))
        return stack

    return enter


__all__ = ["LoopGuard", "guard", "own_loss"]
