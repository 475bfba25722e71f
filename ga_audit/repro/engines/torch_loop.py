"""A plain training loop with each known fault switched on by name: the ground truth for the detector.

A standalone script: standard library and torch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import _task
import torch

FAULTS = {  # exponent of GA on (logged loss, gradient)
    "none": (0, 0), "sum-loss-log": (1, 0), "sum-grad": (1, 1), "sum-grad-only": (0, 1),
    "divide-twice": (-1, -1), "divide-twice-log": (-1, 0), "mean-of-means": (0, 0),
}  # fmt: skip


class Tiny(torch.nn.Module):
    """Predicts the next token from this one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(_task.VOCAB, 32)
        self.head = torch.nn.Linear(32, _task.VOCAB)

    def forward(self, input_ids, attention_mask=None):
        """Logits, named as transformers names them."""
        return SimpleNamespace(logits=self.head(torch.tanh(self.embed(input_ids))))


def main() -> None:
    """Train one cell; write trainer_state.json and truth.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ga", type=int, default=1)
    parser.add_argument("--world-size", type=int, default=1)
    parser.add_argument("--effective-batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--lengths", choices=("fixed", "variable"), default="variable")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="none")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    size = args.effective_batch_size
    if args.world_size != 1 or size % args.ga:
        raise SystemExit("one rank only, and --effective-batch-size a multiple of --ga")
    _task.set_up(args.seed)
    data = _task.sequences(size * args.steps, seed=args.seed, lengths=args.lengths)
    model = Tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    history, measured = [], []
    for step in range(args.steps):
        rows = data[step * size : (step + 1) * size]
        reference, wanted = _task.reference(model, _task.collate(rows))
        optimizer.zero_grad()
        loss = accumulate(model, rows, args.ga, args.fault)
        measured.append(
            {"step": step + 1, "reference_loss": reference, **_task.compare(_task.flat_gradient(model), wanted)}
        )
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm))
        optimizer.step()
        history.append({"step": step + 1, "loss": loss, "grad_norm": norm})
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "trainer_state.json").write_text(json.dumps({"global_step": args.steps, "log_history": history}))
    # what a trainer records beside its log, so that the log can be audited like any other
    (out / "args.json").write_text(json.dumps({
        "gradient_accumulation_steps": args.ga, "per_device_train_batch_size": size // args.ga, "world_size": 1,
        "seed": args.seed, "learning_rate": args.lr, "max_grad_norm": args.max_grad_norm, "optim": "adamw",
        "model": "tiny", "dataset": "synthetic",
    }))  # fmt: skip
    (out / "truth.json").write_text(json.dumps({
        "engine": "torch_loop", "fault": args.fault, "ga": args.ga, "world_size": 1, "effective_batch_size": size,
        "seed": args.seed, "steps": args.steps, "measured": measured, "logged": history,
        "packages": {"torch": torch.__version__.partition("+")[0]},
        "parameters_head": _task.flat_parameters(model)[:64].tolist(),
    }))  # fmt: skip


def accumulate(model, rows, ga: int, fault: str) -> float:
    """Backward over the micro-batches; the loss as logged."""
    on_log, on_grad = FAULTS[fault]
    total, logged, micro = sum(len(r) - 1 for r in rows), 0.0, len(rows) // ga
    for i in range(ga):
        part = rows[i * micro : (i + 1) * micro]
        batch = _task.collate(part)
        loss = _task.token_mean_loss(model(batch["input_ids"]).logits, batch["labels"])
        weight = 1 / ga if fault == "mean-of-means" else sum(len(r) - 1 for r in part) / total
        (loss * weight * float(ga) ** on_grad).backward()
        logged += float(loss.detach()) * weight * float(ga) ** on_log
    return logged


if __name__ == "__main__":
    main()
