"""What the catalogue calls the situation that a variant is, and the known bugs that fit what was measured in it."""

from __future__ import annotations

from collections.abc import Mapping

from ga_audit.bugs import catalogue
from ga_audit.repro import judge
from ga_audit.repro.engine import engines

_PLAIN: Mapping[str, Mapping[str, object]] = {
    "A": {"model": "accepts loss kwargs"},
    "B": {"model": "forward has no **kwargs"},
    "C": {"model": "accepts loss kwargs"},
    "B2-flagged": {"model": "forward has **kwargs and ignores num_items_in_batch"},  # before the flag was honoured
    "D-flagged": {"model": "forward has no **kwargs"},  # to the Trainer, a model that takes no count
    "D2": {"model": "forward has no **kwargs", "trainer": "subclass with its own compute_loss returning a mean"},
    "B2": {"model": "forward has **kwargs and ignores num_items_in_batch"},
    "B3": {"labels_in_batch": False},
    "C2": {"custom_loss": "compute_loss_func returning a mean"},
    "C3": {"custom_loss": "compute_loss_func returning a mean", "model": "forward has no **kwargs"},
    "D": {"trainer": "subclass with its own compute_loss returning a mean"},
    "E": {"label_smoothing": True},
    "lora": {"model": "accepts loss kwargs"},  # handed on by the adapters
    "ignoring-count": {"model": "forward has **kwargs and ignores num_items_in_batch"},
    "pt-ignoring-count": {"model": "forward has **kwargs and ignores num_items_in_batch"},
    "grpo-reused": {"steps_per_generation": "the same at every GA"},
}
SITUATION: Mapping[str, Mapping[str, object]] = {
    **_PLAIN,
    "A-deepspeed-zero1": {**_PLAIN["A"], "deepspeed": True, "zero_stage": 1},
    **{f"{name}-deepspeed": {**_PLAIN[name], "deepspeed": True, "zero_stage": 2} for name in ("A", "B", "D")},
}
# of a stock model it is not known beforehand what its forward takes: each release's own differs; Liger's Llama takes the
# count and uses it, or takes nothing
_OPEN_KINDS = {"model": ("A", "B", "B2"), "liger": ("A", "B")}
_TRL: Mapping[str, Mapping[str, object]] = {name: {"labels_in_batch": False} for name in ("dpo", "kto", "reward", "rm")}


def known_bugs(
    variant: str,
    stack: Mapping[str, str],
    measured: tuple[float | None, float | None, float | None],
    *,
    verdict: str,
    cosine: float | None = None,
) -> tuple[str, ...]:
    """The bugs that releases of the stack have in the variant's situation and that do what was measured.

    Parameters
    ----------
    variant : of an engine, or a stock model family.
    stack : release of each package.
    measured : exponents on GA of the logged loss, the logged grad_norm and the real gradient; None = not measured.
    verdict : of `judge`.
    cosine : the lowest of the real gradient with that of the whole batch; None = not measured.
    """  # fmt: skip
    if verdict not in ("gradients", "logging only") or measured[-1] is None:
        return ()
    rows = _OPEN_KINDS.get("model" if variant in engines()["transformers"].models else variant, (variant,))
    held = [{"liger": variant == "liger", **SITUATION.get(name, _TRL.get(name, {}))} for name in rows]
    found = []
    for bug, affected in (known for package in stack.items() for known in catalogue.of_release(*package)):
        signature = (affected.signature.loss, affected.signature.grad_norm, affected.signature.gradient)
        if judge.is_astray(cosine) != (affected.signature.gradient is None):
            continue  # a gradient that points elsewhere has no exponent
        fits = all(s is None or m is None or judge.is_about(m, s[0]) for s, m in zip(signature, measured, strict=True))
        if fits and any(_holds(affected.when, situation, stack) for situation in held):
            found.append(bug.id)
    return tuple(dict.fromkeys(found))


def _holds(when: Mapping[str, object], situation: Mapping[str, object], stack: Mapping[str, str]) -> bool:
    held = {"deepspeed": False, "multi_rank": False, **situation}
    if (wanted := str(when.get("transformers", ""))) and catalogue.within(wanted, stack.get("transformers", "")):
        held["transformers"] = wanted
    return all(held.get(name) == wanted for name, wanted in when.items())
