"""Pairs and fleets of runs with known faults.

Loss over progress x is `floor + drop / (1 + x)^p`; x runs with the step, faster for a larger batch and learning rate.
Runs differ by an effect of 1-3 % that grows over the first quarter and wanders slowly; points carry AR(1) noise with
t5 tails whose size falls with the sequences behind a point; twins share that noise. Gradient norms follow
sqrt(|G|^2 + tr(Sigma)/B). Scales are drawn per pair, so that no single value is tuned to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ga_audit.run import Role, Run, RunSettings, Schedule, Series, Setting, Source, Trust

CLASSES = ("twin", "seed", "batch", "batch+lr")


@dataclass(frozen=True)
class World:
    """What one pair or fleet has in common."""

    floor: float
    drop: float
    horizon: float
    power: float
    effect: float  # sd of run effects
    noise: float  # sd of log loss of one sequence
    rho: float
    batch_speed: float
    lr_speed: float
    lr_shift: float
    batch_shift: float
    weighting: float  # exponent by which token weighting moves a healthy loss
    norm_noise: float
    norm_floor: float
    norm_critical: float

    @classmethod
    def draw(cls, rng: np.random.Generator, nuisance: float = 1.0) -> World:
        pretrain = rng.random() < 0.4
        return cls(
            floor=rng.uniform(2.0, 3.5) if pretrain else rng.uniform(0.6, 1.6),
            drop=rng.uniform(4, 7) if pretrain else rng.uniform(0.2, 1.2),
            horizon=rng.uniform(10, 80), power=rng.uniform(0.5, 1.2),
            effect=nuisance * rng.uniform(0.01, 0.03), noise=rng.uniform(0.2, 0.5), rho=rng.uniform(0, 0.6),
            batch_speed=rng.uniform(0.3, 1.0), lr_speed=rng.uniform(0, 0.5),
            lr_shift=nuisance * rng.normal(0, 0.06), batch_shift=nuisance * rng.normal(0, 0.02),
            weighting=rng.uniform(-0.01, 0.03), norm_noise=rng.uniform(0.15, 0.35),
            norm_floor=rng.uniform(0.3, 2), norm_critical=2 ** rng.uniform(1, 7),
        )  # fmt: skip


def ar1(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    """Unit-variance AR(1) with t5 innovations."""
    shock = rng.standard_t(5, n) * math.sqrt(3 / 5) * math.sqrt(1 - rho**2)
    out = np.empty(n)
    last = rng.normal()
    for i in range(n):
        last = rho * last + shock[i]
        out[i] = last
    return out


def simulate(
    world: World, rng: np.random.Generator, *, name: str, ga: int, micro: int, world_size: int = 1, seed: int = 42,
    lr: float = 1e-4, lr0: float = 1e-4, batch0: int | None = None, n: int = 100, every: int = 1,
    shared: int | None = None, loss: tuple[float, float] = (0, 0),
    norm: tuple[float, float] = (0, 0), record: bool = True,
    **settings,
) -> Run:  # fmt: skip
    """A run whose loss and norm are off by ga**loss[0] * world_size**loss[1]; `shared` seeds noise that twins share."""
    batch = micro * ga * world_size
    own = np.random.default_rng(shared) if shared is not None else rng
    step = np.arange(1, n + 1) * every
    speed = (batch / (batch0 or batch)) ** world.batch_speed * (lr / lr0) ** world.lr_speed
    x = step * speed / world.horizon
    ramp = 1 - np.exp(-4 * step / step[-1])
    shift = world.lr_shift * math.log(lr / lr0) + world.batch_shift * math.log(batch / (batch0 or batch))
    personal = 0.003 if shared is not None else world.effect
    wandering = np.cumsum(rng.normal(0, 1, n)) / max(1.0, math.sqrt(n)) * personal * 0.5
    level = np.log(world.floor + world.drop / (1 + x) ** world.power)
    level = level + ramp * (shift + rng.normal(0, personal / math.sqrt(2))) + wandering
    level = level + world.noise / math.sqrt(batch * every) * ar1(own, n, world.rho) + rng.normal(0, 1e-4, n)
    factor = math.log(ga) * (loss[0] + (world.weighting if loss == (0, 0) else 0)) + math.log(world_size) * loss[1]
    g2 = world.norm_floor**2 * (1 + world.norm_critical / batch) * (0.5 + 0.5 / (1 + x))
    norm_level = 0.5 * np.log(g2) + world.norm_noise * ar1(own, n, 0.2)
    norm_level = norm_level + ramp * rng.normal(0, 2 * personal / math.sqrt(2)) + rng.normal(0, 2e-3, n)
    norm_level = norm_level + math.log(ga) * norm[0] + math.log(world_size) * norm[1]
    known = {"micro": micro, "world_size": world_size, "seed": seed, "lr": lr, "model": "m", "dataset": "d"}
    return make(
        name, step, np.exp(level + factor), np.exp(norm_level), every, ga=ga, **(known if record else {}), **settings
    )


def make(name, step, loss, norm, every=1, *, ga=None, micro=None, world_size=None, seed=None, lr=None, model=None,
         dataset=None, **more) -> Run:  # fmt: skip
    """A run from arrays and plain settings."""

    def s(value):
        return None if value is None else Setting(value, "simulated", Trust.RECORDED)

    series = [
        Series(
            role=role,
            name=role.value,
            format="memory",
            source="memory",
            position=np.asarray(step, np.int64),
            value=np.asarray(v, float),
            window=every,
        )
        for role, v in ((Role.LOSS, loss), (Role.GRAD_NORM, norm))
        if v is not None
    ]
    packages = {k: s(v) for k, v in more.pop("packages", {}).items()}
    settings = RunSettings(
        gradient_accumulation_steps=None if ga is None else s(Schedule.constant(ga)), micro_batch_size=s(micro),
        world_size=s(world_size), seed=s(seed), learning_rate=s(lr), model=s(model), dataset=s(dataset),
        packages=packages, **{k: s(v) for k, v in more.items()},
    )  # fmt: skip
    return Run(name, name, name, settings, tuple(series), (Source("memory", name),))


def pair(
    rng: np.random.Generator, kind: str, ratio: int, n: int, *, loss: float = 0, norm: float | None = None,
    nuisance: float = 1.0, record: bool = True,
) -> list[Run]:  # fmt: skip
    """Two runs with GA g and g * ratio, related as `kind` says; loss x GA**loss, grad_norm x GA**norm."""
    world = World.draw(rng, nuisance)
    norm = loss if norm is None else norm
    low = int(rng.choice([1, 2]))
    gas = (low, low * ratio)
    base = int(rng.choice([4, 8, 16]))  # effective batches of 4 to 256 sequences
    shared = int(rng.integers(1 << 30)) if kind == "twin" else None
    every = int(rng.choice([1, 1, 5, 10]))
    runs = []
    for i, ga in enumerate(gas):
        micro = base * (ratio if i == 0 else 1) if kind in ("twin", "seed") else base
        lr = 1e-4 * (float(np.exp(rng.uniform(-math.log(8), math.log(8)))) if kind == "batch+lr" and i else 1.0)
        seed = 42 if kind == "twin" else 42 + i
        runs.append(simulate(
            world, rng, name=f"r{i}", ga=ga, micro=micro, seed=seed, lr=lr, batch0=base * gas[0], n=n, every=every,
            shared=shared, loss=(loss, 0), norm=(norm, 0), record=record,
        ))  # fmt: skip
    return runs
