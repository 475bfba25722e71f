"""`GaAuditCallback` in the installed transformers Trainer: right, faulty and awkward trainings."""

from __future__ import annotations

import logging

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import Trainer  # noqa: E402

import ga_audit  # noqa: E402
from ga_audit.guards._result import Fault, GradientFault, Reason, Unit  # noqa: E402
from guards import tiny  # noqa: E402
from guards.stock import GA, bert, lora, rows, train  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "ga_audit"]


# --- the training is the same ------------------------------------------------------------------------------------------

SETTINGS = {
    "dropout and clipping": {},
    "no clipping": {"max_grad_norm": 0.0},
    "clipping in force": {"max_grad_norm": 0.05},
    "bf16 autocast": {"bf16": True},
    "gradient checkpointing": {
        "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}
    },
    "reentrant checkpointing": {
        "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}
    },
    "LoRA": {"model": lora},
    "a classifier": {"model": bert},
    "logged every third step": {"logging_steps": 3},
    "label smoothing": {"label_smoothing_factor": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_weights_random_numbers_and_logs_are_bit_for_bit_the_same(setting, tmp_path):
    plain, _, numbers = train(tmp_path, watched=False, **SETTINGS[setting])
    trainer, callback, watched_numbers = train(
        tmp_path, callback=ga_audit.GaAuditCallback(on_fault="ignore"), **SETTINGS[setting]
    )
    assert callback.reason is None
    assert len(callback.measurements) == 2
    assert tiny.same(plain.model, trainer.model)
    assert numbers == watched_numbers
    assert rows(plain) == rows(trainer)


# --- right trainings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s != "a classifier"])
def test_a_right_training_is_silent(setting, tmp_path, caplog):
    _, callback, _ = train(tmp_path, **SETTINGS[setting])
    assert said(caplog) == []
    assert callback.reading.fault is None
    for m in callback.measurements:
        assert m.grad_factor == pytest.approx(1, abs=0.01 if "bf16" in setting else 1e-5)
        assert m.loss_factor == pytest.approx(1, abs=0.01 if "bf16" in setting else 1e-5)
        assert m.grad_norm_factor is None or m.grad_norm_factor == pytest.approx(1, abs=1e-3)
        assert m.unit is Unit.SHIFTED_TOKENS
        assert m.verified is ("smoothing" not in setting)


def test_what_is_measured_is_logged_in_the_same_row(tmp_path):
    trainer, callback, _ = train(tmp_path)
    names = ("ga_audit/loss_factor", "ga_audit/grad_factor", "ga_audit/cosine")
    history = [row for row in trainer.state.log_history if "loss" in row]
    assert [tuple(name in row for name in names) for row in history] == [(True,) * 3, (True,) * 3, (False,) * 3]
    assert history[0]["ga_audit/grad_factor"] == callback.measurements[0].grad_factor


def test_clipping_as_it_is_and_as_it_would_be(tmp_path):
    _, callback, _ = train(tmp_path, bert, max_grad_norm=1.0)
    m = callback.measurements[0]
    assert (m.clipped, m.would_be_clipped) == (m.accumulated_norm > 1, m.reference_norm > 1)
    assert m.max_grad_norm == 1.0
    assert m.received_norm == min(m.accumulated_norm, 1.0) or m.received_norm == pytest.approx(m.accumulated_norm)


# --- faults ------------------------------------------------------------------------------------------------------------


class MeanLoss(Trainer):
    """Its own loss, a mean, summed over the micro-batches since 4.46."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs)


class DividedTwice(Trainer):
    """The bug of transformers 5.2.0 to 5.5.3."""

    def train(self):
        backward = self.accelerator.backward
        self.accelerator.backward = lambda loss, **k: backward(loss / GA, **k)
        return super().train()


class MeanOfMeans(MeanLoss):
    """The mean of the means of micro-batches with unequal numbers of tokens."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False


class Losing(Trainer):
    """The gradient of the first micro-batch is lost."""

    def training_step(self, model, inputs, *rest):
        self.seen = getattr(self, "seen", -1) + 1
        if self.seen % GA == 1:
            model.zero_grad()
        return super().training_step(model, inputs, *rest)


class Turning(Trainer):
    """Each gradient is another one's."""

    def training_step(self, model, inputs, *rest):
        loss = super().training_step(model, inputs, *rest)
        for p in model.parameters():
            p.grad = p.grad.flatten().roll(1).view_as(p.grad)
        return loss


class LoggingSums(Trainer):
    """The gradient is right, the log is not."""

    def log(self, logs, *args, **kwargs):
        if "loss" in logs:
            logs["loss"] *= GA
        return super().log(logs, *args, **kwargs)

    def training_step(self, *args, **kwargs):
        return super().training_step(*args, **kwargs) * GA


@pytest.mark.parametrize(
    ("trainer", "fault"),
    [
        (DividedTwice, Fault.DIVIDED_TWICE), (MeanOfMeans, Fault.UNEQUAL_WEIGHTS), (MeanLoss, Fault.UNEQUAL_WEIGHTS),
        (Losing, Fault.LOST_MICRO_BATCHES), (Turning, Fault.ROTATED), (LoggingSums, Fault.LOGGED_LOSS),
    ],
)  # fmt: skip
def test_a_planted_fault_is_named_within_three_steps(trainer, fault, tmp_path, caplog):
    _, callback, _ = train(tmp_path, trainer=trainer)
    assert callback.reading.fault is fault
    assert said(caplog) == [callback.message]
    if fault is Fault.LOST_MICRO_BATCHES:
        assert callback.reading.micro_batches == (0,)


def test_a_sum_over_unequal_micro_batches_is_named_with_its_scale(tmp_path, caplog):
    _, callback, _ = train(tmp_path, trainer=MeanLoss)
    assert callback.reading.gradient == (1, 0)
    assert "each micro-batch counts alike" in callback.message
    assert "not divided by gradient accumulation (4)" in callback.message
    assert "Known bug GA007" in callback.message


def test_a_stock_classifier_is_summed_and_the_known_bug_is_named(tmp_path, caplog):
    _, callback, _ = train(tmp_path, bert)
    assert (callback.reading.fault, callback.reading.gradient, callback.reading.loss) == (Fault.SUMMED, (1, 0), (1, 0))
    assert len(said(caplog)) == 1
    assert (
        "the gradient is 4 times that of the whole batch, not divided by gradient accumulation (4)" in said(caplog)[0]
    )
    assert f"Known bug GA004 (transformers {transformers.__version__})" in said(caplog)[0]
    assert "accepts_loss_kwargs = False" in said(caplog)[0]


def test_a_loss_function_that_returns_a_mean_is_its_own_known_bug(tmp_path):
    def mean(outputs, labels, num_items_in_batch=None):
        return tiny.token_loss(outputs["logits"], labels, "mean")

    _, callback, _ = train(tmp_path, compute_loss_func=mean)
    assert callback.reading.gradient == (1, 0)
    assert "Known bug GA008" in callback.message


def test_raise_stops_before_the_first_optimizer_step(tmp_path):
    with pytest.raises(GradientFault, match="4 times"):
        train(tmp_path, bert, callback=ga_audit.GaAuditCallback(on_fault="raise"))


def test_logs_are_corrected_on_request(tmp_path):
    plain, _, _ = train(tmp_path, bert, watched=False)
    trainer, _, _ = train(tmp_path, bert, callback=ga_audit.GaAuditCallback(correct_logs=True, on_fault="ignore"))
    pairs = list(zip(rows(plain), trainer.state.log_history, strict=True))[:3]
    assert all(right["loss"] == wrong["loss"] / 4 for wrong, right in pairs)
    assert all(right["grad_norm"] == wrong["grad_norm"] / 4 for wrong, right in pairs)
    assert all(right["ga_audit/corrected"] == 1.0 for _, right in pairs)


# --- trainings that are not measured -----------------------------------------------------------------------------------


class Raising(Trainer):
    def training_step(self, model, inputs, *rest):
        if self.state.global_step == 1:
            raise RuntimeError("the user's own")
        return super().training_step(model, inputs, *rest)


def test_an_exception_of_the_trainer_is_its_own(tmp_path):
    with pytest.raises(RuntimeError, match="the user's own"):
        train(tmp_path, trainer=Raising)


class TwoLosses(Trainer):
    def training_step(self, model, inputs, *rest):
        self.compute_loss(model, dict(inputs))
        return super().training_step(model, inputs, *rest)


class FullMemory(Trainer):
    """No memory for the second run."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if num_items_in_batch is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


@pytest.mark.parametrize(
    ("trainer", "reason"), [(TwoLosses, Reason.SEVERAL_LOSSES), (FullMemory, Reason.OUT_OF_MEMORY)]
)
def test_training_goes_on_where_it_cannot_be_measured(trainer, reason, tmp_path, caplog):
    plain, _, numbers = train(tmp_path, trainer=trainer, watched=False)
    built, callback, watched = train(tmp_path, trainer=trainer)
    assert built.state.global_step == 3
    assert callback.reason is reason
    assert len(said(caplog)) == 1
    assert tiny.same(plain.model, built.model)
    assert numbers == watched


def test_without_accumulation_there_is_nothing_to_say(tmp_path, caplog):
    _, callback, _ = train(tmp_path, ga=1)
    assert callback.reason is Reason.NOTHING_ACCUMULATED
    assert said(caplog) == []


def test_a_failure_of_the_guard_is_not_one_of_the_training(tmp_path, caplog, monkeypatch):
    from ga_audit.guards import trainer as module

    monkeypatch.setattr(module, "run_again", lambda step: 1 / 0)
    built, callback, _ = train(tmp_path)
    assert built.state.global_step == 3
    assert callback.reason is Reason.ERROR
    assert said(caplog) == [
        "ga-audit does not check gradient accumulation here: the guard failed (ZeroDivisionError: division by zero). "
        "Training goes on."
    ]


# --- more --------------------------------------------------------------------------------------------------------------


def test_a_resumed_training_is_measured_again(tmp_path):
    built, callback, _ = train(tmp_path, steps=2)
    built.args.max_steps = 4
    built.train()
    assert len(callback.measurements) == 4


def test_the_trainer_is_left_as_it_was(tmp_path):
    built, _, _ = train(tmp_path)
    assert not {"training_step", "compute_loss", "log"} & vars(built).keys()
    assert "clip_grad_norm_" not in vars(built.accelerator)


logging.getLogger("ga_audit").propagate = True
