"""What the loss of a micro-batch is a mean over, and how many of them it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ga_audit.guards._result import Unit

IGNORE = -100
_CLOSE = 1e-4  # relative, of two computations of one loss in float32
_CLOSE_LOW = 1e-3  # from logits in bfloat16 or float16
# heads whose labels are one class for each position, and the one whose labels are shifted
_SHIFTED = ("ForCausalLM", "LMHeadModel", "ForConditionalGenerationCausal")
_PER_POSITION = ("ForMaskedLM", "ForTokenClassification", "ForConditionalGeneration", "ForPreTraining")


def counts(inputs: Any) -> dict[Unit, float]:
    """Items in a micro-batch, by each unit that its inputs allow."""
    found: dict[Unit, float] = {}
    labels = labels_in(inputs)
    if labels is not None and labels.dim() > 1:
        found[Unit.TOKENS] = float((labels != IGNORE).sum())
        found[Unit.SHIFTED_TOKENS] = float((labels[..., 1:] != IGNORE).sum())
    shifted = _classes(inputs.get("shift_labels")) if isinstance(inputs, Mapping) else None
    if shifted is not None:
        found[Unit.SHIFTED_TOKENS] = float((shifted != IGNORE).sum())
    if (samples := samples_in(inputs)) is not None:
        found[Unit.SAMPLES] = float(samples)
    return found


def labels_in(inputs: Any) -> torch.Tensor | None:
    """The classes that are to be predicted, under a usual name or as the last of a pair."""
    if isinstance(inputs, Mapping):
        named = (inputs[name] for name in ("labels", "targets", "target", "y") if name in inputs)
        return _classes(next(named, None))
    return _classes(inputs[-1]) if isinstance(inputs, (tuple, list)) and len(inputs) > 1 else None


def _classes(labels: object) -> torch.Tensor | None:
    """The labels, if they are classes."""
    ok = isinstance(labels, torch.Tensor) and not labels.is_floating_point() and labels.dim() > 0
    return labels if ok and isinstance(labels, torch.Tensor) else None


def samples_in(inputs: Any) -> int | None:
    """Length of the first tensor, or list, in the inputs."""
    parts = (
        inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, (tuple, list)) else [inputs]
    )
    for part in parts:
        if isinstance(part, torch.Tensor) and part.dim() > 0:
            return int(part.shape[0])
        if isinstance(part, Mapping) and (inner := samples_in(part)) is not None:
            return inner
    first = next(iter(parts), None)
    return len(first) if isinstance(first, (list, tuple)) else None


def head_unit(model: torch.nn.Module, held: Mapping[Unit, float]) -> Unit:
    """The unit that the model's class and the labels suggest, where the loss itself does not tell."""
    names = " ".join(
        type(m).__name__ for m in model.modules() if "For" in type(m).__name__ or "LMHead" in type(m).__name__
    )
    if Unit.SHIFTED_TOKENS in held:
        if any(name in names for name in _SHIFTED):
            return Unit.SHIFTED_TOKENS
        if any(name in names for name in _PER_POSITION):
            return Unit.TOKENS
    return Unit.SAMPLES


def unit_of(loss: torch.Tensor, output: Any, inputs: Any, *, low_precision: bool) -> Unit | None:
    """The unit over which cross-entropy gives the loss; None where it is another loss."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    labels = labels_in(inputs)
    if labels is None or not (isinstance(logits, torch.Tensor) and logits.is_floating_point()):
        return None
    close = _CLOSE_LOW if low_precision else _CLOSE
    value = float(loss.detach())
    wanted = _cross_entropies(logits, labels)
    off = sorted((abs(value / mean - 1), unit) for unit, mean in wanted.items() if mean > 0)
    if not off or off[0][0] > close:
        return None
    # before training all of them are about log(classes): one has to fit much better than the other
    alone = len(off) == 1 or off[1][0] > max(20 * off[0][0], 2e-6)
    return off[0][1] if alone else None


def _cross_entropies(logits: torch.Tensor, labels: torch.Tensor) -> dict[Unit, float]:
    """Mean cross-entropy over each unit; row by row, so that no second copy of the logits is made."""
    if logits.dim() == 2 and labels.dim() == 1 and logits.shape[0] == labels.shape[0]:
        total, n = _summed(logits, labels)
        return {Unit.SAMPLES: total / n} if n else {}
    if logits.dim() != 3 or labels.dim() != 2 or logits.shape[:2] != labels.shape:
        return {}
    found = {}
    for unit, by in ((Unit.SHIFTED_TOKENS, 1), (Unit.TOKENS, 0)):
        parts = [_summed(row[: len(row) - by], wanted[by:]) for row, wanted in zip(logits, labels, strict=True)]
        if n := sum(count for _, count in parts):
            found[unit] = sum(total for total, _ in parts) / n
    return found


def _summed(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, int]:
    loss = torch.nn.functional.cross_entropy(
        logits.detach().float(), labels.to(logits.device), ignore_index=IGNORE, reduction="sum"
    )
    return float(loss), int((labels != IGNORE).sum())
