"""Traps: what logs do to a statistician, each with the verdicts that may be given.

A scenario builds runs from a random generator; `loss` and `norm` are the verdicts that are not wrong. `inconclusive`
alone means that the logs cannot tell, and that saying so is the only right answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ga_audit.run import Role, Run

from .simulator import World, make, pair, simulate

ANY = frozenset({"healthy", "summed-over-ga", "divided-by-ga", "other", "inconclusive"})
OPEN = frozenset({"inconclusive"})
HEALTHY = frozenset({"healthy"})
SUMMED = frozenset({"summed-over-ga"})
CAREFUL = HEALTHY | OPEN
_WORLD = frozenset({"summed-over-world-size", "inconclusive"})


@dataclass(frozen=True)
class Scenario:
    build: Callable[[np.random.Generator], list[Run]]
    loss: frozenset[str]
    norm: frozenset[str] = ANY


def changed(run: Run, role: Role, change: Callable[[np.ndarray], np.ndarray], **fields) -> Run:
    """The run with a series of a role changed."""
    series = tuple(replace(s, value=change(s.value), **fields) if s.role is role else s for s in run.series)
    return replace(run, series=series)


def _both(runs: list[Run], change: Callable[[np.ndarray], np.ndarray]) -> list[Run]:
    return [changed(r, Role.LOSS, change) for r in runs]


def _dirty(truth: float, kind: str = "seed"):
    def build(rng):
        def spoil(v):
            v = v.copy()
            v[rng.random(v.size) < 0.04] *= 8
            v[rng.random(v.size) < 0.03] = np.nan
            return v

        return _both(pair(rng, kind, 4, 100, loss=truth), spoil)

    return build


def _bf16(v: np.ndarray) -> np.ndarray:
    bits = v.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32).astype(float)


def _overfit(rng):
    step = np.arange(1, 101)
    runs = []
    for i, ga in enumerate((1, 4)):
        true = 1.5 * np.exp(-step / (18 + 3 * rng.random())) + 0.02 * np.exp(rng.normal(0, 0.4, 100))
        runs.append(make(f"r{i}", step, np.round(true, 4), None, 1, ga=ga, micro=16 // ga, world_size=1, seed=i,
                         lr=1e-4, model="m", dataset="d"))  # fmt: skip
    return runs


def _diverges(truth: float):
    def build(rng):
        runs = pair(rng, "seed", 4, 100, loss=truth, norm=0)
        late = np.concatenate((np.zeros(50), np.linspace(0, 2, 50)))
        runs[1] = changed(runs[1], Role.LOSS, lambda v: v * np.exp(late))
        runs[1] = changed(runs[1], Role.GRAD_NORM, lambda v: v * np.exp(late))
        return runs

    return build


def _windows(truth: float):
    def build(rng):
        world = World.draw(rng)
        fine = simulate(world, rng, name="a", ga=1, micro=16, batch0=16, n=200, loss=(truth, 0), seed=1)
        coarse = simulate(world, rng, name="b", ga=4, micro=4, batch0=16, n=200, loss=(truth, 0), seed=2)
        thin = tuple(
            replace(s, position=s.position[9::10], window=10,
                    value=s.value.reshape(-1, 10).mean(1) if s.role is Role.LOSS else s.value[9::10])
            for s in coarse.series
        )  # fmt: skip
        return [fine, replace(coarse, series=thin)]

    return build


def _auxiliary(rng):
    term = rng.uniform(0.1, 0.5)
    runs = pair(rng, "twin", 4, 60, loss=0)
    ga = [r.settings.ga for r in runs]
    return [changed(r, Role.LOSS, lambda v, g=g: v * g + term) for r, g in zip(runs, ga, strict=True)]


def _partial(rng):
    runs = pair(rng, "twin", 4, 100, loss=1)

    def dip(v):
        v = v.copy()
        v[9::10] *= 0.5
        return v

    return [runs[0], changed(changed(runs[1], Role.LOSS, dip), Role.GRAD_NORM, dip)]


def _unrecorded_data(rng):
    step = np.arange(1, 101)
    runs = []
    for i, ga in enumerate((1, 2)):  # two tasks whose losses differ by chance by about the GA ratio
        true = (1 + i * rng.uniform(0.4, 1.2)) * np.exp(rng.normal(0, 0.05, 100)) * (1 + 0.5 / (1 + step / 10))
        runs.append(make(f"r{i}", step, true, None, 1, ga=ga, micro=8 // ga, world_size=1, seed=i, lr=1e-4))
    return runs


def _simpson(rng):
    """Two unrecorded data sets, the harder one run at higher GA only."""
    step = np.arange(1, 101)
    runs = []
    for i, (ga, level) in enumerate(((1, 1.0), (2, 1.0), (4, 2.5), (8, 2.5))):
        true = level * np.exp(rng.normal(0, 0.02) + rng.normal(0, 0.05, 100))
        runs.append(make(f"r{i}", step, true, None, 1, ga=ga, micro=8 // ga, world_size=1, seed=i, lr=1e-4))
    return runs


def _world(designs: tuple[tuple[int, int], ...], loss: tuple[float, float]):
    def build(rng):
        world = World.draw(rng)
        return [
            simulate(world, rng, name=f"g{g}w{w}", ga=g, world_size=w, micro=32 // (g * w), seed=i, batch0=32, n=60,
                     loss=loss, norm=loss)
            for i, (g, w) in enumerate(designs)
        ]  # fmt: skip

    return build


def _post_clip(truth: float, recorded: bool):
    def build(rng):
        runs = pair(rng, "twin", 4, 60, loss=truth)
        limit = float(np.median(runs[0].get(Role.GRAD_NORM).value))
        out = [changed(r, Role.GRAD_NORM, lambda v: np.minimum(v, limit)) for r in runs]
        if not recorded:
            return out
        settings = make("x", [1], [1.0], None, max_grad_norm=limit).settings.max_grad_norm
        return [replace(r, settings=replace(r.settings, max_grad_norm=settings)) for r in out]

    return build


def _negative(rng):
    return _both(pair(rng, "twin", 4, 40, loss=1, norm=0), lambda v: v - 1.2 * np.median(v))


def _learning_rate(rng):
    world = World.draw(rng)
    return [
        simulate(world, rng, name=f"r{i}", ga=g, micro=16 // g, seed=i, lr=lr, batch0=16, n=100)
        for i, (g, lr) in enumerate(((1, 1e-4), (4, 1e-3)))
    ]


def _hidden(rng):
    return [
        replace(r, settings=replace(r.settings, gradient_accumulation_steps=None)) for r in pair(rng, "twin", 4, 40)
    ]


SCENARIOS: dict[str, Scenario] = {
    "spikes and NaN, healthy": Scenario(_dirty(0), CAREFUL),
    "spikes and NaN, summed": Scenario(_dirty(1), SUMMED | OPEN),
    "bfloat16, healthy": Scenario(lambda r: _both(pair(r, "twin", 4, 60), _bf16), HEALTHY),
    "bfloat16, summed": Scenario(lambda r: _both(pair(r, "twin", 4, 60, loss=1), _bf16), SUMMED),
    "two decimals": Scenario(lambda r: _both(pair(r, "seed", 4, 30, loss=1), lambda v: np.round(v, 2)), SUMMED | OPEN),
    "overfit to 0.02": Scenario(_overfit, CAREFUL),
    "late divergence, healthy": Scenario(_diverges(0), CAREFUL, CAREFUL),
    "late divergence, summed": Scenario(_diverges(1), SUMMED | OPEN, CAREFUL),
    "logging windows 1 and 10, healthy": Scenario(_windows(0), CAREFUL),
    "logging windows 1 and 10, summed": Scenario(_windows(1), SUMMED | OPEN),
    "unscaled auxiliary term": Scenario(_auxiliary, SUMMED | OPEN),
    "short accumulation at epoch ends": Scenario(_partial, SUMMED, SUMMED),
    "other data, not recorded": Scenario(_unrecorded_data, CAREFUL),
    "Simpson's fleet": Scenario(_simpson, CAREFUL),
    "square root of GA": Scenario(lambda r: pair(r, "seed", 8, 60, loss=0.5), frozenset({"other", "inconclusive"})),
    "GA x world constant, healthy": Scenario(_world(((8, 1), (1, 8)), (0, 0)), OPEN),
    "GA x world constant, both summed": Scenario(_world(((8, 1), (1, 8)), (1, 1)), OPEN),
    "GA x world constant, summed over GA": Scenario(_world(((8, 1), (1, 8)), (1, 0)), SUMMED | OPEN),
    "world varies, summed over it": Scenario(_world(((1, 1), (1, 4), (4, 1), (4, 4)), (0, 1)), _WORLD, _WORLD),
    "norms after clipping, summed": Scenario(_post_clip(1, False), SUMMED, OPEN),
    "norms after clipping, max_grad_norm recorded": Scenario(_post_clip(1, True), SUMMED, OPEN),
    "norms after clipping, healthy": Scenario(_post_clip(0, True), HEALTHY, OPEN),
    "losses cross zero": Scenario(_negative, OPEN, HEALTHY),
    "learning rate x10": Scenario(_learning_rate, CAREFUL, CAREFUL),
    "GA not recorded": Scenario(_hidden, OPEN, OPEN),
    "one line each, batch grows": Scenario(lambda r: pair(r, "batch", 4, 1), CAREFUL, CAREFUL),
}
