"""Groups of runs that are awkward to draw, each from a fixed seed."""

from __future__ import annotations

import numpy as np
from factories import make_run, make_series, twins

from ga_audit.run import Role, Run


def loss(n: int, seed: int = 0) -> np.ndarray:
    """A curve that falls from 4 to 2."""
    return 2 + 2 * np.exp(-np.arange(n) / 15) + np.random.default_rng(seed).normal(0, 0.05, n)


def many(n: int = 30, *, ga: bool = True) -> list[Run]:
    gas = [2 ** (i % 4) if ga else None for i in range(n)]
    return [
        make_run(f"run-{i}", ga=g, loss=loss(60, i) * (g or 1), grad_norm=loss(60, i) * (g or 1), max_grad_norm=3.0)
        for i, g in enumerate(gas)
    ]


def names() -> list[Run]:
    """200 characters, twice the same at both ends; right to left; Chinese; markup of three kinds."""
    texts = [
        "a" * 99 + "1" + "b" * 100, "a" * 99 + "2" + "b" * 100, "تجربة التدريب الأولى", "ניסוי ראשון", "実験その一・学習率",
        "$x_1$ <b>&amp; \u202egnp\x1b[31m",
    ]  # fmt: skip
    return [
        make_run(name, ga=2**i, loss=loss(40, i) * 2**i, grad_norm=loss(40, i) * 2**i, max_grad_norm=1.0)
        for i, name in enumerate(texts)
    ]


def single() -> list[Run]:
    """One run with all that can bound its loss."""
    value = loss(90)
    epoch = make_series(Role.EPOCH, (np.arange(90) + 1) / 30)
    return [make_run("only", ga=8, loss=value * 8, eval_loss=value[29::30] + 0.05, eval_steps=[30, 60, 90],
                     vocab_size=50257, series=[epoch])]  # fmt: skip


ODD: dict[str, list[Run]] = {
    "nan": [
        make_run("a", ga=1, loss=[1, np.nan, 2, 3, 2, 1], grad_norm=[np.nan] * 6),
        make_run("b", ga=8, loss=[8, np.inf, 16, 24, np.nan, 9]),
    ],
    "one-point": [make_run("a", ga=2, loss=[2.715]), make_run("b", ga=8, loss=[10.848])],
    "one-run": [make_run("a", ga=8, loss=[3, 2, 1])],
    "single": single(),
    "30-runs": many(),
    "30-runs-no-ga": many(ga=False),
    "names": names(),
    "negative": [make_run("a", ga=1, loss=[0.1, -0.1, 0.0]), make_run("b", ga=8, loss=[0.8, -0.8, 0.0])],
    "spike": [make_run("a", ga=1, loss=[*loss(500), 1e30, *loss(500)]), make_run("b", ga=8, loss=loss(1001) * 8)],
    "huge": [make_run("a", ga=1, loss=[1e300, 1e308]), make_run("b", ga=8, loss=[1e-300, 5e-324])],
    "empty": [make_run("a", ga=1, loss=[]), make_run("b")],
    "healthy": twins(0),
    "1000-steps": [
        make_run(f"ga{g}", ga=g, loss=loss(1000, g) * g, grad_norm=np.exp(loss(1000, g)) * g, max_grad_norm=10.0)
        for g in (1, 2, 4, 8)
    ],
}  # fmt: skip
