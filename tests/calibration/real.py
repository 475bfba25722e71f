"""Real training, small: `python -m tests.calibration.real` measures run effects and judges runs it was not fitted on.

A language model of 11,000 parameters (two tokens of context, one hidden layer) learns a Markov language from scratch
by AdamW with clipping, in plain numpy: true gradients, true gradient noise, fixed and variable lengths. The micro-
batches of a step are taken together with the weight that each token has after accumulation, which is the same
arithmetic. Faults multiply what is logged, and the gradient before clipping where they are real.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ga_audit.finding import NotApplicable
from ga_audit.grouping import Group
from ga_audit.run import Role, Run

from .judge import both, covers
from .simulator import make

VOCAB, EMBED, HIDDEN, LENGTH = 64, 16, 64, 24


@dataclass(frozen=True)
class Plan:
    task: int  # the language
    ga: int
    micro: int
    seed: int = 0  # initialisation and data order
    lr: float = 3e-3
    variable: bool = True  # sequences of 4 to 24 tokens instead of 24
    token_mean: bool = False  # every token counts the same, instead of every micro-batch
    loss: int = 0  # logged loss x GA**loss
    norm: int = 0  # gradient x GA**norm
    sgd: bool = False


def corpus(task: int, count: int = 3000) -> np.ndarray:
    """Sequences (count, LENGTH + 2) of a random Markov chain of order 1 with sparse rows."""
    rng = np.random.default_rng([task, 1])
    table = np.cumsum(rng.dirichlet(np.full(VOCAB, 0.08), VOCAB), axis=1)
    out = np.empty((count, LENGTH + 2), np.int64)
    out[:, 0] = rng.integers(VOCAB, size=count)
    for t in range(1, LENGTH + 2):
        out[:, t] = np.minimum((rng.random(count)[:, None] > table[out[:, t - 1]]).sum(axis=1), VOCAB - 1)
    return out


def train(plan: Plan, steps: int = 120) -> Run:
    """One training; its log as a Run."""
    text = corpus(plan.task)
    start = np.random.default_rng([plan.seed, 2])
    order = np.random.default_rng([plan.seed, 3])
    shapes = ((VOCAB, EMBED), (2 * EMBED, HIDDEN), (HIDDEN, VOCAB))
    weights = [start.normal(0, s[0] ** -0.5 if i else 0.3, s) for i, s in enumerate(shapes)]
    first, second = [np.zeros(s) for s in shapes], [np.zeros(s) for s in shapes]
    losses, norms = np.empty(steps), np.empty(steps)
    factor = float(plan.ga) ** plan.norm
    for step in range(steps):
        batch = text[order.integers(len(text), size=plan.ga * plan.micro)]
        lengths = order.integers(4, LENGTH + 1, size=len(batch)) if plan.variable else np.full(len(batch), LENGTH)
        value, gradient = _gradient(weights, batch, _token_weights(lengths, plan))
        gradient = [g * factor for g in gradient]
        norm = float(np.sqrt(sum((g**2).sum() for g in gradient)))
        losses[step], norms[step] = value * float(plan.ga) ** plan.loss, norm
        clip = min(1.0, 1.0 / norm)
        for i, g in enumerate(gradient):
            first[i] = 0.9 * first[i] + 0.1 * g * clip
            second[i] = 0.99 * second[i] + 0.01 * (g * clip) ** 2
            if plan.sgd:
                weights[i] -= 100 * plan.lr * g * clip
            else:
                mean, var = first[i] / (1 - 0.9 ** (step + 1)), second[i] / (1 - 0.99 ** (step + 1))
                weights[i] -= plan.lr * (mean / (np.sqrt(var) + 1e-8) + 0.01 * weights[i])
    return make(
        f"{plan.ga}x{plan.micro} seed {plan.seed} lr {plan.lr}", np.arange(1, steps + 1), losses, norms, 1, ga=plan.ga,
        micro=plan.micro, world_size=1, seed=plan.seed, lr=plan.lr, model="m", dataset=f"task {plan.task}",
        max_grad_norm=1.0,
    )  # fmt: skip


def _token_weights(lengths: np.ndarray, plan: Plan) -> np.ndarray:
    """What each token of a step counts (sequences, LENGTH); sums to 1."""
    mask = np.arange(LENGTH) < lengths[:, None]
    if plan.token_mean:
        return mask / mask.sum()
    tokens = mask.reshape(plan.ga, -1).sum(axis=1)
    return mask / np.repeat(tokens, plan.micro)[:, None] / plan.ga


def _gradient(weights: list[np.ndarray], batch: np.ndarray, share: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Weighted cross entropy and its gradient."""
    embed, inner, outer = weights
    keep = share > 0
    left, right, target = batch[:, :-2][keep], batch[:, 1:-1][keep], batch[:, 2:][keep]
    w = share[keep]
    x = np.concatenate((embed[left], embed[right]), axis=1)
    h = np.tanh(x @ inner)
    logits = h @ outer
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(target))
    value = float(-(w * np.log(p[rows, target])).sum())
    p[rows, target] -= 1
    p *= w[:, None]
    back = (p @ outer.T) * (1 - h**2)
    to_x = back @ inner.T
    d_embed = np.zeros_like(embed)
    np.add.at(d_embed, left, to_x[:, :EMBED])
    np.add.at(d_embed, right, to_x[:, EMBED:])
    return value, [d_embed, x.T @ back, h.T @ p]


def relations(task: int, seed: int) -> dict[str, list[Plan]]:
    """Plans of pairs with a GA ratio of 2, 4 or 8, by how else they differ from a base run."""
    a, b = 100 * task + 2 * seed, 100 * task + 2 * seed + 1
    ratio = (2, 4, 8)[seed % 3]
    micro = 32 // ratio
    return {
        "twin": [Plan(task, 1, 32, a), Plan(task, ratio, micro, a)],
        "twin, fixed length": [Plan(task, 1, 32, a, variable=False), Plan(task, ratio, micro, a, variable=False)],
        "seed": [Plan(task, 1, 32, a), Plan(task, ratio, micro, b)],
        "seed, SGD": [Plan(task, 1, 32, a, sgd=True), Plan(task, ratio, micro, b, sgd=True)],
        "batch": [Plan(task, 1, 16, a), Plan(task, ratio, 16, b)],
        "learning rate x3": [Plan(task, 1, 32, a, lr=2e-3), Plan(task, ratio, micro, b, lr=6e-3)],
        "batch, learning rate x3": [Plan(task, 1, 16, a, lr=2e-3), Plan(task, ratio, 16, b, lr=6e-3)],
    }


def measure(tasks: range, seeds: int) -> Iterator[str]:
    """Run effects: rms of the contrast of levels of healthy runs, by relation."""
    yield "| relation | pairs | rms contrast, loss | grad_norm | first quarter, loss |"
    yield "| --- | --- | --- | --- | --- |"
    found: dict[str, list[tuple[float, float, float]]] = {}
    for task in tasks:
        for seed in range(seeds):
            for name, plans in relations(task, seed).items():
                runs = Group(tuple(train(p) for p in plans))
                row = []
                for role, quarter in ((Role.LOSS, 1.0), (Role.GRAD_NORM, 1.0), (Role.LOSS, 0.25)):
                    panel = runs.panel(role)
                    assert not isinstance(panel, NotApplicable)
                    part = panel.level[:, : max(1, int(panel.level.shape[1] * quarter))]
                    row.append(float(np.mean(part[1] - part[0])))
                found.setdefault(name, []).append((row[0], row[1], row[2]))
    for name, rows in found.items():
        rms = np.sqrt(np.mean(np.square(rows), axis=0))
        yield f"| {name} | {len(rows)} | {rms[0]:.4f} | {rms[1]:.4f} | {rms[2]:.4f} |"


def judged(tasks: range, seeds: int) -> Iterator[str]:
    """Verdicts on runs of languages that were not used above, GA ratio 2 to 8, logs cut to their first lines."""
    yield "| relation | truth | pairs | covered | right | inconclusive | wrong | kind right | kind wrong |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name in relations(0, 0):
        for truth, (loss, norm) in {"healthy": (0, 0), "loss and gradient": (1, 1), "loss only": (1, 0)}.items():
            seen = []
            for task in tasks:
                for seed in range(seeds):
                    plans = [_with(p, loss, norm) for p in relations(task, seed)[name]]
                    runs = [train(p) for p in plans]
                    for lines in (5, 20, 120):
                        seen.append(_verdict([_cut(r, lines) for r in runs], loss, norm))
            got = np.mean(np.array(seen, dtype=float), axis=0)
            yield f"| {name} | {truth} | {len(seen)} | " + " | ".join(f"{x:.3f}" for x in got) + " |"


def _with(plan: Plan, loss: int, norm: int) -> Plan:
    from dataclasses import replace

    return replace(plan, loss=loss, norm=norm)


def _cut(run: Run, lines: int) -> Run:
    from dataclasses import replace

    return replace(
        run, series=tuple(replace(s, position=s.position[:lines], value=s.value[:lines]) for s in run.series)
    )


def _verdict(runs: list[Run], loss: int, norm: int) -> tuple[bool, bool, bool, bool, bool, bool]:
    """(covered, right, inconclusive, wrong, kind right, kind wrong)."""
    names = ("healthy", "summed-over-ga")
    first, second = both(runs)
    right, open_ = first.verdict == names[loss], first.verdict == "inconclusive"
    kind, kind_open = second.verdict == names[norm], second.verdict == "inconclusive"
    return covers(first, loss), right, open_, not right and not open_, kind, not kind and not kind_open


def main() -> int:
    """Print both tables."""
    start = time.time()
    for line in measure(range(3), 3):
        print(line, flush=True)
    print()
    for line in judged(range(10, 14), 3):
        print(line, flush=True)
    print(f"\n{time.time() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
