"""Runs and groups in memory, and the option that renews golden files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ga_audit.run import Role, Run, RunSettings, Schedule, Series, Setting, Source, Trust


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files from what is printed now")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


def _setting(value):
    return None if value is None else Setting(value, "test", Trust.RECORDED)


def make_series(role: Role, values: Sequence[float], steps: Sequence[int] | None = None, **fields) -> Series:
    values = np.asarray(values, float)
    steps = np.arange(1, len(values) + 1) if steps is None else np.asarray(steps)
    fields = {"name": role.value, "format": "memory", "source": "memory", "window": 1, **fields}
    return Series(role=role, position=steps.astype(np.int64), value=values, **fields)


def make_run(
    name: str = "run",
    *,
    ga: int | None = None,
    loss: Sequence[float] | None = None,
    grad_norm: Sequence[float] | None = None,
    eval_loss: Sequence[float] | None = None,
    eval_steps: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    micro_batch_size: int | None = None,
    world_size: int | None = None,
    packages: dict[str, str] | None = None,
    other: dict | None = None,
    series: Sequence[Series] = (),
    **settings,
) -> Run:
    """A run in memory; `settings` are plain values of RunSettings fields."""
    found = list(series)
    for role, values, at in (
        (Role.LOSS, loss, steps),
        (Role.GRAD_NORM, grad_norm, steps),
        (Role.EVAL_LOSS, eval_loss, eval_steps),
    ):
        if values is not None:
            found.append(make_series(role, values, at))
    return Run(
        id=name,
        name=name,
        training=name,
        settings=RunSettings(
            gradient_accumulation_steps=None if ga is None else _setting(Schedule.constant(ga)),
            micro_batch_size=_setting(micro_batch_size),
            world_size=_setting(world_size),
            packages={k: _setting(v) for k, v in (packages or {}).items()},
            other={k: _setting(v) for k, v in (other or {}).items()},
            **{k: _setting(v) for k, v in settings.items()},
        ),
        series=tuple(found),
        sources=(Source("memory", name),),
    )


def twins(factor: float = 1.0, norm_factor: float | None = None, gas: Sequence[int] = (1, 8), n: int = 40, seed: int = 0,
          **settings) -> list[Run]:  # fmt: skip
    """Runs of one data order at several GA; loss x GA**factor, grad_norm x GA**norm_factor."""
    rng = np.random.default_rng(seed)
    norm_factor = factor if norm_factor is None else norm_factor
    loss = 2.0 + 2.0 * np.exp(-np.arange(n) / 15) + rng.normal(0, 0.05, n)
    norm = 1.5 + rng.lognormal(0, 0.2, n)
    known = {"seed": 42, "learning_rate": 1e-3, "model": "tiny", "dataset": "same", **settings}
    return [
        make_run(
            f"ga{ga}", ga=ga, world_size=1, micro_batch_size=16 // ga,
            loss=loss * ga**factor * (1 + rng.normal(0, 1e-3, n)),
            grad_norm=norm * ga**norm_factor * (1 + rng.normal(0, 5e-3, n)), **known,
        )
        for ga in gas
    ]  # fmt: skip
