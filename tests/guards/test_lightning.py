"""`LightningGuard`: Lightning's mean of means is named where tokens are unequal, and nothing changes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")

import ga_audit  # noqa: E402
from ga_audit.guards._result import Fault, Reason  # noqa: E402
from guards import tiny  # noqa: E402

pytestmark = pytest.mark.torch


class Module(pl.LightningModule):
    weight = 1.0

    def __init__(self):
        super().__init__()
        self.model = tiny.TinyLM()

    def training_step(self, batch, batch_idx):
        loss = self.model(**batch)["loss"]
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Summed(Module):
    def backward(self, loss):
        (loss * 4).backward()


class Rows(torch.utils.data.Dataset):
    def __init__(self, uneven):
        self.rows = [
            {k: v[0] for k, v in batch.items()} for step in tiny.batches(4, 4, size=1, uneven=uneven) for batch in step
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def train(tmp_path, module=Module, *, uneven=False, watched=True, ga=4, **options):
    torch.set_num_threads(1)
    tiny.seed()
    guard = ga_audit.LightningGuard()
    made = module()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=ga, callbacks=[guard] if watched else [],
        default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        logger=False, **options,
    )  # fmt: skip
    trainer.fit(made, torch.utils.data.DataLoader(Rows(uneven), batch_size=1))
    return made, guard, tiny.draws(), dict(trainer.callback_metrics)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_right_training_is_silent_and_the_same(tmp_path, clip, caplog):
    plain = train(tmp_path, watched=False, gradient_clip_val=clip)
    model, guard, numbers, metrics = train(tmp_path, gradient_clip_val=clip)
    assert guard.reason is None
    assert guard.reading.fault is None
    assert [m.grad_factor for m in guard.measurements] == [pytest.approx(1, abs=1e-5)] * 2
    assert tiny.same(plain[0], model)
    assert (plain[2], plain[3]) == (numbers, metrics)
    assert not [r for r in caplog.records if r.name == "ga_audit"]


def test_a_sum_is_named(tmp_path):
    _, guard, _, _ = train(tmp_path, Summed)
    assert guard.reading.fault is Fault.SUMMED


def test_unequal_micro_batches_are_named(tmp_path):
    _, guard, _, _ = train(tmp_path, uneven=True)
    assert guard.reading.fault is Fault.UNEQUAL_WEIGHTS


def test_nothing_accumulated(tmp_path):
    _, guard, _, _ = train(tmp_path, ga=1)
    assert guard.reason is Reason.NOTHING_ACCUMULATED
