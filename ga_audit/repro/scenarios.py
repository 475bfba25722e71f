"""What the catalogue calls the situation that a variant is, and the known bugs that fit what was measured in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ga_audit.bugs import catalogue, stock_models
from ga_audit.bugs.conditions import CustomLoss, Generations, LossType, ModelKind, TrainerKind
from ga_audit.bugs.releases import within
from ga_audit.finding import Signature
from ga_audit.repro import verdict as verdicts
from ga_audit.repro.engine import engines
from ga_audit.repro.measurement import is_misaligned

_A: Mapping[str, object] = {"model": ModelKind.USES_COUNT}
_PLAIN: Mapping[str, Mapping[str, object]] = {
    "A": _A,
    "B": {"model": ModelKind.NO_KWARGS},
    "C": {**_A, "custom_loss": CustomLoss.BY_COUNT},
    "B2-flagged": {"model": ModelKind.IGNORES_COUNT},  # before the flag was honoured
    "D-flagged": {"model": ModelKind.NO_KWARGS},  # to the Trainer, a model that takes no count
    "D2": {"model": ModelKind.NO_KWARGS, "trainer": TrainerKind.MEAN_LOSS},
    "B2": {"model": ModelKind.IGNORES_COUNT},
    "B3": {"labels_in_batch": False},
    "C2": {"custom_loss": CustomLoss.MEAN},
    "C3": {"custom_loss": CustomLoss.MEAN, "model": ModelKind.NO_KWARGS},
    "D": {"trainer": TrainerKind.MEAN_LOSS},
    "E": {"label_smoothing": True},
    "lora": _A,  # handed on by the adapters
    "ignoring-count": {"model": ModelKind.IGNORES_COUNT},
    "pt-ignoring-count": {"model": ModelKind.IGNORES_COUNT},
    **dict.fromkeys(("sft", "pt", "full", "qwen2"), _A),  # stock models under TRL, LLaMA-Factory, axolotl
    **{name: {"labels_in_batch": False} for name in ("dpo", "kto", "reward", "rm")},
    "grpo-reused": {"steps_per_generation": Generations.SHARED, "loss_type": LossType.DAPO},
    "grpo-reused-by-length": {"steps_per_generation": Generations.SHARED, "loss_type": LossType.DR_GRPO},
}
SITUATION: Mapping[str, Mapping[str, object]] = {
    **_PLAIN,
    "A-deepspeed-zero1": {**_PLAIN["A"], "deepspeed": True, "zero_stage": 1},
    **{f"{name}-deepspeed": {**_PLAIN[name], "deepspeed": True, "zero_stage": 2} for name in ("A", "B", "D")},
}
_BY_LOSS_ARGUMENTS = {"uses": "A", "none": "B", "ignores": "B2"}  # of a stock model, in its release
_OPEN = {"liger": ("A", "B")}  # Liger's Llama takes the count and uses it, or takes nothing


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured, as the catalogue says it: exponents (GA, world size), None = not known."""

    loss: tuple[float | None, float | None]
    grad_norm: tuple[float | None, float | None]
    gradient: tuple[float | None, float | None]
    verdict: str
    cosine: float | None = None  # the lowest, of the real gradient with that of the whole batch
    multi_rank: bool = False
    average_tokens: bool | None = None  # across devices; None: not known
    data_parallel: bool = False  # the ranks are devices of one process


def known_bugs(variant: str, stack: Mapping[str, str], seen: Seen) -> tuple[str, ...]:
    """The bugs that releases of the stack have in the variant's situation and that do what was measured.

    Parameters
    ----------
    variant : of an engine, or a stock model family.
    stack : release of each package.
    seen : what was measured.
    """
    if seen.verdict not in ("gradients", "logging only", "unequally weighted"):
        return ()
    shared = {"liger": variant == "liger", "multi_rank": seen.multi_rank, "data_parallel": seen.data_parallel}
    if seen.average_tokens is not None:
        shared["average_tokens_across_devices"] = seen.average_tokens
    held = [{**shared, **SITUATION.get(name, {})} for name in _situations(variant, stack)]
    found = []
    for bug, affected in (known for package in stack.items() for known in catalogue.of_release(*package)):
        if is_misaligned(seen.cosine) != (affected.signature.gradient is None):
            continue  # a gradient that points elsewhere has no exponent
        if _fits(affected.signature, seen) and any(_holds(affected.when, situation, stack) for situation in held):
            found.append(bug.id)
    return tuple(dict.fromkeys(found))


def _situations(variant: str, stack: Mapping[str, str]) -> tuple[str, ...]:
    """What a variant may be: itself, or for a stock model what its class does with loss arguments in the release."""
    model = engines()["transformers"].models.get(variant)
    if variant == "B2-flagged" and within(">=4.48.0", stack.get("transformers", "")):
        return ("B",)  # what the flag says holds: to the Trainer it takes no count
    if model is None:
        return _OPEN.get(variant, (variant,))
    does = stock_models.loss_arguments(model, stack.get("transformers", ""))
    return (_BY_LOSS_ARGUMENTS[does],) if does else tuple(_BY_LOSS_ARGUMENTS.values())


def _fits(signature: Signature, seen: Seen) -> bool:
    """Whether a bug does what was measured, where both are known, and something of what is off is known."""
    pairs = [
        (wanted, measured)
        for name in ("loss", "grad_norm", "gradient")
        if (expected := getattr(signature, name)) is not None
        for wanted, measured in zip(expected, getattr(seen, name), strict=True)
        if measured is not None
    ]
    told = any(abs(measured) >= verdicts.TOLERANCE for _, measured in pairs) or is_misaligned(seen.cosine)
    return told and all(verdicts.is_about(measured, wanted) for wanted, measured in pairs)


def _holds(when: Mapping[str, object], situation: Mapping[str, object], stack: Mapping[str, str]) -> bool:
    held = {"deepspeed": False, **situation}
    if (wanted := str(when.get("transformers", ""))) and within(wanted, stack.get("transformers", "")):
        held["transformers"] = wanted
    return all(held.get(name) == wanted for name, wanted in when.items())
