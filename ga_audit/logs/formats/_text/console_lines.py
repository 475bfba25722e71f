"""One function for each family of console lines: text -> Line, or None where it is not of the family."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ga_audit.logs.formats import _values
from ga_audit.logs.formats._values import number as number_of

_NUMBER = r"[-+]?(?:\d[\d_,]*\.?\d*(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity)"


@dataclass(slots=True)
class Line:
    """What one line says."""

    values: dict[str, float]
    step: int | None = None
    micro_steps: bool = False  # `step` counts micro-batches
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)  # of `values` in the line, where known
    number: int = 0  # in the file, from 1


class _Names(ast.NodeTransformer):
    """`nan` and `inf` are names to Python: numbers in a dict that was printed."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in {"nan", "NaN", "inf", "Infinity"}:
            return ast.copy_location(ast.Constant(float(node.id)), node)
        return node


def parse_dict(text: str) -> Line | None:
    """A Trainer's dict line; values may be numbers or text; None for a dict that is none."""
    if "'" not in text and '"' not in text:
        return None
    try:
        tree = _Names().visit(ast.parse(text, mode="eval"))
        content = ast.literal_eval(tree)  # builds values only
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    if not isinstance(content, dict):
        return None
    values = {k: n for k, v in content.items() if isinstance(k, str) and (n := number_of(v)) is not None}
    known = {"loss", "grad_norm", "eval_loss", "train_loss", "learning_rate", "epoch", "train_runtime"}
    return Line(values, spans=_spans_in_dict(text, tree.body, values)) if known & set(values) else None


def _spans_in_dict(text: str, body: ast.Dict, values: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """The place of each number, quotes left out; of a key that comes twice the last, as in `values`."""
    spans: dict[str, tuple[int, int]] = {}
    for key, node in zip(body.keys, body.values, strict=True):
        name = key.value if isinstance(key, ast.Constant) else None
        if not isinstance(name, str) or name not in values:
            continue
        spans.pop(name, None)
        start, end = (_characters(text, at) for at in (node.col_offset, node.end_col_offset or 0))
        if text[start] in "'\"":
            start, end = start + 1, end - 1
        number = number_of(text[start:end])
        if number is not None and (number == values[name] or number != number):
            spans[name] = (start, end)
    return spans


def _characters(text: str, at: int) -> int:
    """Characters in so many bytes of UTF-8, which is how `ast` counts columns."""
    return at if text.isascii() else len(text.encode()[:at].decode())


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a line that may be a number, and where it begins."""

    text: str
    start: int


def _piece(match: re.Match[str], group: int) -> _Piece:
    return _Piece(match[group], match.start(group))


def _torchtune(text: str) -> Line | None:
    match = re.match(r"\s*Step (\d+) \| (.*)", text)
    if not match:
        return None
    found = re.compile(rf"([\w/]+):({_NUMBER})").finditer(text, *match.span(2))
    return _line({m[1]: _piece(m, 2) for m in found}, match[1])


def _nanogpt(text: str) -> Line | None:
    match = re.match(rf"\s*iter (\d+): loss ({_NUMBER}), time", text)
    if match:
        return _line({"loss": _piece(match, 2)}, match[1])
    match = re.match(rf"\s*step (\d+): train loss ({_NUMBER}), val loss ({_NUMBER})", text)
    # both losses are means over evaluation batches, neither is the training curve
    return _line({"val_loss": _piece(match, 3)}, match[1]) if match else None


def _megatron(text: str) -> Line | None:
    match = re.match(r".*?\biteration\s+(\d+)/\s*\d+\s*\|", text)
    if not match:
        return None
    pairs = {}
    at = 0
    for part in text.split("|"):
        name, _, value = part.rpartition(":")
        name = name.strip().lower()
        if name in {"lm loss", "grad norm", "learning rate", "consumed samples", "reduced_train_loss"}:
            start = at + len(part) - len(value.lstrip())
            pairs[name.replace(" ", "_")] = _Piece(value.strip(), start)
        at += len(part) + 1
    return _line(pairs, match[1])


def _mlx(text: str) -> Line | None:
    match = re.match(rf"\s*Iter (\d+): (Train|Val) loss ({_NUMBER})", text)
    if not match:
        return None
    name = "loss" if match[2] == "Train" else "val_loss"
    pairs = {name: _piece(match, 3)}
    rate = re.search(rf"Learning Rate ({_NUMBER})", text)
    tokens = re.search(rf"Trained Tokens ({_NUMBER})", text)
    if rate:
        pairs["learning_rate"] = _piece(rate, 1)
    if tokens:
        pairs["trained_tokens"] = _piece(tokens, 1)
    line = _line(pairs, match[1])
    if line is not None:
        line.micro_steps = True
    return line


def _litgpt(text: str) -> Line | None:
    match = re.match(rf".*Epoch (\d+) \| iter (\d+) step (\d+) \| loss train: ({_NUMBER}), val: (\S+)", text)
    if not match:
        return None
    pairs = {"loss": _piece(match, 4)}
    if number_of(match[5]) is not None:
        pairs["val_loss"] = _piece(match, 5)
    return _line(pairs, match[3])


def _fairseq(text: str) -> Line | None:
    if "num_updates=" not in text or "loss=" not in text:
        return None
    pairs = {m[1]: _piece(m, 2) for m in re.finditer(rf"(\w+)=({_NUMBER})", text)}
    names = {"loss": "loss", "gnorm": "grad_norm", "lr": "learning_rate", "valid_loss": "val_loss"}
    step = pairs["num_updates"].text if "num_updates" in pairs else None
    return _line({names[k]: v for k, v in pairs.items() if k in names}, step)


def _torchtitan(text: str) -> Line | None:
    match = re.match(rf".*?\bstep:\s*(\d+)\s+loss:\s*({_NUMBER})", text)
    if not match:
        return None
    pairs = {"loss": _piece(match, 2)}
    norm = re.search(rf"grad_norm:\s*({_NUMBER})", text)
    if norm:
        pairs["grad_norm"] = _piece(norm, 1)
    return _line(pairs, match[1])


def _log_txt(text: str) -> Line | None:
    match = re.fullmatch(rf"\s*(\d+) (train|val) ({_NUMBER})\s*", text)
    name = "loss" if match and match[2] == "train" else "val_loss"
    return _line({name: _piece(match, 3)}, match[1]) if match else None


def _plain_pairs(text: str) -> Line | None:
    """`step 10 | loss 2.31 | grad_norm 0.8`, `step=10 loss=2.31`: what people's own loops print."""
    match = re.search(rf"(?<![\w/])(?:train[_/ ])?loss\s*[:=]?\s*({_NUMBER})", text, re.IGNORECASE)
    step = re.search(r"(?<![\w/])(?:global[_ ])?(?:step|iter(?:ation)?)\s*[:=#]?\s*(\d+)", text, re.IGNORECASE)
    if not match or not step or "eval" in text.lower() or "val" in text.lower():
        return None
    pairs = {"loss": _piece(match, 1)}
    norm = re.search(rf"(?:grad[_ ]?norm|gnorm|(?<!\w)norm)\s*[:=]?\s*({_NUMBER})", text, re.IGNORECASE)
    if norm:
        pairs["grad_norm"] = _piece(norm, 1)
    return _line(pairs, step[1])


def _line(pairs: Mapping[str, _Piece], place: str | None) -> Line | None:
    """The line of a text of the step and the pieces of its values; None where either is no number."""
    values, spans = {}, {}
    for name, piece in pairs.items():
        number = number_of(piece.text.replace(",", ""))
        if number is not None:
            values[name] = number
            # a comma after a number belongs to the sentence
            spans[name] = (piece.start, piece.start + len(piece.text.rstrip(",")))
    step = _values.step(place)
    return Line(values, step, spans=spans) if values and step is not None else None


FAMILIES: tuple[Callable[[str], Line | None], ...] = (
    _torchtune, _nanogpt, _megatron, _mlx, _litgpt, _fairseq, _torchtitan, _log_txt, _plain_pairs,
)  # fmt: skip

_HEADER: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), key)
    for pattern, key in (
        (r"gradient[ _]accumulation[ _]steps\s*[=:]\s*(\d+)", "gradient_accumulation_steps"),
        (r"instantaneous batch size per device\s*=\s*([\d,]+)", "per_device_train_batch_size"),
        (r"batch size per device\s*=\s*([\d,]+)", "per_device_train_batch_size"),
        (r"total train batch size.*=\s*([\d,]+)", "total_train_batch_size"),
        (r"num examples\s*=\s*([\d,]+)", "num_examples"),
        (r"num epochs\s*=\s*([\d,]+)", "num_train_epochs"),
        (r"total optimization steps\s*=\s*([\d,]+)", "total_steps"),
        (r"total steps\s*=\s*([\d,]+)", "total_steps"),
        (r"num gpus(?: used)?\s*=\s*(\d+)", "world_size"),
        (r"world[_ ]size\s*[:=]\s*(\d+)", "world_size"),
        (r"data[_ -]parallel[_ -]size\s*\.*\s*[:=]?\s*(\d+)", "data_parallel_size"),
        (r"(?:^|\s)micro[_ ]batch[_ ]size\s*\.*[:=]?\s*(\d+)", "micro_batch_size"),
        (r"(?:^|\s)global[_ ]batch[_ ]size\s*\.+\s*(\d+)", "global_batch_size"),
    )
)
_PACKAGE = re.compile(
    r"\b(transformers|trl|axolotl|unsloth|accelerate|deepspeed|torch|peft)\s*(?:version)?\s*(?:==|:|=|\s)\s*v?(\d+\.\d+[\w.]*)",
    re.IGNORECASE,
)


def parse_header(text: str) -> dict[str, Any]:
    """Settings that a line of a trainer's banner states; `_packages` holds releases."""
    if "{" in text and "loss" in text:
        return {}
    found: dict[str, Any] = {}
    for pattern, key in _HEADER:
        match = pattern.search(text)
        if match and key not in found:
            number = _values.step(match[1])
            if number is not None:  # a stray comma, thousands of digits
                found[key] = number
    packages = {name.lower(): release.rstrip(".") for name, release in _PACKAGE.findall(text)}
    if packages:
        found["_packages"] = packages
    return found
