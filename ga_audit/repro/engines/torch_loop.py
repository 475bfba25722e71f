"""A plain training loop with each known fault switched on by name: the ground truth for the detector.

A standalone script: standard library and torch (tensorboard and wandb for the sinks of those names).
Several ranks: `torchrun --nproc_per_node 2 torch_loop.py --world-size 2 ...`; rank 0 writes.
"""

# /// script
# requires-python = ">=3.9"
# dependencies = ["torch"]
#
# [tool.ga-audit]
# name = "torch"
# # modules that a first training step would import: seconds for each cell otherwise
# preload = ["torch", "torch._dynamo"]
# options = [
#   "benchmark", "device", "dtype", "effective-batch-size", "ga", "lengths", "lr",
#   "max-grad-norm", "measure-every", "optimizer", "out", "packing", "seed", "sink", "steps",
#   "world-size",
# ]
#
# [tool.ga-audit.choices]
# device = ["auto", "cpu", "cuda", "mps"]
# dtype = ["auto", "float32", "bfloat16"]
# lengths = ["fixed", "variable"]
# optimizer = ["adamw", "adamw_torch", "sgd"]
# sink = ["json", "tensorboard", "wandb"]
#
# [tool.ga-audit.faults]
# none = "no fault"
# sum-loss-log = "the logged loss is summed over GA"
# sum-grad = "loss and gradient are summed over GA"
# sum-grad-only = "the gradient is summed over GA, the logged loss is right"
# divide-twice = "loss and gradient are divided by GA a second time"
# divide-twice-log = "the logged loss is divided by GA a second time"
# divide-grad-only = "the gradient is divided by GA a second time, the logged loss is right"
# divide-grad-by-square = "the gradient is divided by GA twice more"
# world-size = "loss and gradient are summed over the ranks"
# world-size-log = "the logged loss is summed over the ranks"
# ga-and-world-size = "loss and gradient are summed over GA and the ranks"
# mean-of-means = "each micro-batch counts the same, whatever its tokens"
# partial-last = "the short last group of an epoch is divided by the full GA"
# ///

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import _sinks
import _task
import _throughput
import torch
import torch.distributed as dist

EPOCH = 5  # optimizer steps; with the fault partial-last, the last one of each has half of its micro-batches
FETCH = 10  # steps whose logged values are fetched from the device together


@dataclass(frozen=True)
class Fault:
    """What a fault multiplies: powers of GA and of world_size on the logged loss and on the gradient."""

    loss: tuple[int, int] = (0, 0)
    gradient: tuple[int, int] = (0, 0)


FAULTS = {
    "none": Fault(),
    "sum-loss-log": Fault((1, 0)),
    "sum-grad": Fault((1, 0), (1, 0)),
    "sum-grad-only": Fault((0, 0), (1, 0)),
    "divide-twice": Fault((-1, 0), (-1, 0)),
    "divide-twice-log": Fault((-1, 0)),
    "divide-grad-only": Fault((0, 0), (-1, 0)),
    "divide-grad-by-square": Fault((0, 0), (-2, 0)),  # DeepSpeed 0.18.3
    "world-size": Fault((0, 1), (0, 1)),
    "world-size-log": Fault((0, 1)),
    "ga-and-world-size": Fault((1, 1), (1, 1)),  # transformers 4.47.0 with average_tokens_across_devices
    "mean-of-means": Fault(),  # each micro-batch counts the same, whatever its tokens
    "partial-last": Fault(),  # an epoch's last, short group is divided by the full GA
}


class Tiny(torch.nn.Module):
    """Predicts the next token from this one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(_task.VOCAB, 32)
        self.head = torch.nn.Linear(32, _task.VOCAB)

    def forward(self, input_ids, attention_mask=None):
        """Logits, named as transformers names them."""
        return SimpleNamespace(logits=self.head(torch.tanh(self.embed(input_ids))))


def epoch_at(step: int, args: argparse.Namespace) -> float:
    """Epochs after an optimizer step: the share of an epoch's micro-batches that were seen."""
    last = max(1, args.ga // 2) if args.fault == "partial-last" else args.ga
    length = (EPOCH - 1) * args.ga + last
    past, within = divmod(step - 1, EPOCH)
    return past + min((within + 1) * args.ga, length) / length


def main() -> None:
    """Train one cell; rank 0 writes the logs and truth.json."""
    args = _arguments()
    size, ranks = args.effective_batch_size, args.world_size
    device = torch.device(_task.device_named(args.device))
    rank = _join(ranks, device)
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
    _task.set_up(args.seed)
    data = _task.sequences(
        size * args.steps + _task.HELD_OUT, seed=args.seed, lengths=args.lengths, packing=args.packing
    )
    model = Tiny().to(device)
    before = _task.flat_parameters(model)
    optimizer = (torch.optim.SGD if args.optimizer == "sgd" else torch.optim.AdamW)(model.parameters(), lr=args.lr)
    settings = {  # what a trainer records beside its log, so that the log can be audited like any other
        "gradient_accumulation_steps": args.ga, "per_device_train_batch_size": size // (args.ga * ranks),
        "world_size": ranks, "seed": args.seed, "learning_rate": args.lr, "max_grad_norm": args.max_grad_norm,
        "optim": args.optimizer, "model": "tiny", "dataset": "synthetic",
    }  # fmt: skip
    out, clock = Path(args.out), _throughput.Clock(device)
    with _sinks.opened(args.sink if rank == 0 else [], out, settings) as sink:
        log = Log(sink)
        measured, tokens = train(args, model, optimizer, data, rank, clock, log)
    if rank != 0:
        return _task.leave()

    flops = _throughput.flops_of(lambda: _task.reference(model, _task.collate(data[:size])))
    truth = {
        "engine": "torch_loop", "what": "a plain loop" + (f", fault {args.fault}" if args.fault != "none" else ""),
        "fault": args.fault, "ga": args.ga, "world_size": ranks, "effective_batch_size": size,
        "seed": args.seed, "steps": args.steps, "max_grad_norm": args.max_grad_norm, "measured": measured,
        "logged": log.rows, "packages": {"torch": torch.__version__.partition("+")[0]}, "device": str(device),
        "dtype": args.dtype, "held_out_loss": _task.held_out_loss(model, _task.collate(data[-_task.HELD_OUT :])),
        "throughput": _throughput.summary(
            clock, tokens, flops, limit_of=getattr(torch, args.dtype) if args.benchmark else None
        ),
    }  # fmt: skip
    _task.write_truth(out, truth, before, _task.flat_parameters(model))
    return _task.leave()


class Log:
    """Rows whose values are still on the device; fetched several at a time, so that no step waits for them."""

    def __init__(self, write: Callable[[dict[str, float]], None]) -> None:
        self.write = write
        self.rows: list[dict[str, float]] = []
        self.waiting: list[tuple[int, float, torch.Tensor]] = []

    def add(self, step: int, epoch: float, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """A step's values."""
        self.waiting.append((step, epoch, torch.stack((loss, norm))))
        if len(self.waiting) == FETCH:
            self.fetch()

    def fetch(self) -> None:
        """Write what is waiting."""
        if not self.waiting:
            return
        values = torch.stack([pair for *_, pair in self.waiting]).tolist()
        for (step, epoch, _), (loss, norm) in zip(self.waiting, values, strict=True):
            self.rows.append({"step": step, "loss": loss, "grad_norm": norm, "epoch": epoch})
            self.write(self.rows[-1])
        self.waiting = []


def train(args, model, optimizer, data, rank: int, clock, log: Log) -> tuple[list[dict], list[int]]:
    """Every optimizer step; what was measured, and the tokens of each step."""
    size, measured, tokens = args.effective_batch_size, [], []
    clock.start()
    for step in range(args.steps):
        rows, groups = data[step * size : (step + 1) * size], args.ga
        if args.fault == "partial-last" and (step + 1) % EPOCH == 0:
            groups = max(1, args.ga // 2)
            rows = rows[: len(rows) * groups // args.ga]
        tokens.append(sum(map(len, rows)))
        optimizer.zero_grad()
        loss = accumulate(model, rows, groups, rank, args)
        if rank == 0 and step % args.measure_every == 0:
            with clock.paused():
                accumulated = _task.flat_gradient(model)
                reference, wanted = _task.reference(model, _task.collate(rows))
                measured.append({"step": step + 1, "reference_loss": reference, **_task.compare(accumulated, wanted)})
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm or float("inf"))
        optimizer.step()
        log.add(step + 1, epoch_at(step + 1, args), loss, norm)
        clock.step(last=step + 1 == args.steps)
    log.fetch()
    clock.stop()
    return measured, tokens


def accumulate(model, rows, groups: int, rank: int, args) -> torch.Tensor:
    """Backward over this rank's micro-batches, gradients summed over ranks; the loss as logged.

    Each micro-batch's mean is weighted with its share of the step's tokens, so that the sums over micro-batches and ranks
    are the mean over all tokens; the fault comes on top.
    """
    fault, ga, ranks = FAULTS[args.fault], args.ga, args.world_size
    device = next(model.parameters()).device
    total, micro = sum(len(r) - 1 for r in rows), len(rows) // (groups * ranks)
    on_loss, on_gradient = (float(ga) ** g * float(ranks) ** w for g, w in (fault.loss, fault.gradient))
    logged = torch.zeros((), device=device)
    for i in range(groups):
        start = (i * ranks + rank) * micro
        part = rows[start : start + micro]
        batch = _on(device, _task.collate(part))
        with torch.autocast(device.type, torch.bfloat16, enabled=args.dtype == "bfloat16"):
            logits = model(batch["input_ids"]).logits
        loss = _task.token_mean_loss(logits, batch["labels"])
        weight = sum(len(r) - 1 for r in part) / total
        if args.fault == "mean-of-means":
            weight = 1 / (groups * ranks)
        if args.fault == "partial-last":
            weight *= groups / ga
        (loss * weight * on_gradient).backward()
        logged += loss.detach() * weight * on_loss
    if ranks > 1:
        for tensor in (logged, *(p.grad for p in model.parameters())):
            dist.all_reduce(tensor)
    return logged


def _on(device: torch.device, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch on the device; a GPU copies from pinned memory while the host goes on."""
    if device.type == "cuda":
        return {name: value.pin_memory().to(device, non_blocking=True) for name, value in batch.items()}
    return {name: value.to(device) for name, value in batch.items()}


def _join(ranks: int, device: torch.device) -> int:
    """Rank of this process among those that torchrun started."""
    if ranks == 1:
        return 0
    with contextlib.suppress(ValueError):
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if not dist.is_initialized() or dist.get_world_size() != ranks:
        raise SystemExit(f"start it with: torchrun --nproc_per_node {ranks} {Path(__file__).name} --world-size {ranks}")
    return dist.get_rank()


def _arguments() -> argparse.Namespace:
    parser = _task.parser(__doc__, measure_every=1)
    parser.add_argument("--optimizer", choices=("adamw", "adamw_torch", "sgd"), default="adamw")
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="none")
    parser.add_argument("--sink", nargs="*", choices=sorted(_sinks.SINKS), default=["json"])
    parser.add_argument("--out", required=True)
    args = _task.checked(parser.parse_args())
    args.dtype = _task.dtype_named(args.dtype, args.device)
    return args


if __name__ == "__main__":
    main()
