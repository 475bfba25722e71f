"""Data-parallel ranks: sums, gathers, and whether all of them can go on."""

from __future__ import annotations

import torch


class Ranks:
    """The ranks of the default process group; without one, a rank that is alone."""

    def __init__(self, device: torch.device) -> None:
        dist = torch.distributed
        self.size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.number = dist.get_rank() if self.size > 1 else 0
        self.device = device

    def sum(self, values: list[float]) -> list[float]:
        """Over all ranks."""
        if self.size == 1:
            return values
        found = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(found)
        return [float(v) for v in found]

    def least(self, value: int | None) -> int | None:
        """The least of all ranks; None if it is None for all of them."""
        if self.size == 1:
            return value
        found = torch.tensor([(1 << 62) if value is None else value], device=self.device)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MIN)
        return None if int(found) == 1 << 62 else int(found)

    def add(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by its sum over all ranks."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """That of every rank; all have one shape."""
        if self.size == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        torch.distributed.all_gather(found, tensor.contiguous())
        return found

    def all_can(self, can: bool) -> bool:
        """Whether every rank can: asked of all of them before what they do together, so that none waits for ever."""
        if self.size == 1:
            return can
        found = torch.tensor([int(can)], device=self.device)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MIN)
        return bool(found.item())
