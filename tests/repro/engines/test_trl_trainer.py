"""TRL's trainers, measured, where TRL is installed."""

import importlib.util

import pytest

from ga_audit.repro import engine, measurement
from ga_audit.repro import plan as planning
from ga_audit.repro import verdict as verdicts

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed"),
]


def measured(tmp_path, trainer, world=(1,), **options):
    cells = planning.plan_cells(tmp_path, (1, 4), world, 16)
    planning.run(planning.Plan("trl", cells, 16, {"steps": 3, "measure-every": 1, "variant": trainer, **options}))
    return verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in cells])


@pytest.mark.parametrize("trainer", engine.engines()["trl"].variants)
def test_a_trainer_is_right_at_every_ga_on_1_16_0(trainer, tmp_path):
    """tests/repro/RELEASES.md has the other releases."""
    found = measured(tmp_path, trainer, **({"steps": 8} if "reused" in trainer else {}))
    assert found.verdict == "healthy"
    # eight micro-batches of a generation share their count of tokens; KTO's baseline is of a micro-batch
    near = 0.03 if trainer in ("grpo-reused", "kto") else 1e-3
    assert found.gradient == pytest.approx(0, abs=near)
    assert found.on_gradient.rest == pytest.approx(1, abs=near)
    assert found.cosine == pytest.approx(1, abs=0.01)
    assert (found.loss is None) == (trainer == "grpo-by-sequence")
    assert found.parameters_differ is None if "reused" in trainer else found.parameters_differ < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["sft", "dpo", "kto", "reward", "grpo"])
def test_two_ranks_end_and_are_right(trainer, tmp_path):
    """A trainer's own loss gathers from the other ranks: one that measures alone would wait for ever."""
    found = measured(tmp_path, trainer, world=(1, 2))
    assert found.verdict == "healthy"
    assert found.on_gradient.world == pytest.approx(0, abs=0.03)
