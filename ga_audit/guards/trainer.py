"""`GaAuditCallback` for the `Trainer` of transformers and the trainers that are built on it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from ga_audit.guards import _watch, _zero
from ga_audit.guards._ranks import Ranks
from ga_audit.guards._reference import Reference, Step, fingerprint, run_again
from ga_audit.guards._result import CannotMeasure, Measurement, Reading, Reason
from ga_audit.guards._trainer_call import Call, as_if_alone, stack_of, unwrapped

ON_DEVICE = 256 << 20  # bytes of inputs that are kept where they are; more are kept in host memory
LONGEST_WINDOW = 1000  # steps of a logging interval that are followed
_harmless = _watch.harmless(lambda callback: callback.watch)


class GaAuditCallback(TrainerCallback):  # type: ignore[misc]
    """Measures in the first optimizer steps whether the accumulated gradient is that of the whole batch.

    Parameters
    ----------
    steps : optimizer steps that are measured; each costs about one more step. Again after a resume or another
        gradient_accumulation_steps.
    on_fault : "warn" says what is wrong, once; "raise" raises `GradientFault` before the optimizer step; "ignore" is
        silent: see `measurements`, `reading` and `message`.
    correct_logs : divide the logged loss and grad_norm by the factor that was measured, where it is a power of
        gradient_accumulation_steps.

    Attributes
    ----------
    measurements : list of Measurement, of each measured step.
    reading : Reading of the latest, or None.
    reason : Reason why nothing is measured, or None.
    message : what was said of a fault, or None.

    Examples
    --------
    trainer.add_callback(GaAuditCallback())
    """

    def __init__(self, *, steps: int = 2, on_fault: _watch.OnFault = "warn", correct_logs: bool = False) -> None:
        self.watch = _watch.Watch(steps=steps, on_fault=on_fault)
        self.correct_logs = correct_logs
        self.trainer: Any = None
        self._undo: list[Callable[[], None]] = []
        self._open = False  # a step to be measured has begun
        self._calls: list[Call] = []
        self._in_step = 0  # calls of compute_loss in the present training_step; -1: outside
        self._returned: list[torch.Tensor] = []  # since the last log
        self._steps_since_log = 0
        self._follow_log = True
        self._stale = False
        self._weights: tuple[float, ...] = ()
        self._unlogged: dict[str, float] = {}
        self._zero: Any = None  # DeepSpeed's optimizer
        self._prepared: Reference | None = None
        self._parts: list[torch.Tensor] = []
        self._pending: tuple[list[Call], Measurement | None] | None = None

    @property
    def measurements(self) -> list[Measurement]:
        """Of each measured step."""
        return self.watch.measurements

    @property
    def reading(self) -> Reading | None:
        """Of the latest measurement."""
        return self.watch.reading

    @property
    def reason(self) -> Reason | None:
        """Why nothing is measured."""
        return self.watch.reason

    @property
    def message(self) -> str | None:
        """What was said of a fault."""
        return self.watch.message

    @property
    def _watching(self) -> bool:
        """Whether the present step is to be measured."""
        return self._open and self.watch.reason is None

    # --- events of the Trainer -----------------------------------------------------------------------------------------

    @_harmless
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the trainer and watch its training steps."""
        self._detach()
        self.watch.again()
        self.trainer = _running_trainer(self)
        if self.trainer is None:
            raise CannotMeasure(Reason.NO_TRAINER)
        _refuse(self.trainer)
        self._returned, self._steps_since_log, self._follow_log, self._open = [], 0, True, False
        self._in_step = -1
        self._wrap(self.trainer, "training_step", self._training_step)
        self._wrap(self.trainer, "compute_loss", self._compute_loss)
        self._wrap(self.trainer, "log", self._log)
        self._wrap(self.trainer.accelerator, "clip_grad_norm_", self._clip)
        if _is_deepspeed(self.trainer):
            self._zero = _zero.optimizer_of(self.trainer)
            self._wrap(self._zero, "step", self._zero_step)
            self._wrap(self._zero, _zero.PLACE, self._zero_part)
            return
        optimizer = kwargs.get("optimizer") or self.trainer.optimizer
        inner = getattr(optimizer, "optimizer", optimizer)
        if hasattr(inner, "register_step_pre_hook"):
            self._undo.append(inner.register_step_pre_hook(lambda *_: self._before_optimizer()).remove)

    @_harmless
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to keep the micro-batches of a step."""
        if self.trainer is None:
            return
        self._calls = []
        self._open = self.watch.due
        self._steps_since_log += 1
        if self._watching:
            self._weights = fingerprint(self.trainer.model)
            self._stale = any(
                p.grad is not None and bool(p.grad.any()) for p in self.trainer.model.parameters() if p.requires_grad
            )

    @_harmless
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the step; stop watching when all has been measured and logged."""
        if self._watching:
            self._open, self._calls = False, []
            raise CannotMeasure(Reason.NO_MICRO_BATCH, "no optimizer step was seen")
        self._calls = []

    @_harmless
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the trainer as it was."""
        self._detach()

    # --- what is wrapped -----------------------------------------------------------------------------------------------

    def _training_step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._in_step = 0
        try:
            loss = original(*args, **kwargs)
        finally:
            calls, self._in_step = self._in_step, -1
        self._note_loss(loss, calls)
        return loss

    @_harmless
    def _note_loss(self, loss: Any, calls: int) -> None:
        if self._follow_log:
            self._returned.append(loss.detach() if isinstance(loss, torch.Tensor) else torch.tensor(float(loss)))
            if self._steps_since_log > LONGEST_WINDOW:
                self._follow_log, self._returned = False, []
        if self._watching:
            if calls != 1:
                raise CannotMeasure(Reason.SEVERAL_LOSSES, f"{calls} in one micro-batch")
            self._calls[-1].returned = loss
        if self._pending is not None:
            self._finish_zero(loss)

    def _finish_zero(self, loss: Any) -> None:
        """The last micro-batch's loss is there: what the step logs is known."""
        (calls, measured), self._pending = self._pending or ([], None), None
        if measured is not None:
            calls[-1].returned = loss
            ranks = Ranks(torch.device(self.trainer.args.device))
            logged = ranks.sum([sum(float(call.returned) for call in calls)])[0] / ranks.size
            wanted = measured.reference_loss
            self._conclude(replace(measured, loss_factor=logged / wanted if wanted else None), None)

    def _compute_loss(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._in_step >= 0:
            self._in_step += 1
            if self._watching:
                self._note_call(original, args, kwargs)
        return original(*args, **kwargs)

    @_harmless
    def _note_call(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        model, inputs, *more = args if len(args) > 1 else (*args, kwargs.get("inputs"))
        if not args:
            model = kwargs["model"]
        rest = {k: v for k, v in kwargs.items() if k not in ("model", "inputs")}
        size = sum(call.size for call in self._calls)
        self._calls.append(Call(original, unwrapped(model), inputs, tuple(more), rest, to_host=size > ON_DEVICE))

    def _clip(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        measured = self._measure(scaled=True) if self._watching else None
        norm = original(*args, **kwargs)
        if measured is not None:
            self._conclude(measured, norm)
        return norm

    def _zero_step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """DeepSpeed makes its step inside the backward pass of the last micro-batch, whose loss is not returned yet."""
        self._parts, calls = [], self._calls
        self._prepared = self._prepare(scaled=False, by_hooks=True) if self._watching else None
        at = _zero.places(self._zero, unwrapped(self.trainer.model)) if self._prepared is not None else []
        done = original(*args, **kwargs)
        if self._prepared is not None:
            self._pending = calls, self._compare_zero(self._prepared, at)
            self._prepared = None
        return done

    def _zero_part(self, original: Callable[..., Any], parts: Any, *args: Any, **kwargs: Any) -> Any:
        if self._prepared is not None:
            self._parts += [part.detach().clone() for part in parts]
        return original(parts, *args, **kwargs)

    @_harmless
    def _compare_zero(self, prepared: Reference, at: Any) -> Measurement:
        if not self._parts:  # a step that is skipped, because its gradient is not finite
            raise CannotMeasure(Reason.NOT_FINITE, "gradient")
        return prepared.compare(_zero.whole(self._zero, self._parts, at, unwrapped(self.trainer.model)))

    def _before_optimizer(self) -> None:
        """Without clipping there is no other place; with it, the step has been measured."""
        if self._watching:
            measured = self._measure(scaled=False)
            if measured is not None:
                self._conclude(measured, None)

    @_harmless
    def _measure(self, *, scaled: bool) -> Measurement | None:
        accumulated = [p.grad for p in unwrapped(self.trainer.model).parameters() if p.requires_grad]
        prepared = self._prepare(scaled=scaled)
        return None if prepared is None else prepared.compare(accumulated)

    @_harmless
    def _prepare(self, *, scaled: bool, by_hooks: bool = False) -> Reference:
        """Run the micro-batches of the step again."""
        self._open = False
        trainer, calls = self.trainer, self._calls
        self._calls = []
        if not calls or any(call.returned is None for call in (calls[:-1] if by_hooks else calls)):
            raise CannotMeasure(Reason.NO_MICRO_BATCH)
        if len(calls) * trainer.accelerator.num_processes == 1 and trainer.args.gradient_accumulation_steps == 1:
            raise CannotMeasure(Reason.NOTHING_ACCUMULATED)
        scaler = getattr(trainer.accelerator, "scaler", None)
        scale = float(self._zero.loss_scale) if by_hooks else 1.0
        with as_if_alone(trainer):
            return run_again(
                Step(
                    model=calls[0].model, micro_batches=[call.micro_batch(trainer) for call in calls],
                    number=trainer.state.global_step + 1, stale=self._stale, weights=self._weights,
                    loss_scale=float(scaler.get_scale()) if scaled and scaler is not None else scale,
                    low_precision=str(trainer.accelerator.mixed_precision) not in ("no", "None"),
                    objects=(trainer, *_metric_holders(trainer)), by_hooks=by_hooks,
                )
            )  # fmt: skip

    @_harmless
    def _conclude(self, measured: Measurement, norm: Any) -> None:
        limit = float(self.trainer.args.max_grad_norm or 0.0)
        more: dict[str, Any] = {"max_grad_norm": limit or None}
        if norm is not None and measured.reference_norm and measured.accumulated_norm:
            more["grad_norm_factor"] = float(norm) / measured.accumulated_norm if measured.share == 1 else None
            more["received_norm"] = min(float(norm), limit) if limit else float(norm)
        measured = replace(measured, **more)
        self._unlogged = {
            f"ga_audit/{name}": value
            for name, value in (
                ("loss_factor", measured.loss_factor), ("grad_factor", measured.grad_factor), ("cosine", measured.cosine)
            ) if value is not None
        }  # fmt: skip
        self.watch.take(measured, lambda: stack_of(self.trainer, measured))

    def _log(self, original: Callable[..., Any], logs: dict[str, float], *args: Any, **kwargs: Any) -> Any:
        self._amend(logs)
        return original(logs, *args, **kwargs)

    @_harmless
    def _amend(self, logs: dict[str, float]) -> None:
        """Add what was measured to a row of the log, and correct the row if that is wanted."""
        if "loss" not in logs:
            return
        if self._follow_log and self._returned and self._steps_since_log:
            self._check_log(logs["loss"])
        self._returned, self._steps_since_log = [], 0
        self._follow_log = self.watch.due
        logs.update(self._unlogged)
        self._unlogged = {}
        if self.correct_logs and self.watch.measurements:
            _correct(logs, self.watch.measurements[-1], self.watch.reading)

    def _check_log(self, logged: float) -> None:
        """Whether the trainer logs the losses of its steps, or some multiple of them."""
        if not self.watch.measurements or self.trainer.accelerator.num_processes > 1:
            return
        last = self.watch.measurements[-1]
        mean = float(sum(loss.mean().float() for loss in self._returned)) / self._steps_since_log
        if not mean or last.loss_factor is None:
            return
        if abs(logged / mean - 1) > 0.02 and abs(logged - mean) > 6e-5:  # old releases round to 4 digits
            factor = last.loss_factor * logged / mean
            self._unlogged["ga_audit/loss_factor"] = factor
            revised = replace(last, loss_factor=factor)
            self.watch.revise(revised, lambda: stack_of(self.trainer, revised))

    # --- attaching -----------------------------------------------------------------------------------------------------

    def _wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Put `around` in the place of a method of one object; `_detach` takes it away."""
        original, own = getattr(owner, name), vars(owner).get(name)

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        setattr(owner, name, wrapped)

        def undo() -> None:
            if vars(owner).get(name) is wrapped:
                if own is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, own)

        self._undo.append(undo)

    def _detach(self) -> None:
        while self._undo:
            self._undo.pop()()
        self._calls, self._open = [], False


def _running_trainer(callback: GaAuditCallback) -> Any:
    """The trainer on the call stack that has this callback."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        handler = getattr(owner, "callback_handler", None) if isinstance(owner, Trainer) else None
        if handler is not None and any(one is callback for one in handler.callbacks):
            return owner
        frame = frame.f_back
    return None


def _refuse(trainer: Any) -> None:
    """Trainings that are known not to be measured rightly."""
    if getattr(trainer.args, "n_gpu", 1) > 1:
        raise CannotMeasure(Reason.DATA_PARALLEL)
    if hasattr(trainer, "num_generations") or hasattr(trainer, "reward_funcs"):
        raise CannotMeasure(Reason.OWN_NORMALISATION, type(trainer).__name__)
    if getattr(trainer, "is_fsdp_enabled", False):
        raise CannotMeasure(Reason.SHARDED, "FSDP")


def _is_deepspeed(trainer: Any) -> bool:
    return bool(getattr(trainer, "is_deepspeed_enabled", False))


def _metric_holders(trainer: Any) -> list[object]:
    """Objects besides the trainer whose counters a loss may advance."""
    return [trainer.state] if hasattr(trainer, "state") else []


def _correct(logs: dict[str, float], m: Measurement, reading: Reading | None) -> None:
    """Divide what is scaled by a power of GA and ranks."""
    if reading is None:
        return
    done = False
    for name, exponents in (("loss", reading.loss), ("grad_norm", reading.gradient)):
        if name in logs and exponents is not None and exponents != (0, 0):
            logs[name] = logs[name] / (m.micro_batches ** exponents[0] * m.world_size ** exponents[1])
            done = True
    if done:
        logs["ga_audit/corrected"] = 1.0
