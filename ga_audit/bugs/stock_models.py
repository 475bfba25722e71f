"""What the stock models of transformers do with the loss arguments that the Trainer passes, by release.

`models.json` is made by `tests/bugs/scan_models.py` from the released packages: for each model with labels for one of ten
kinds of head, the releases at which its answer changes. Not in it: that a head for classes divides by the count only where
each sample has one class (its losses for regression and for several labels take the count and leave it), and that the router
loss of a mixture of experts is not divided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any


@cache
def _table() -> Mapping[str, Any]:
    from importlib import resources

    table: dict[str, Any] = json.loads((resources.files("ga_audit.bugs") / "models.json").read_text("utf-8"))
    return table


def loss_arguments(model: str, release: str) -> str | None:
    """What a model does in a release; None = not known, and not guessed.

    Parameters
    ----------
    model : name of the class, `LlamaForCausalLM`.
    release : of transformers. Between two releases that were read, the answer is theirs if it is the same in both.

    Returns
    -------
    "uses" : its forward takes the count of items in the batch and divides its loss by it.
    "ignores" : the Trainer concludes that it does, and it does not.
    "none" : to the Trainer it takes no loss arguments.
    """
    from packaging.version import InvalidVersion, Version

    try:
        asked = Version(Version(release).base_version)
    except InvalidVersion:
        return None
    changes: Sequence[tuple[str, str | None]] = _table()["models"].get(model, ())
    read = [Version(text) for text in _table()["releases"]]
    if asked > read[-1] or not changes:
        return None
    before, after = (_at(changes, near) for near in (
        max((r for r in read if r <= asked), default=None), min(r for r in read if r >= asked)
    ))  # fmt: skip
    return before if before == after else None


def _at(changes: Sequence[tuple[str, str | None]], release: Any) -> str | None:
    from packaging.version import Version

    held = [does for since, does in changes if release is not None and Version(since) <= release]
    return held[-1] if held else None


def is_encoder(model: str) -> bool:
    """Whether a model with a head for classes reads in both directions: its base is trained by masked words, or is no text."""
    base, _, head = model.rpartition("For")
    return head in {"ImageClassification", "AudioClassification", "VideoClassification"} or (
        f"{base}ForMaskedLM" in _table()["models"]
    )


def depends_on_problem_type(model: str) -> bool:
    """Whether a model has other losses besides (regression, several labels), which ignore the count whatever it does."""
    return model.endswith(("ForImageClassification", "ForSequenceClassification"))


@cache
def counted(release: str) -> Mapping[str, int]:
    """How many stock models do what in a release that was read."""
    answers = [loss_arguments(model, release) for model in _table()["models"]]
    return {does: answers.count(does) for does in ("uses", "ignores", "none")}
