"""DeepSpeed under the Trainer, and the gradient that ZeRO hands to its optimizer before it clips it.

A standalone script's helper: torch, deepspeed (ZeRO 1 and 2, float32), no ga_audit.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os

import _measure
import _task
import torch


def settings(stage: int) -> dict:
    """What the Trainer's documentation has for ZeRO: every number `auto`, which the Trainer fills in from its arguments."""
    names = ("gradient_accumulation_steps", "gradient_clipping", "train_batch_size", "train_micro_batch_size_per_gpu")
    return {**dict.fromkeys(names, "auto"), "zero_optimization": {"stage": stage}, "zero_allow_untested_optimizer": True,
            "fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"}}  # fmt: skip


def set_up(args, device: str) -> None:
    """Ready DeepSpeed in this process; without a launcher, a process that is the only rank.

    The environment is set before DeepSpeed is imported: it chooses its accelerator then.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise SystemExit(f"the variant {args.variant} needs deepspeed: pip install deepspeed")
    if args.dtype != "float32":  # DeepSpeed would hold the model itself in bfloat16, and with it the reference
        raise SystemExit(f"the variant {args.variant} is measured in float32 only")
    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # else `mpirun` is asked for the ranks; port 0: one that is free
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
    for name, value in alone.items():
        os.environ.setdefault(name, str(value))
    # on the CPU it would compile a transport of its own, minutes if there is a compiler; gloo is what it has without.
    # not `deepspeed.comm.torch`: that name is torch itself
    importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None


class Measure(_measure.Measure):
    """The comparison of a step, where ZeRO 1 and 2 have the whole gradient and have not clipped it.

    DeepSpeed reduces gradients in hooks of the backward pass and clips them itself, so neither `Parameter.grad` nor
    `Accelerator.clip_grad_norm_` shows what the optimizer will get. `unscale_and_clip_grads` is given exactly that: each
    rank's part of each flat parameter group, all divisions done. The reference is taken with a copy of the model, since a
    backward pass through the trained one would run DeepSpeed's hooks.
    """

    def attach(self, trainer) -> None:
        """Watch the step of ZeRO's optimizer, which the Trainer makes only when it starts."""
        from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

        self.time(trainer)
        self.twin = copy.deepcopy(trainer.model)
        step, clip = DeepSpeedZeroOptimizer.step, DeepSpeedZeroOptimizer.unscale_and_clip_grads
        parts: list[torch.Tensor] = []

        def watched_clip(optimizer, grad_groups_flat, *args, **kwargs):
            parts.extend(part.detach().clone() for part in grad_groups_flat)
            return clip(optimizer, grad_groups_flat, *args, **kwargs)

        def watched_step(optimizer, *args, **kwargs):
            parts.clear()
            number = self.trainer.state.global_step
            with self.clock.paused():
                wanted = self.reference(number)
                # where the parameters lie is read now: the step moves their values, not their places
                places = [_places(flat, trainer.model) for flat in optimizer.bit16_groups_flat]
            done = step(optimizer, *args, **kwargs)
            if wanted is not None and parts:  # no part: a step skipped
                with self.clock.paused():
                    self.note(number, _whole(optimizer, parts, places, trainer.model), *wanted)
            return done

        DeepSpeedZeroOptimizer.step, DeepSpeedZeroOptimizer.unscale_and_clip_grads = watched_step, watched_clip

    def untouched(self) -> torch.nn.Module:
        """The copy: the model's own backward pass runs DeepSpeed's hooks."""
        return self.twin

    def reference(self, step: int) -> tuple[float, torch.Tensor] | None:
        """Loss and gradient of the step's whole batch at the present parameters; None if the step is not measured."""
        if not self.due(step):
            return None
        with torch.no_grad():
            for ours, theirs in zip(self.twin.parameters(), self.trainer.model.parameters(), strict=True):
                ours.copy_(theirs)
        return _task.reference(self.twin, self.batches[step], self.loss_of)


def _places(flat: torch.Tensor, model: torch.nn.Module) -> list[int | None]:
    """Where each parameter begins in a flat group, by its address: releases order and pad them differently."""
    first, last = flat.data_ptr(), flat.data_ptr() + flat.numel() * flat.element_size()
    return [
        (p.data_ptr() - first) // flat.element_size() if first <= p.data_ptr() < last else None
        for p in model.parameters()
    ]


def _whole(optimizer, parts: list[torch.Tensor], places: list[list[int | None]], model) -> torch.Tensor:
    """The parts of all ranks and groups as one vector in the order of the parameters; zero for frozen ones."""
    found: list[torch.Tensor | None] = [None] * len(places[0])
    for i, (part, starts) in enumerate(zip(parts, places, strict=True)):
        group = optimizer.real_dp_process_group[i]
        all_parts = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size(group))]
        torch.distributed.all_gather(all_parts, part, group=group)
        flat = torch.cat(all_parts)
        for j, (start, p) in enumerate(zip(starts, model.parameters(), strict=True)):
            if start is not None:
                found[j] = flat[start : start + p.numel()]
    return torch.cat([
        (torch.zeros(p.numel()) if part is None else part).detach().cpu().double()
        for p, part in zip(model.parameters(), found, strict=True)
    ])  # fmt: skip
