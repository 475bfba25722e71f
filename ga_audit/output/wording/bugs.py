"""Sentences about known bugs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from ga_audit.bugs.coverage import Coverage, Unknown, packages
from ga_audit.finding import RetrainRule

if TYPE_CHECKING:
    from ga_audit.bugs.catalogue import Affected
    from ga_audit.bugs.conditions import Value

RETRAIN: Mapping[RetrainRule, str] = MappingProxyType({
    RetrainRule.LOG_ONLY: "No: only the logged number is wrong.",
    RetrainRule.SUMMED_OVER_GA: "AdamW without clipping: no. SGD, or clipping at max_grad_norm reached: yes, the learning "
    "rate in effect or the clipping was GA times off.",
    RetrainRule.SUMMED_OVER_DEVICES: "AdamW without clipping: no. SGD, or clipping at max_grad_norm reached: yes, the "
    "learning rate in effect or the clipping was as many times off as there were devices.",
    RetrainRule.SCALED_BY_GENERATIONS: "AdamW without clipping: no. SGD, or clipping at max_grad_norm: yes, the gradient was "
    "GA / steps_per_generation times the intended one.",
    RetrainRule.DIVIDED_BY_GA: "AdamW without clipping: no. SGD: yes, the learning rate in effect was GA times too small; "
    "with clipping it fired too seldom.",
    RetrainRule.DIVIDED_BY_WORLD_SIZE: "AdamW without clipping: no. SGD: yes, the learning rate in effect was world_size "
    "times too small; with clipping it fired too seldom.",
    RetrainRule.DIVIDED_OR_PART_OF_BATCH: "AdamW without clipping: no up to 4.49.0. SGD: yes, the learning rate in effect was "
    "as many times too small as there were devices. From 4.51.0 on yes: each step saw the first device's part of the batch "
    "only.",
    RetrainRule.RANKS_DIVERGED: "Yes: each rank trained a model of its own on its own part of the last micro-batches, and one "
    "of them was saved.",
    RetrainRule.LAST_MICRO_BATCH_ONLY: "Yes: every step saw one micro-batch of GA, at 1/GA of its weight; with AdamW the "
    "direction is that of a batch GA times smaller.",
})  # fmt: skip

_QUANTITIES = (
    ("loss", "logged loss"),
    ("grad_norm", "logged grad_norm"),
    ("gradient", "real gradient"),
)


def conditions(open_ones: Iterable[tuple[str, Value]]) -> str:
    """Conditions that the logs leave open, with the values that are needed."""
    return ", ".join(f"{name} = {wanted}" for name, wanted in open_ones)


def ranges(found: Sequence[str]) -> str:
    """Ranges of releases, as alternatives."""
    return " or ".join(found)


def place(row: Affected) -> str:
    """Releases and conditions of a row."""
    wanted = ", ".join(f"{name} = {_value(value)}" for name, value in row.when.items())
    return f"{row.releases}{'; ' + wanted if wanted else ''}"


def _value(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def signature(row: Affected) -> str:
    """What a row does to the loss, the grad_norm and the gradient."""
    parts = []
    for name, words in _QUANTITIES:
        exponents = getattr(row.signature, name)
        if exponents is not None:
            pairs = zip(("GA", "world_size"), exponents, strict=True)
            powers = (base if e == 1 else f"{base}^{e:g}" for base, e in pairs if e)
            factor = " x ".join(powers)
            parts.append(f"{words} {'x ' + factor if factor else 'right'}")
    if row.signature.gradient is None:
        parts.append("real gradient not along that of the whole batch")
    return ", ".join(parts)


def coverage(one: Coverage) -> str:
    """What it means that no bug of a release is known."""
    if reason := why_unknown(one):
        return f"nothing is known of it: {reason}"
    if one.measured:
        return f"no known bug (measured {one.measured} on {one.package} {one.release})"
    near = f" (the nearest that were: {', '.join(one.near)})" if one.near else ""
    return f"no known bug, but this release was not measured{near}"


def why_unknown(one: Coverage) -> str | None:
    """Why nothing can be said about a release; None where something can."""
    match one.unknown:
        case Unknown.NO_SUCH_PACKAGE:
            hint = f"; did you mean {one.near[0]}?" if one.near else f" ({', '.join(sorted(packages()))} are known)"
            return f"no bug of a package {one.asked} is known, and none was looked for{hint}"
        case Unknown.NEWER:
            return f"it is newer than {one.near[0]}, the newest that was measured"
        case _:
            return None


def heading(one: Coverage, found: int) -> str:
    """How many bugs of a release are known, or what it means that none is."""
    if not found or one.unknown:
        bugs = "1 bug of earlier releases is" if found == 1 else f"{found} bugs of earlier releases are"
        earlier = f"; {bugs} not known to be fixed" if found else ""
        return f"{one.package} {one.release}: {coverage(one)}{earlier}"
    count = "1 known bug" if found == 1 else f"{found} known bugs, each under its own conditions"
    return f"{one.package} {one.release}: {count}"


_DOES = {
    "uses": "uses the number of items in the batch",
    "ignores": "takes the number of items in the batch and ignores it",
    "none": "takes no number of items in the batch",
}


def stock_model(model: str, release: str) -> str:
    """What a stock model does with loss arguments in a release of transformers."""
    from ga_audit.bugs import stock_models

    does = stock_models.loss_arguments(model, release)
    if does is None:
        return f"what {model} does with loss arguments in {release} is not known"
    several = does == "uses" and stock_models.depends_on_problem_type(model)
    return f"{model} {_DOES[does]}" + (" where each sample has one class, else it ignores it" if several else "")


def stock_models_counted(numbers: Mapping[str, int]) -> str:
    """How many stock models do what with loss arguments; empty where none is known."""
    if not sum(numbers.values()):
        return ""
    return (
        f"of {sum(numbers.values())} stock models with labels (for tokens, sequences, images, ...) {numbers['uses']} use the "
        f"number of items in the batch, {numbers['ignores']} take it and ignore it, {numbers['none']} take none (--model CLASS "
        "says of one)"
    )
