"""The task of every engine: a tiny model, learnable data, and the gradient of a whole batch in one pass.

A standalone script's helper: standard library and torch, no ga_audit.
"""

from __future__ import annotations

import math

import torch

VOCAB = 64
IGNORE = -100


def sequences(count: int, *, seed: int = 0, lengths: str = "variable", length: int = 24) -> list[list[int]]:
    """Token sequences with a structure that a small model learns: each token mostly decides the next.

    Lengths vary between a third of `length` and `length`, or are all `length`.
    """
    generator = torch.Generator().manual_seed(seed)
    following = torch.randint(0, VOCAB, (VOCAB, 2), generator=generator)
    found = []
    for _ in range(count):
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
        found.append(sequence)
    return found


def collate(batch: list[list[int]], length: int = 24) -> dict[str, torch.Tensor]:
    """Padded to one length, so that a batch and its micro-batches see the same shapes."""
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    labels = torch.full((len(batch), length), IGNORE, dtype=torch.long)
    mask = torch.zeros(len(batch), length, dtype=torch.long)
    for i, sequence in enumerate(batch):
        n = len(sequence)
        ids[i, :n] = labels[i, :n] = torch.tensor(sequence)
        mask[i, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def token_mean_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the shifted labels of the whole batch: what every trainer means to report."""
    shifted = logits[:, :-1].float().reshape(-1, logits.size(-1))
    wanted = labels[:, 1:].reshape(-1)
    return torch.nn.functional.cross_entropy(shifted, wanted, ignore_index=IGNORE)


def reference(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Loss and gradient (flat, float64) of a whole effective batch at the current parameters, in one pass.

    Leaves the model's own `.grad` as it was.
    """
    kept = [p.grad for p in model.parameters()]
    training = model.training
    model.eval()  # no dropout: the reference is a number, not a sample
    for p in model.parameters():
        p.grad = None
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    loss = token_mean_loss(output.logits, batch["labels"])
    loss.backward()
    gradient = flat_gradient(model)
    for p, grad in zip(model.parameters(), kept, strict=True):
        p.grad = grad
    model.train(training)
    return float(loss.detach()), gradient


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    """All gradients as one float64 vector; a parameter without one counts as zero."""
    return torch.cat([
        (p.grad if p.grad is not None else torch.zeros_like(p)).detach().double().flatten() for p in model.parameters()
    ])  # fmt: skip


def flat_parameters(model: torch.nn.Module) -> torch.Tensor:
    """All parameters as one float64 vector."""
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def compare(accumulated: torch.Tensor, wanted: torch.Tensor) -> dict[str, float]:
    """Norm ratio and cosine of two gradients."""
    a, b = float(accumulated.norm()), float(wanted.norm())
    cosine = float(accumulated @ wanted) / (a * b) if a and b else math.nan
    return {"norm": a, "reference_norm": b, "ratio": a / b if b else math.nan, "cosine": cosine}


def set_up(seed: int) -> None:
    """The same numbers in every run: one seed, few threads."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
