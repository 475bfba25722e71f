"""TRL's trainers under the callback: losses computed outside the model, metrics counted while the loss is computed."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import ga_audit  # noqa: E402
import ga_audit.repro  # noqa: E402
from ga_audit.guards._result import Reason, Unit  # noqa: E402
from guards import tiny  # noqa: E402
from guards.stock import rows  # noqa: E402

pytestmark = pytest.mark.torch
ENGINES = Path(ga_audit.repro.__file__).parent / "engines"


def train(variant, out, *, watched, monkeypatch):
    monkeypatch.syspath_prepend(str(ENGINES))
    import _task
    import trl_trainer

    tiny.seed()
    torch.manual_seed(0)
    args = Namespace(
        variant=variant, effective_batch_size=8, ga=4, world_size=1, steps=3, lr=1e-3, max_grad_norm=1.0,
        optimizer="adamw_torch", seed=0, device="cpu",
    )  # fmt: skip
    kind = trl_trainer.VARIANTS[variant]
    data = kind.rows(_task.sequences(24, seed=0))
    trainer = trl_trainer._trainer(args, out, kind, trl_trainer._model(kind), data)
    callback = ga_audit.GaAuditCallback()
    if watched:
        trainer.add_callback(callback)
    trainer.train()
    return trainer, callback, tiny.draws()


@pytest.mark.parametrize("variant", ["sft", "dpo", "reward", "kto"])
def test_a_right_training_is_silent_and_the_same(variant, tmp_path, caplog, monkeypatch):
    torch.set_num_threads(1)
    plain, _, numbers = train(variant, tmp_path, watched=False, monkeypatch=monkeypatch)
    built, callback, watched = train(variant, tmp_path, watched=True, monkeypatch=monkeypatch)
    assert [r.getMessage() for r in caplog.records if r.name == "ga_audit"] == []
    assert callback.reason is None
    assert callback.reading.fault is None
    assert [m.grad_factor for m in callback.measurements] == [pytest.approx(1, abs=1e-4)] * 2
    assert callback.measurements[0].unit is (Unit.SHIFTED_TOKENS if variant == "sft" else Unit.SAMPLES)
    assert tiny.same(plain.model, built.model)
    assert numbers == watched
    assert rows(plain) == rows(built)


def test_a_trainer_that_normalises_over_generations_is_left_alone(tmp_path, caplog, monkeypatch):
    torch.set_num_threads(1)
    _, callback, _ = train("grpo", tmp_path, watched=True, monkeypatch=monkeypatch)
    assert callback.reason is Reason.OWN_NORMALISATION
    assert "GRPOTrainer" in caplog.text


sys.modules.pop("trl_trainer", None)
