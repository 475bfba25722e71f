"""Watch a Trainer of transformers or of a library built on it: the gradient of each step before it is clipped.

A standalone script's helper: torch, no ga_audit.
"""

from __future__ import annotations

import _task
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook


class Measure:
    """Compares the gradient that a step accumulated, before it is clipped, with that of the step's whole batch.

    Two places are watched: `Accelerator.clip_grad_norm_`, the last at which the gradient is whole and not yet clipped, and
    the optimizer's step, for trainings that do not clip. Callbacks of the Trainer come after the clipping.
    """

    def __init__(self, batches: list[dict[str, torch.Tensor]], every: int, loss_of) -> None:
        self.batches, self.every, self.loss_of = batches, every, loss_of
        self.found: list[dict[str, float]] = []
        self.trainer = None

    def attach(self, trainer) -> None:
        """Watch both places of a trainer that has not started."""
        self.trainer = trainer
        clip = trainer.accelerator.clip_grad_norm_

        def watched(parameters, *args, **kwargs):
            self.take()
            return clip(parameters, *args, **kwargs)

        trainer.accelerator.clip_grad_norm_ = watched
        register_optimizer_step_pre_hook(lambda *_: self.take())

    def take(self) -> None:
        """The comparison at the present step, once."""
        step = self.trainer.state.global_step
        if self.due(step):
            accumulated = _task.flat_gradient(self.trainer.model)
            self.note(step, accumulated, *_task.reference(self.trainer.model, self.batches[step], self.loss_of))

    def due(self, step: int) -> bool:
        """Whether the step after `step` of them is one to be measured, and is not yet."""
        taken = bool(self.found) and self.found[-1]["step"] == step + 1
        return not (taken or step % self.every or step >= len(self.batches))

    def note(self, step: int, accumulated: torch.Tensor, loss: float, wanted: torch.Tensor) -> None:
        """Keep the comparison of the step after `step` of them."""
        self.found.append({"step": step + 1, "reference_loss": loss, **_task.compare(accumulated, wanted)})


def logged(trainer) -> list[dict[str, float | None]]:
    """What the Trainer logged, in its own order."""
    return [
        {k: row.get(k) for k in ("step", "loss", "grad_norm", "eval_loss")}
        for row in trainer.state.log_history
        if "loss" in row or "eval_loss" in row
    ]
