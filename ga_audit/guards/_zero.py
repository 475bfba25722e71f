"""The whole gradient that DeepSpeed's ZeRO 1 and 2 hands to its optimizer, before it is clipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ga_audit.guards._result import CannotMeasure, Reason

PLACE = (
    "unscale_and_clip_grads"  # of ZeRO's optimizer: is given each rank's part of each flat group, all divisions done
)


def optimizer_of(trainer: Any) -> Any:
    """ZeRO's optimizer of a Trainer under DeepSpeed.

    Raises
    ------
    CannotMeasure
        it is none of ZeRO 1 or 2.
    """
    engine = getattr(trainer, "deepspeed", None) or trainer.model_wrapped
    optimizer = getattr(engine, "optimizer", None)
    if not all(hasattr(optimizer, name) for name in (PLACE, "bit16_groups_flat", "real_dp_process_group")):
        raise CannotMeasure(Reason.DEEPSPEED, f"{type(optimizer).__name__}; ZeRO 1 and 2 are measured")
    return optimizer


def places(optimizer: Any, model: torch.nn.Module) -> list[tuple[int, int] | None]:
    """Group and first element of each trainable parameter, by its address: releases order and pad them differently."""
    found: list[tuple[int, int] | None] = []
    for p in model.parameters():
        if p.requires_grad:
            at = None
            for i, flat in enumerate(optimizer.bit16_groups_flat):
                first, size = flat.data_ptr(), flat.element_size()
                if first <= p.data_ptr() < first + flat.numel() * size:
                    at = i, (p.data_ptr() - first) // size
            found.append(at)
    return found


def whole(
    optimizer: Any, parts: Sequence[torch.Tensor], at: Sequence[tuple[int, int] | None], model: torch.nn.Module
) -> list[torch.Tensor | None]:
    """The parts of all ranks, one for each group, as a gradient for each trainable parameter; collective."""
    flat = []
    for i, part in enumerate(parts):
        group = optimizer.real_dp_process_group[i]
        pieces = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size(group))]
        torch.distributed.all_gather(pieces, part.contiguous(), group=group)
        flat.append(torch.cat(pieces))
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        None if place is None else flat[place[0]][place[1] : place[1] + p.numel()].view(p.shape)
        for p, place in zip(trainable, at, strict=True)
    ]
