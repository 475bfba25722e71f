"""A call of `compute_loss` that can be made again, and what the catalogue asks of a Trainer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Trainer

from ga_audit.guards import _known, _targets
from ga_audit.guards._reference import MicroBatch
from ga_audit.guards._result import Measurement
from ga_audit.guards._state import RandomState


class Call:
    """One call of `compute_loss` in training, that can be made again."""

    def __init__(
        self, original: Callable[..., Any], model: Any, inputs: Any, more: tuple[Any, ...], rest: dict[str, Any],
        *, to_host: bool,
    ) -> None:  # fmt: skip
        self.original, self.model, self.more, self.rest = original, model, more, rest
        self.inputs = _copied(inputs, to_host=to_host)
        self.size = 0 if to_host else _bytes(self.inputs)
        self.rng = RandomState.now()
        self.returned: Any = None

    def micro_batch(self, trainer: Any) -> MicroBatch:
        """What the reference runs: the loss that the trainer computes where this micro-batch is the whole batch."""
        return MicroBatch(
            loss=lambda: self.loss(trainer), rng=self.rng, inputs=self.inputs, counts=_targets.counts(self.inputs),
            returned=self.returned,
        )  # fmt: skip

    def loss(self, trainer: Any) -> torch.Tensor:
        """Without a count of the items in other micro-batches."""
        inputs = trainer._prepare_inputs(_copied(self.inputs, to_host=False)) if self.size == 0 else (
            _copied(self.inputs, to_host=False)
        )  # fmt: skip
        rest = dict(self.rest)
        names = list(inspect.signature(self.original).parameters)
        more = list(self.more)
        for i, name in enumerate(names[2 : 2 + len(more)]):
            if name == "num_items_in_batch":
                more[i] = None
        if "num_items_in_batch" in rest:
            rest["num_items_in_batch"] = None
        with trainer.compute_loss_context_manager():
            loss = self.original(self.model, inputs, *more, **rest)
        found: torch.Tensor = loss[0] if isinstance(loss, tuple) else loss
        return found


def unwrapped(model: Any) -> Any:
    """Without what reduces gradients over ranks; what compiles or casts stays."""
    parallel = torch.nn.parallel.DistributedDataParallel
    while isinstance(model, parallel) or type(model).__name__ == "DeepSpeedEngine":
        model = model.module
    return model


@contextmanager
def as_if_alone(trainer: Any) -> Iterator[None]:
    """A trainer whose loss function divides by the number of micro-batches sees one."""
    places = [(trainer, "current_gradient_accumulation_steps"), (trainer.args, "gradient_accumulation_steps")]
    kept = [(owner, name, vars(owner)[name]) for owner, name in places if name in vars(owner)]
    try:
        for owner, name, _ in kept:
            object.__setattr__(owner, name, 1)
        yield
    finally:
        for owner, name, value in kept:
            object.__setattr__(owner, name, value)


def _copied(value: Any, *, to_host: bool) -> Any:
    """Containers are new, tensors are the same; or, of a large step, in host memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu() if to_host and not value.requires_grad else value
    if isinstance(value, dict):
        return {k: _copied(v, to_host=to_host) for k, v in value.items()}
    if isinstance(value, Mapping) and hasattr(value, "data"):  # BatchEncoding
        return {k: _copied(v, to_host=to_host) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(v, to_host=to_host) for v in value)
    return value


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return int(value.numel() * value.element_size())
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(_bytes, parts))


def stack_of(trainer: Any, m: Measurement) -> _known.Stack:
    """What the catalogue asks of a training."""
    model = unwrapped(trainer.model)
    facts: dict[str, Any] = {
        "deepspeed": bool(getattr(trainer, "is_deepspeed_enabled", False)), "multi_rank": m.world_size > 1,
        "data_parallel": False,
        "label_smoothing": bool(getattr(trainer.args, "label_smoothing_factor", 0)),
        "liger": bool(getattr(trainer.args, "use_liger_kernel", False)),
        "average_tokens_across_devices": bool(getattr(trainer.args, "average_tokens_across_devices", False)),
        "labels_in_batch": m.has_labels,
    }  # fmt: skip
    custom = getattr(trainer, "compute_loss_func", None) is not None
    facts["custom_loss"] = "compute_loss_func returning a mean" if custom else "none"
    own = type(trainer).compute_loss is not Trainer.compute_loss
    if not own:
        facts["trainer"] = "stock"
    elif not type(trainer).__module__.startswith("trl."):
        facts["trainer"] = "subclass with its own compute_loss returning a mean"
    if getattr(trainer, "model_accepts_loss_kwargs", None) is False:
        facts["model"] = "forward has no **kwargs"
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    stock = type(base).__module__.startswith("transformers.")
    return _known.Stack(
        ga=m.micro_batches, world_size=m.world_size, architecture=type(base).__name__ if stock else None, facts=facts
    )
