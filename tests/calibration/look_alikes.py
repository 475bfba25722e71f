"""Healthy runs that are unrelated but look alike, and matched runs, as a console prints them: GA is all that is known.

Look-alikes differ in seed, order, data, batch and learning rate, at levels that differ by chance. Their curves are flat or
smooth, printed in four decimals, two, or bfloat16, 3 to 10 points of them; some are nearly free of noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ga_audit.run import Run

from .judge import read
from .simulator import CLASSES, make, pair

PRINTED = ("four decimals", "two decimals", "bfloat16", "float32")
SHAPES = ("flat", "decay", "line", "drop")


def printed(value: np.ndarray, how: str) -> np.ndarray:
    """Values as a trainer prints them."""
    if how == "float32":
        return value.astype(np.float32).astype(float)
    if how == "bfloat16":
        bits = value.astype(np.float32).view(np.uint32)
        return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32).astype(float)
    return np.round(value, 4 if how == "four decimals" else 2)


def _curve(rng: np.random.Generator, shape: str, n: int, size: float) -> np.ndarray:
    """Log of a loss over n points, whose movement is `size`."""
    x = np.arange(n) / max(1, n - 1)
    if shape == "flat":
        return np.zeros(n)
    if shape == "line":
        return -size * x
    if shape == "drop":
        return -size * (x > 0)
    return np.log((1 - size) + size / (1 + x * rng.uniform(1, 20)) ** rng.uniform(0.5, 1.5))


def unrelated(rng: np.random.Generator, ratio: int, n: int) -> list[Run]:
    """Two right runs of one task with GA 1 and `ratio`, and no other relation."""
    shape = str(rng.choice(SHAPES))
    size = float(rng.uniform(0.02, 0.6))
    noise = float(np.exp(rng.uniform(math.log(5e-4), math.log(0.1))))
    level = rng.uniform(math.log(0.3), math.log(4))
    how = str(rng.choice(PRINTED))
    runs = []
    for i, ga in enumerate((1, ratio)):
        own = _curve(rng, shape, n, size * float(np.exp(rng.normal(0, 0.05))))
        effect = rng.normal(0, 0.02) * (1 - np.exp(-4 * np.arange(1, n + 1) / n))
        data = rng.normal(0, 0.15) / math.sqrt(2)
        curve = level + data + own + effect + rng.normal(0, noise, n)
        runs.append(make(f"r{i}", np.arange(1, n + 1), printed(np.exp(curve), how), None, ga=ga))
    return runs


def matched(rng: np.random.Generator, ratio: int, n: int, truth: int, *, record: bool) -> list[Run]:
    """Two runs of the same batches in the same order, which differ by the last printed digits."""
    shape, size = str(rng.choice(SHAPES)), float(rng.uniform(0.1, 0.6))
    common = rng.uniform(0, 1) + _curve(rng, shape, n, size) + rng.normal(0, rng.uniform(0.01, 0.1), n)
    runs = []
    for i, ga in enumerate((1, ratio)):
        loss = printed(np.exp(common + rng.normal(0, 2e-5, n)) * ga**truth, "four decimals")
        known = {"micro": 16 // ga, "world_size": 1, "seed": 42, "lr": 1e-4, "model": "m", "dataset": "d"}
        runs.append(make(f"r{i}", np.arange(1, n + 1), loss, None, ga=ga, **(known if record else {})))
    return runs


def false_verdicts(seed: int, count: int) -> Iterator[bool]:
    """Whether a verdict on each unrelated pair is a wrong one."""
    for ratio in (2, 4, 8):
        for n in range(3, 11):
            for i in range(count):
                found = read(unrelated(np.random.default_rng([seed, ratio, n, i]), ratio, n))
                yield found.verdict not in ("healthy", "inconclusive")


def decided(seed: int, count: int, *, record: bool) -> Iterator[bool]:
    """Whether each matched pair gets its right verdict."""
    for ratio in (2, 4, 8):
        for n in (5, 6, 10, 40):
            for truth in (0, 1):
                for i in range(count):
                    rng = np.random.default_rng([seed, ratio, n, truth, i])
                    found = read(matched(rng, ratio, n, truth, record=record))
                    yield found.verdict == ("summed-over-ga" if truth else "healthy")


def unrecorded(seed: int, count: int) -> Iterator[bool]:
    """Whether a verdict on the simulated pairs of all relations, with GA alone, is a wrong one."""
    for c, kind in enumerate(CLASSES):
        for ratio in (2, 4, 8):
            for n in (3, 5, 10, 20, 100):
                for truth in (0, 1):
                    for i in range(count):
                        rng = np.random.default_rng([seed, c, ratio, n, truth, i])
                        found = read(pair(rng, kind, ratio, n, loss=truth, record=False))
                        yield found.verdict not in ("summed-over-ga" if truth else "healthy", "inconclusive")
