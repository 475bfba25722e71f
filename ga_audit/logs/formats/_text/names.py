"""What the words before a number say of it: a counter, a value of the training or of an evaluation.

The text between two numbers is the same in every line of one shape, so that each such gap is looked at once.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from ga_audit.logs import roles

LONGEST_GAP = 160  # characters before a number that are looked at


class Kind(StrEnum):
    """What a counter counts."""

    STEP = "step"  # optimizer steps
    ITER = "iter"  # iterations, whatever the trainer means by them
    MICRO = "micro"  # micro-batches
    INDEX = "index"  # a bracketed counter without a name: the place in the epoch
    EPOCH = "epoch"
    SAMPLES = "samples"
    TOKENS = "tokens"


class Gap(NamedTuple):
    """What stands before a number."""

    name: str = ""  # "" where no word does
    kind: Kind | None = None
    scope: str = ""  # "train" or "eval", where the words before the name say so; holds for what follows in the line
    own: str = ""  # scope of this number alone
    group: str | None = None  # `tot_loss[loss=`; "" closes
    join: str = (
        ""  # "total" after a slash, "mean" in parentheses, "bracket" in a further, "inner" in a first one, "range"
    )


_COUNTERS: dict[str, Kind] = {
    **dict.fromkeys(("step", "steps", "update", "updates", "num_updates", "global_step", "optimizer_step", "opt_step",
                     "current_steps", "globalstep", "optim_step", "gstep", "train_step", "training_step", "up"), Kind.STEP),
    **dict.fromkeys(("iter", "iters", "iteration", "iterations", "it", "itr", "training_iteration", "iter_num"), Kind.ITER),
    **dict.fromkeys(("batch", "batches", "minibatch", "mini-batch", "micro_step", "microstep", "micro-step", "micro_batch",
                     "micro-batch", "microbatch", "batch_idx", "batch_index", "microbatches"), Kind.MICRO),
    **dict.fromkeys(("epoch", "ep", "epochs", "epoch_num"), Kind.EPOCH),
    **dict.fromkeys(("consumed_samples", "samples_seen", "consumed-samples", "nimg"), Kind.SAMPLES),
    **dict.fromkeys(("consumed_tokens", "tokens_seen", "trained_tokens", "total_tokens", "num_tokens", "tokens",
                     "num_input_tokens_seen"), Kind.TOKENS),
}  # fmt: skip
_TRAIN = frozenset({"train", "training", "trn", "train_inner"})
_EVAL = frozenset(
    {"val", "valid", "validation", "eval", "evaluation", "dev", "test", "testing", "evaluate", "validate", "cv"}
)
_SPLIT = _TRAIN | _EVAL
_LEVELS = frozenset({"info", "debug", "warning", "notice", "stdout", "stderr", "root", "log", "rank", "main"})
# words before a name that do not make it another quantity
_BENIGN = _LEVELS | {"at", "and", "with", "the", "a", "current", "got", "is", "for", "in", "on", "of", "epoch", "step",
                     "global", "batch", "now", "after", "new", "end", "final", "->", "=>", "*", "-", "--", "•"}  # fmt: skip
_AFTER_NAME = frozenset({"value", "is", "was", "now", "of", "=", "->", "=>", "at", "about", "this", "approx"})
_BEFORE_COUNTER = _BENIGN | _SPLIT | {"optimizer", "opt", "optim", "loss", "loop", "starting", "finished", "start",
                                      "results", "done", "micro", "mini", "optimiser", "current", "completed"}  # fmt: skip
_NO_COUNTER = frozenset({
    "time", "per", "sec", "secs", "second", "seconds", "ms", "speed", "max", "total", "num", "number", "skipped", "warmup",
    "nan", "eta", "remaining", "left", "size", "every", "last", "best", "each", "/", "avg", "average", "log", "save", "mean",
    "lr", "first", "tokens", "samples", "accumulation", "until",
})  # fmt: skip
_MICRO_WORDS = frozenset({"micro", "mini"})
_PARENTHESES = re.compile(r"\(([^()]{0,30})\)[ :=\[]{0,20}$")
_SEGMENTS = re.compile(r"[|,;:()\[\]{}<>\t]| [-–—] | {2,}")
_GROUP = re.compile(r"(?:^|[ ,|;])(\w{1,40})\[ {0,8}([\w/.-]{1,60})[=:]$")
_WORD = re.compile(r"[\w@./-]+")


@lru_cache(maxsize=8192)
def of_gap(gap: str) -> Gap:
    """What the text between the number before and this one says."""
    bare = gap.strip()
    if bare == "/" or bare.lower() in ("of", "out of"):
        return Gap(join="total")
    if bare in ("][", "] [", ")(", "](", ") (", "] (", ") [", ")["):
        return Gap(join="bracket")
    if bare == "[":
        return Gap(join="inner")
    if bare == "(":
        return Gap(join="mean")
    if bare in ("-", "–", "~", ".."):
        return Gap(join="range")
    if (grouped := _GROUP.search(gap)) is not None:
        # `loss[loss=0.7, ...` names the group as the value: it is the value itself
        same = grouped[1].lower() == grouped[2].lower()
        found = _named(gap[: grouped.start()], grouped[2])
        return found._replace(group="" if same else grouped[1])
    inside = _PARENTHESES.search(gap)
    own = ""
    if inside is not None:
        own = _scope_of(inside[1].strip().lower())
        gap = gap[: inside.start()]
    parts = _SEGMENTS.split(gap.rstrip(" :=\t\"'*([{<~≈#>-"))
    found = _named(" | ".join(parts[:-1]), parts[-1])
    if own:
        found = found._replace(own=own) if found.kind is None else found._replace(scope=own)
    return found._replace(group="") if "]" in gap else found


def _scope_of(word: str) -> str:
    return "train" if word in _TRAIN else "eval" if word in _EVAL else ""


def _named(before: str, name: str) -> Gap:
    """The gap of a name and the words of the segments before it."""
    scope = ""
    for word in _WORD.findall(before.lower()):
        scope = _scope_of(word) or scope
    words = [word.strip(".'\"*#>") for word in name.split()]
    words = [word for word in words if word]
    while words and words[0].lower() in _LEVELS and len(words) > 1:
        words.pop(0)
    if not words:
        return Gap(scope=scope)
    low = [word.lower() for word in words]
    if len(words) == 1 and low[0] in _SPLIT:
        return Gap(name=low[0], scope=_scope_of(low[0]) if not before else scope, own=_scope_of(low[0]))
    counter = _counter(low)
    if counter is not None:
        inner = next((s for word in low if (s := _scope_of(word))), scope)
        return Gap(name="_".join(low[-1:]), kind=counter, scope=inner)
    return Gap(name=value_name(words), scope=scope)


def _counter(low: list[str]) -> Kind | None:
    tail = low[-1].rpartition("/")[2]
    if len(low) > 1 and low[-1].rstrip("#") in ("number", "no", "no.", "num", "idx", "index", "id"):
        return _counter(low[:-1])
    pair = "_".join(low[-2:])
    kind = _COUNTERS.get(pair) or _COUNTERS.get(tail)
    if kind is None or (low[-1].count("/") and kind not in (Kind.STEP, Kind.EPOCH)):
        return None
    rest = low[:-2] if pair in _COUNTERS else low[:-1]
    if any(word in _NO_COUNTER for word in rest) or (
        tail.endswith("s") and any(word not in _BEFORE_COUNTER for word in rest)
    ):
        return None
    if kind in (Kind.STEP, Kind.ITER) and any(word in _MICRO_WORDS for word in rest):
        return Kind.MICRO
    return kind


def value_name(words: list[str]) -> str:
    """The name of a value: the words that belong to it, joined; those that say nothing of it are left out."""
    words = list(words)
    while len(words) > 1 and words[-1].lower() in _AFTER_NAME:
        words.pop()
    low = [word.lower() for word in words]
    full = "_".join(low[-6:])
    if len(words) == 2 and low[0] in _SPLIT and "/" in low[1]:  # `Train loss/train/total`
        return words[1]
    for first in range(len(low)):
        name = "_".join(low[first:])
        if roles.role_of(name) is not None or (len(low) - first == 2 and _split_last(low[first:])):
            if _split_last(low[first:]):
                name = f"{low[-1]}_{low[-2]}"
            return words[first] if len(words) - first == 1 else name
        if low[first] not in _BENIGN:
            break
    return words[0] if len(words) == 1 else full


def _split_last(low: list[str]) -> bool:
    """`loss train`: the name before the part of the data."""
    return len(low) == 2 and low[1] in _SPLIT and low[0] == "loss"


def as_eval(name: str) -> str:
    """The name of a value of an evaluation, where the line says so and the name does not."""
    low = name.lower()
    return name if any(part in _EVAL for part in re.split(r"[/_.\s-]", low)) else f"val_{name}"
