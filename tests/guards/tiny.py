"""Tiny trainings of which the whole batch's gradient is known, with and without planted faults."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch

VOCAB = 32
IGNORE = -100


class TinyLM(torch.nn.Module):
    """Embedding, dropout, an LSTM-free mixing layer: logits, and a mean loss over the predicted tokens."""

    def __init__(self, *, dropout: float = 0.1, norm: bool = False) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(VOCAB, 16)
        self.mix = torch.nn.Linear(16, 16)
        self.norm = torch.nn.BatchNorm1d(16) if norm else torch.nn.Identity()
        self.drop = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(16, VOCAB)

    def forward(self, input_ids, labels=None):
        x = torch.tanh(self.mix(self.embed(input_ids)))
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        logits = self.head(self.drop(x))
        if labels is None:
            return {"logits": logits}
        return {"loss": token_loss(logits, labels, "mean"), "logits": logits}


def token_loss(logits, labels, reduction: str):
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, VOCAB), labels[:, 1:].reshape(-1), ignore_index=IGNORE, reduction=reduction
    )


def batches(steps: int, ga: int, *, size: int = 2, seed: int = 0, uneven: bool = True) -> list[list[dict]]:
    """Micro-batches of each step; `uneven`: between 3 and 12 labels in a row."""
    made = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        step = []
        for _ in range(ga):
            ids = torch.randint(0, VOCAB, (size, 12), generator=made)
            labels = ids.clone()
            if uneven:
                n = int(torch.randint(3, 13, (1,), generator=made))
                labels[:, n:] = IGNORE
            step.append({"input_ids": ids, "labels": labels})
        found.append(step)
    return found


def predicted(batch: dict) -> int:
    return int((batch["labels"][:, 1:] != IGNORE).sum())


def train(
    weigh: Callable, *, steps: int = 4, ga: int = 4, model=None, attach: Callable = lambda model, optimizer: None,
    prepare: Callable = lambda model, step, i: None, finish: Callable = lambda model, step: None, clip: float | None = None,
    uneven: bool = True, zero: bool = True, lr: float = 0.1,
):  # fmt: skip
    """A plain loop: `weigh(loss, batch, step)` is what is run backward; returns the model and the random numbers after."""
    seed()
    model = model() if model is not None else TinyLM()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    guard = attach(model, optimizer)
    for number, step in enumerate(batches(steps, ga, uneven=uneven)):
        for i, batch in enumerate(step):
            prepare(model, number, i)
            if guard is not None:
                guard.micro_batch(batch)
            loss = model(**batch)["loss"]
            weigh(loss, batch, step).backward()
        finish(model, number)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if zero:
            optimizer.zero_grad()
    return model, guard, draws()


def seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def draws() -> tuple:
    """The next numbers of every generator: equal only if their states are."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def right(loss, batch, step):
    return loss * predicted(batch) / sum(map(predicted, step))


def same(a, b) -> bool:
    """Whether two models are equal bit for bit, buffers too."""
    left, other = a.state_dict(), b.state_dict()
    return left.keys() == other.keys() and all(torch.equal(left[k], other[k]) for k in left)
