"""`LightningGuard` for the `Trainer` of Lightning, with automatic optimization."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ga_audit.guards import _known, _targets, _watch
from ga_audit.guards._reference import MicroBatch, Step, fingerprint, measure_step
from ga_audit.guards._result import CannotMeasure, Measurement, Reading, Reason
from ga_audit.guards._state import RandomState

if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback

_harmless = _watch.harmless(lambda guard: guard.watch)


class LightningGuard(Callback):  # type: ignore[misc]
    """Measures in the first optimizer steps whether the accumulated gradient is that of the whole batch.

    Parameters
    ----------
    steps : optimizer steps that are measured; each costs about one more step.
    on_fault : "warn", "raise" or "ignore".
    loss_name : under which the training loss is logged, to be checked too.

    Examples
    --------
    Trainer(accumulate_grad_batches=4, callbacks=[LightningGuard()])
    """

    def __init__(self, *, steps: int = 2, on_fault: _watch.OnFault = "warn", loss_name: str | None = None) -> None:
        super().__init__()
        self.watch = _watch.Watch(steps=steps, on_fault=on_fault)
        self.loss_name = loss_name
        self._calls: list[tuple[Any, int, RandomState]] = []
        self._stale = False
        self._weights: tuple[float, ...] = ()
        self._unlogged: dict[str, float] = {}

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

    @_harmless
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Look at the strategy."""
        self.watch.again()
        self._calls = []
        name = type(trainer.strategy).__name__
        if not pl_module.automatic_optimization:
            raise CannotMeasure(Reason.SEVERAL_LOSSES, "manual optimization")
        if "FSDP" in name or "ModelParallel" in name:
            raise CannotMeasure(Reason.SHARDED, name)
        if "DeepSpeed" in name:
            raise CannotMeasure(Reason.DEEPSPEED, name)

    @_harmless
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep a micro-batch."""
        if not self.watch.due:
            return
        if not self._calls:
            self._weights = fingerprint(pl_module)
            self._stale = False  # Lightning sets gradients to zero after this hook
        self._calls.append((batch, batch_idx, RandomState.now()))

    @_harmless
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Measure: the gradient is whole, unscaled and not clipped."""
        calls, self._calls = self._calls, []
        if not self.watch.due or not calls:
            return
        if len(calls) * trainer.world_size == 1:
            raise CannotMeasure(Reason.NOTHING_ACCUMULATED)
        with _no_logging(pl_module):
            m = measure_step(
                Step(
                    model=pl_module, micro_batches=[_micro_batch(trainer, pl_module, *call) for call in calls],
                    number=trainer.global_step + 1, low_precision="16" in str(trainer.precision),
                    weights=self._weights, called=False,
                )
            )  # fmt: skip
        m = replace(m, max_grad_norm=float(trainer.gradient_clip_val) if trainer.gradient_clip_val else None)
        self._unlogged = {"ga_audit/grad_factor": m.grad_factor or 0.0, "ga_audit/cosine": m.cosine or 0.0}
        self.watch.take(m, lambda: _stack(m))

    @_harmless
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log what was measured; the logged loss is one micro-batch's unless it is averaged."""
        if self._unlogged:
            for logger in trainer.loggers:
                logger.log_metrics(self._unlogged, step=trainer.global_step)
            self._unlogged = {}


def _micro_batch(trainer: Any, module: Any, batch: Any, index: int, rng: RandomState) -> MicroBatch:
    def loss() -> torch.Tensor:
        with trainer.precision_plugin.train_step_context():
            output = module.training_step(batch, index)
        found = output["loss"] if isinstance(output, dict) else output
        if not isinstance(found, torch.Tensor):
            raise CannotMeasure(Reason.NO_LOSS)
        return found

    return MicroBatch(loss=loss, rng=rng, inputs=batch, counts=_targets.counts(batch))


@contextmanager
def _no_logging(module: Any) -> Iterator[None]:
    """What a second run of the training step logs is not wanted."""
    names = ("log", "log_dict")
    kept = {name: vars(module)[name] for name in names if name in vars(module)}
    for name in names:
        object.__setattr__(module, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        for name in names:
            object.__delattr__(module, name)
        for name, value in kept.items():
            object.__setattr__(module, name, value)


def _stack(m: Measurement) -> _known.Stack:
    facts = {"trainer": "Lightning", "custom_loss": "none", "model": "none"}
    return _known.Stack(ga=m.micro_batches, world_size=m.world_size, facts=facts)
