"""The task of every engine: learnable data, and the gradient of a whole batch in one pass.

A standalone script's helper: standard library and torch, no ga_audit.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from array import array
from pathlib import Path

import torch

VOCAB = 64
IGNORE = -100
LENGTH = 24
HELD_OUT = 64  # sequences that are never trained on


def sequences(
    count: int, *, seed: int = 0, lengths: str = "variable", length: int = LENGTH, packing: bool = False
) -> list[list[int]]:
    """Token sequences with a structure that a small model learns: each token mostly decides the next.

    Lengths vary between a third of `length` and `length`, or are all `length`. With `packing` a row is `length` tokens
    of the sequences laid end to end, token 0 between them.
    """
    generator = torch.Generator().manual_seed(seed)
    following = torch.randint(0, VOCAB, (VOCAB, 2), generator=generator)
    found: list[list[int]] = []
    stream: list[int] = []
    while len(found) < count:
        n = length if lengths == "fixed" else int(torch.randint(length // 3, length + 1, (1,), generator=generator))
        token = int(torch.randint(0, VOCAB, (1,), generator=generator))
        sequence = [token]
        for _ in range(n - 1):
            draw = float(torch.rand(1, generator=generator))
            if draw < 0.1:
                token = int(torch.randint(0, VOCAB, (1,), generator=generator))
            else:
                token = int(following[token, 0 if draw < 0.7 else 1])
            sequence.append(token)
        if packing:
            stream += [*sequence, 0]
            while len(stream) >= length:
                found.append(stream[:length])
                stream = stream[length:]
        else:
            found.append(sequence)
    return found[:count]


def collate(batch: list[list[int]], length: int = LENGTH) -> dict[str, torch.Tensor]:
    """Padded to one length, so that a batch and its micro-batches see the same shapes."""
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    labels = torch.full((len(batch), length), IGNORE, dtype=torch.long)
    mask = torch.zeros(len(batch), length, dtype=torch.long)
    for i, sequence in enumerate(batch):
        n = len(sequence)
        ids[i, :n] = labels[i, :n] = torch.tensor(sequence)
        mask[i, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def token_mean_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Mean cross-entropy over the shifted labels of the whole batch: what every trainer means to report."""
    shifted = logits[:, :-1].float().reshape(-1, logits.size(-1))
    wanted = labels[:, 1:].reshape(-1)
    return torch.nn.functional.cross_entropy(shifted, wanted, ignore_index=IGNORE, label_smoothing=smoothing)


def causal_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor], smoothing: float = 0.0) -> torch.Tensor:
    """The whole batch in one pass; the model is given no labels, so its own loss has no say."""
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return token_mean_loss(output.logits, batch["labels"], smoothing)


def reference(model, batch: dict[str, torch.Tensor], loss_of=causal_loss) -> tuple[float, torch.Tensor]:
    """Loss and gradient (flat, float64) of a whole effective batch at the current parameters, in one pass.

    Computed in the parameters' own precision, float32, outside any autocast. Leaves the model's `.grad` as it was.
    """
    kept = [p.grad for p in model.parameters()]
    training = model.training
    model.eval()  # no dropout: the reference is a number, not a sample
    for p in model.parameters():
        p.grad = None
    loss = loss_of(model, on_device_of(model, batch))
    loss.backward()
    gradient = flat_gradient(model)
    for p, grad in zip(model.parameters(), kept, strict=True):
        p.grad = grad
    model.train(training)
    return float(loss.detach()), gradient


def held_out_loss(model, batch: dict[str, torch.Tensor], loss_of=causal_loss) -> float:
    """Loss of the sequences that were not trained on, in one pass: no trainer's bookkeeping has a part in it."""
    training = model.training
    model.eval()
    with torch.no_grad():
        loss = float(loss_of(model, on_device_of(model, batch)))
    model.train(training)
    return loss


def on_device_of(model: torch.nn.Module, batch: dict) -> dict:
    """The batch where the model is; what is no tensor (texts, flags) as it was."""
    device = next(model.parameters()).device
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def device_named(name: str) -> str:
    """`auto` resolved to what is there: cuda, then mps, then cpu. A device that is not there is refused, not replaced."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, is_there in there.items() if is_there)
    if not there[name]:
        raise SystemExit(f"--device {name}: this torch ({torch.__version__}) finds none; give --device cpu, or auto")
    return name


def dtype_named(name: str, device: str) -> str:
    """`auto` resolved: bfloat16 on a GPU that has it, float32 elsewhere."""
    if name != "auto":
        return name
    return "bfloat16" if device_named(device) == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    """All gradients as one float64 vector on the CPU; a parameter without one counts as zero."""
    return torch.cat([
        (p.grad if p.grad is not None else torch.zeros_like(p)).detach().cpu().double().flatten()
        for p in model.parameters()
    ])  # fmt: skip


def flat_parameters(model: torch.nn.Module) -> torch.Tensor:
    """All parameters as one float64 vector on the CPU."""
    return torch.cat([p.detach().cpu().double().flatten() for p in model.parameters()])


def compare(accumulated: torch.Tensor, wanted: torch.Tensor) -> dict[str, float]:
    """Norm ratio and cosine of two gradients."""
    a, b = float(accumulated.norm()), float(wanted.norm())
    cosine = float(accumulated @ wanted) / (a * b) if a and b else math.nan
    return {"norm": a, "reference_norm": b, "ratio": a / b if b else math.nan, "cosine": cosine}


def write_truth(out: Path, truth: dict, before: torch.Tensor, after: torch.Tensor, *, comparable: bool = True) -> None:
    """`truth.json`, and all parameters after training as 32-bit little-endian floats in `parameters.f32`.

    Not `comparable`: cells of other GA train on other data, so a difference of parameters would say nothing.
    """
    if not comparable:
        (out / "truth.json").write_text(json.dumps(truth, indent=1), "utf-8")
        return
    values = array("f", after.float().tolist())
    if sys.byteorder == "big":
        values.byteswap()
    (out / "parameters.f32").write_bytes(values.tobytes())
    moved = {"parameter_count": after.numel(), "parameters_moved": float((after - before).norm())}
    (out / "truth.json").write_text(json.dumps({**truth, **moved}, indent=1), "utf-8")


def set_up(seed: int) -> None:
    """The same numbers in every run: one seed, few threads."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)


def leave() -> None:
    """End a process that is one of several ranks once all of them are done; the only one goes on.

    A rank that ends earlier breaks the connections of those that still measure. And no destructor runs: at the end of a
    process those of gloo's threads abort it, once in twenty times (torch 2.13).
    """
    dist = torch.distributed
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def checked(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments, if the effective batch can be divided; their output folder is made."""
    if args.effective_batch_size % (args.ga * args.world_size):
        raise SystemExit(f"--effective-batch-size {args.effective_batch_size} is no multiple of GA x world size")
    Path(args.out).mkdir(parents=True, exist_ok=True)
    return args


def parser(doc: str, *, measure_every: int) -> argparse.ArgumentParser:
    """The options that every engine has: one cell of the matrix, and when its truth is measured."""
    options = argparse.ArgumentParser(description=doc)
    options.add_argument("--ga", type=int, default=1)
    options.add_argument("--world-size", type=int, default=1)
    options.add_argument("--effective-batch-size", type=int, default=16)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--measure-every", type=int, default=measure_every)
    options.add_argument("--seed", type=int, default=42)
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--max-grad-norm", type=float, default=1.0, help="0: no clipping")
    options.add_argument("--lengths", choices=("fixed", "variable"), default="variable")
    options.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="cpu")
    options.add_argument("--benchmark", action="store_true", help="say how fast the device multiplies, too")
    return options
