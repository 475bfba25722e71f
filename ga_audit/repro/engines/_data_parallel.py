"""Several devices in one process, as the Trainer takes all GPUs that it sees where no launcher starts a process for each.

A standalone script's helper: torch, no ga_audit.
"""

from __future__ import annotations

import torch


class OneAfterTheOther(torch.nn.Module):
    """`torch.nn.DataParallel` on one device: inputs are split, the model called, outputs gathered as it does."""

    parts = 2

    def __init__(self, module: torch.nn.Module, *_: object, **__: object) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs):
        """The gathered output of the parts."""
        split = {k: v.chunk(self.parts) if torch.is_tensor(v) else (v,) * self.parts for k, v in inputs.items()}
        used = min(map(len, split.values()))  # the shortest decides how many parts there are; what is left is dropped
        outputs = [self.module(**{k: v[i] for k, v in split.items()}) for i in range(used)]
        first = outputs[0]
        return type(first)(**{k: _gathered([o[k] for o in outputs]) for k in first if torch.is_tensor(first[k])})


def _gathered(values: list[torch.Tensor]) -> torch.Tensor:
    """Along the first axis; single numbers, a loss, become a vector."""
    return torch.stack(values) if values[0].dim() == 0 else torch.cat(values)


def settle(arguments, devices: int, *, in_one_process: bool) -> str:
    """Let the process train on so many devices: "devices", "stand-in" where there are not so many, "" for one or for ranks.

    Parameters
    ----------
    arguments : the Trainer's; by themselves they take all GPUs that are there.
    devices : of this process where `in_one_process`.
    """
    if not in_one_process or devices == 1:
        if arguments.n_gpu > 1:
            arguments._n_gpu = 1
        return ""
    real = arguments.n_gpu == devices
    if not real:
        OneAfterTheOther.parts = devices
        torch.nn.DataParallel = OneAfterTheOther
        arguments._n_gpu = devices
    return "devices" if real else "stand-in"
