"""Watch a Trainer of transformers or of a library built on it: the gradient of each step before it is clipped.

A standalone script's helper: torch and transformers, no ga_audit.
"""

from __future__ import annotations

from pathlib import Path

import _task
import _throughput
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import TrainerCallback


class Measure:
    """Compares the gradient that a step accumulated, before it is clipped, with that of the step's whole batch.

    Two places are watched: `Accelerator.clip_grad_norm_`, the last at which the gradient is whole and not yet clipped, and
    the optimizer's step, for trainings that do not clip. Callbacks of the Trainer come after the clipping.
    """

    def __init__(self, batches: list[dict[str, torch.Tensor]], every: int, loss_of) -> None:
        self.batches, self.every, self.loss_of = batches, every, loss_of
        self.found: list[dict[str, float]] = []
        self.trainer = None
        self.clock = None

    def attach(self, trainer) -> None:
        """Watch both places of a trainer that has not started."""
        self.time(trainer)
        clip = trainer.accelerator.clip_grad_norm_

        def watched(parameters, *args, **kwargs):
            self.take()
            return clip(parameters, *args, **kwargs)

        trainer.accelerator.clip_grad_norm_ = watched
        register_optimizer_step_pre_hook(lambda *_: self.take())

    def time(self, trainer) -> None:
        """Take the trainer as the one that is measured, and its time without its evaluations."""
        self.trainer = trainer
        self.clock = _throughput.Clock(trainer.args.device)
        trainer.add_callback(_Steps(self.clock))
        evaluate = trainer.evaluate

        def unclocked(*args, **kwargs):
            with self.clock.paused():
                return evaluate(*args, **kwargs)

        trainer.evaluate = unclocked

    def take(self) -> None:
        """The comparison at the present step, once."""
        step = self.trainer.state.global_step
        if self.due(step):
            with self.clock.paused():
                accumulated = _task.flat_gradient(self.trainer.model)
                self.note(step, accumulated, *_task.reference(self.trainer.model, self.batch_of(step), self.loss_of))

    def due(self, step: int) -> bool:
        """Whether the step after `step` of them is one to be measured, and is not yet."""
        taken = bool(self.found) and self.found[-1]["step"] == step + 1
        return not (taken or step % self.every) and self.has_batch_of(step)

    def has_batch_of(self, step: int) -> bool:
        """Whether it is known what the step after `step` of them is trained on."""
        return step < len(self.batches)

    def batch_of(self, step: int) -> dict[str, torch.Tensor]:
        """The whole batch of the step after `step` of them."""
        return self.batches[step]

    def note(self, step: int, accumulated: torch.Tensor, loss: float | None, wanted: torch.Tensor) -> None:
        """Keep the comparison of the step after `step` of them."""
        self.found.append({"step": step + 1, "reference_loss": loss, **_task.compare(accumulated, wanted)})

    def train(self) -> None:
        """The training, timed."""
        self.clock.start()
        self.trainer.train()
        self.clock.stop()

    def untouched(self) -> torch.nn.Module:
        """A model whose backward pass is only that."""
        return self.trainer.model

    def step_flops(self) -> int:
        """Floating-point operations of a step. On every rank: a trainer's own loss may gather from the others."""
        return _throughput.flops_of(lambda: _task.reference(self.untouched(), self.batches[0], self.loss_of))

    def throughput(self, tokens: list[int], flops: int, *, dtype: torch.dtype, benchmark: bool) -> dict[str, object]:
        """How fast it went; `tokens` are those of each step, `flops` what `step_flops` counted."""
        return _throughput.summary(self.clock, tokens, flops, limit_of=dtype if benchmark else None)

    def finish(self, args, out: Path, **more: object) -> dict[str, object]:
        """Save what the trainer logged in its own form; what truth.json says of every Trainer, and `more`."""
        self.trainer.save_state()
        torch.save(self.trainer.args, out / "training_args.bin")
        kept = ("variant", "ga", "world_size", "effective_batch_size", "seed", "steps", "max_grad_norm")
        return {
            **{name: getattr(args, name) for name in kept}, "device": str(self.trainer.args.device),
            "average_tokens": getattr(self.trainer.args, "average_tokens_across_devices", None),
            "measured": self.found, "logged": logged(self.trainer), **more,
        }  # fmt: skip


class _Steps(TrainerCallback):
    """Tells the clock when an optimizer step is done."""

    def __init__(self, clock: _throughput.Clock) -> None:
        self.clock = clock

    def on_step_end(self, args, state, control, **kwargs):
        """Called after the optimizer."""
        self.clock.step(last=state.global_step >= state.max_steps)


def token_mean(model, batch) -> torch.Tensor:
    """Mean over the labels of the batch; the model sees no labels, so its own loss has no say."""
    kept = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}
    return _task.token_mean_loss(model(**kept).logits, batch["labels"])


def own_loss(trainer):
    """The trainer's own loss of a batch, without a count."""

    def loss(model, batch) -> torch.Tensor:
        return trainer.compute_loss(model, dict(batch))

    return loss


def logged(trainer) -> list[dict[str, float | None]]:
    """What the Trainer logged, in its own order."""
    return [
        {k: row.get(k) for k in ("step", "loss", "grad_norm", "eval_loss")}
        for row in trainer.state.log_history
        if "loss" in row or "eval_loss" in row
    ]
