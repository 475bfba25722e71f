"""`measure`: the gradient that a model holds now, against that of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from ga_audit.guards import _reading, _targets, _words
from ga_audit.guards._reference import MicroBatch, Step, measure_step
from ga_audit.guards._result import Measurement, Reading, Unit
from ga_audit.guards._state import RandomState


def measure(
    model: torch.nn.Module, micro_batches: Iterable[Any], loss_fn: Callable[[Any, Any], torch.Tensor] | None = None, *,
    loss: float | None = None, items: Callable[[Any], float] | None = None, loss_scale: float = 1.0, step: int = 1,
    rng: RandomState | None = None,
) -> Measurement:  # fmt: skip
    """Hold the gradient that `model` has accumulated against the gradient of the whole batch.

    Call it after the last backward pass of a step and before the gradient is clipped. The model and its gradients are
    left as they are.

    Parameters
    ----------
    model : with the accumulated gradient in its parameters' `.grad`.
    micro_batches : those of the step, on this rank.
    loss_fn : `loss_fn(model, micro_batch)` gives the mean loss of a micro-batch; by default, `model(**micro_batch).loss`.
    loss : what the training logs for this step.
    items : `items(micro_batch)`, how many items the loss is a mean over. By default it is found from the loss where it is
        a cross-entropy, else from the model's class, else it is the number of samples.
    loss_scale : by which the gradient is too large, of a GradScaler.
    step : number of the optimizer step.
    rng : random state from which each micro-batch is run; by default the present one. With dropout the gradients agree
        only if it is the one that the training had: use a guard.

    Raises
    ------
    ga_audit.guards._result.CannotMeasure
        with the reason.

    Examples
    --------
    >>> import torch, ga_audit
    >>> model = torch.nn.Linear(2, 1)
    >>> batches = [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(4)]
    >>> def mean_loss(model, batch):
    ...     return torch.nn.functional.mse_loss(model(batch[0]), batch[1])
    >>> for batch in batches:
    ...     mean_loss(model, batch).backward()  # not divided by 4
    >>> round(ga_audit.measure(model, batches, mean_loss).grad_factor, 3)
    4.0
    """
    now = rng or RandomState.now()
    run = loss_fn or own_loss
    batches = [
        MicroBatch(
            loss=_bound(run, model, batch), rng=now, inputs=batch,
            counts={Unit.GIVEN: float(items(batch))} if items else _targets.counts(batch),
        ) for batch in micro_batches
    ]  # fmt: skip
    if loss is not None:  # the log has one number for the step
        for batch in batches:
            batch.returned = loss / len(batches)
    return measure_step(
        Step(model=model, micro_batches=batches, number=step, loss_scale=loss_scale, unit=Unit.GIVEN if items else None)
    )


def own_loss(model: Any, batch: Any) -> torch.Tensor:
    """The loss that a model computes itself, from its labels."""
    output = model(**batch)
    loss: torch.Tensor = output["loss"] if isinstance(output, dict) else output.loss
    return loss


def _bound(run: Callable[[Any, Any], torch.Tensor], model: Any, batch: Any) -> Callable[[], torch.Tensor]:
    return lambda: run(model, batch)


def read(measurement: Measurement) -> tuple[Reading, str]:
    """What a measurement shows, as a value and as a sentence."""
    reading = _reading.read(measurement)
    return reading, _words.headline(measurement, reading)
