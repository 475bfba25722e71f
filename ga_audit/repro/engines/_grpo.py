"""The gradient of TRL's GRPO trainer against that of its objective over all completions of an optimizer step.

A standalone script's helper: torch, transformers and trl, no ga_audit.

The trainer makes its own data, so what a step was trained on is taken from the micro-batches that it hands to its loss.
The objective is written out here, from the papers and TRL's documentation, without any count that the trainer keeps:
clipped importance weights times advantages (beta 0: no KL term), put together over the whole step as `loss_type` says.
"""

from __future__ import annotations

import re

import _measure
import torch

_KEPT = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "old_per_token_logps")
# put together in a way in which micro-batches add up to the whole: then even a small loss has a ratio
_EXACT = ("grpo", "dr_grpo", "dapo")
_NEAR_ZERO = (
    "a loss that is near zero by construction (the advantages of a group add up to nothing): its ratio says nothing"
)
_UNEQUAL = (
    "a loss near zero to which tokens of different micro-batches count unequally (loss_type {}): its ratio says nothing"
)


def reward(completions, **_) -> list[float]:
    """Share of even numbers among the words of each completion: what a small model can learn, and never a tie for long."""
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    numbers = [[int(word[1:]) for word in text.split() if word[1:].isdigit()] for text in texts]
    return [sum(n % 2 == 0 for n in row) / (len(row) or 1) for row in numbers]


class Measure(_measure.Measure):
    """The comparison of a step, whose whole batch is what the trainer's loss is given between two steps."""

    def __init__(self, every: int, settings, release: str) -> None:
        super().__init__([], every, self.objective)
        self.settings = settings  # the trainer's arguments
        # before it was an option: a mean of sequences, then (0.16) a mean over the tokens of a micro-batch
        unnamed = "grpo" if _number(release) < (0, 16) else "bnpo"
        self.kind = getattr(settings, "loss_type", unnamed)
        self.parts: list[dict[str, torch.Tensor]] = []
        self.step = -1  # that the parts are of
        self.scale = 1.0  # mean absolute advantage of the batch that was measured last

    def attach(self, trainer) -> None:
        """Watch the loss too, of a trainer that has not started."""
        compute = trainer.compute_loss

        def watched(model, inputs, *args, **kwargs):
            if not isinstance(inputs, dict) or "advantages" not in inputs:
                raise SystemExit("this release generates completions inside its loss, where they cannot be seen")
            if self.step != trainer.state.global_step:
                self.parts, self.step = [], trainer.state.global_step
            self.parts.append({name: inputs[name].detach().clone() for name in _KEPT if inputs.get(name) is not None})
            return compute(model, inputs, *args, **kwargs)

        trainer.compute_loss = watched
        super().attach(trainer)

    def has_batch_of(self, step: int) -> bool:
        """Whether the loss was given anything in this step."""
        return self.step == step

    def batch_of(self, step: int) -> dict[str, torch.Tensor]:
        """The micro-batches of the present step, of all ranks, as one."""
        batch = joined(_of_all_ranks(self.parts))
        self.scale = float(batch["advantages"].abs().mean())
        return batch

    def note(self, step: int, accumulated: torch.Tensor, loss: float | None, wanted: torch.Tensor) -> None:
        """Keep the comparison; the loss only where a ratio to it tells of its scale: no rounding, no matter of weights."""
        told = loss is not None and self.kind in _EXACT and abs(loss) > 1e-3 * self.scale
        super().note(step, accumulated, loss if told else None, wanted)

    def why_no_ratio(self) -> str | None:
        """What a missing ratio of the loss must say of itself."""
        if any(row["reference_loss"] is not None for row in self.found) or not self.found:
            return None
        return _NEAR_ZERO if self.kind in _EXACT else _UNEQUAL.format(self.kind)

    def objective(self, model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of all completions of a step in one pass."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        wanted, counted = batch["completion_ids"], batch["completion_mask"]
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -wanted.size(1) - 1 : -1].float()
        temperature = getattr(self.settings, "temperature", None) or 1.0
        log_p = (logits / temperature).log_softmax(-1).gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
        weight = (log_p - batch.get("old_per_token_logps", log_p.detach())).exp()
        low, high = _clip_range(self.settings)
        advantages = batch["advantages"].reshape(len(ids), -1)
        by_token = -torch.minimum(weight * advantages, weight.clamp(1 - low, 1 + high) * advantages) * counted
        if self.kind == "grpo":
            return (by_token.sum(1) / counted.sum(1).clamp(min=1)).mean()
        if self.kind == "dr_grpo":
            return by_token.sum() / (len(ids) * self.settings.max_completion_length)
        if self.kind in ("bnpo", "dapo"):
            return by_token.sum() / counted.sum().clamp(min=1)
        raise SystemExit(f"the objective of loss_type {self.kind!r} is not known here: it cannot be measured")


def _number(release: str) -> tuple[int, int]:
    """Major and minor number; `1.0rc1` counts as 1.0."""
    major, minor = re.match(r"(\d+)\.(\d+)", release).groups()
    return int(major), int(minor)


def _clip_range(settings) -> tuple[float, float]:
    """How far importance weights may lie below and above 1; releases before the clipping have no bounds."""
    low = getattr(settings, "epsilon", None)
    if low is None:
        return 1.0, float("inf")
    return low, getattr(settings, "epsilon_high", None) or low


def _of_all_ranks(parts: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return parts
    gathered: list = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, [{name: value.cpu() for name, value in part.items()} for part in parts])
    return [part for rank in gathered for part in rank]


def joined(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Micro-batches as one batch: prompts padded on the left, completions on the right, where their lengths differ."""
    assert all(part.keys() == parts[0].keys() for part in parts), "micro-batches of one step hold different tensors"
    return {name: torch.cat(_of_one_width(name, [part[name] for part in parts])) for name in parts[0]}


def _of_one_width(name: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    if tensors[0].dim() < 2:
        return tensors
    widest = max(t.size(1) for t in tensors)
    return [
        torch.nn.functional.pad(t, (widest - t.size(1), 0) if name.startswith("prompt") else (0, widest - t.size(1)))
        for t in tensors
    ]
