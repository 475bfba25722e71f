"""A line of names and numbers -> a record, by its structure and whatever trainer printed it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache

from ga_audit.logs import roles
from ga_audit.logs.formats import _values
from ga_audit.logs.formats._text import names, trainers
from ga_audit.logs.formats._text.names import Gap, Kind
from ga_audit.logs.formats._text.numbers import NUMBER, Number, has_decimal_comma, parse
from ga_audit.logs.formats._text.pieces import Clean
from ga_audit.logs.formats._text.record import Record, Span
from ga_audit.run import Role

_TIMES = re.compile(
    r"(?<![\d.])(?:\d{4}[-/]\d\d?[-/]\d\d?(?:[T ]\d\d?:\d\d(?::\d\d)?(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|\d\d?[-/]\d\d?(?:[-/]\d\d(?:\d\d)?)? (?=\d\d?:\d\d:\d\d)|\d{1,4}:\d\d:\d\d(?:[.,]\d{1,9})?|\d{1,3}:\d\d(?=[<,\] ]))"
)
_RANK = re.compile(r"\[?\b(?:rank|RANK|Rank)[ =:_-]{0,2}(\d{1,6})\b")
_RANK_LAST = re.compile(r"\brank[ =:](\d{1,6})\s{0,8}$")
_LEADS = re.compile(r"\s{0,12}(\d{1,15})(?= \||: )")
_SUFFIXES = {"epoch": Kind.EPOCH, "ep": Kind.EPOCH, "batch": Kind.MICRO, "steps": Kind.STEP, "step": Kind.STEP}
_METRICS = frozenset({Role.LOSS, Role.GRAD_NORM, Role.EVAL_LOSS, Role.SUMMARY_LOSS})
_LOSS_LIKE = re.compile(r"(?:^|[_/. -])(?:loss|norm|gnorm)(?:es)?(?:$|[_/. -])", re.IGNORECASE)
_NO_LOSS = re.compile(
    r"scale|type|weight|coef|param|lambda|clip|max_|layer_?norm|batch_?norm|rms_?norm|time", re.IGNORECASE
)
_ROW_WORDS = 4  # words before the first name, up to which a line without a counter is a row and no prose
_KEPT = frozenset(
    key
    for field in ("gradient_accumulation_steps", "micro_batch_size", "world_size")
    for key in roles.CONFIG_KEYS[field]
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The names that the user gave."""

    loss: str | None = None
    grad_norm: str | None = None
    eval_loss: str | None = None
    step: str | None = None
    ga: str | None = None

    @property
    def all(self) -> frozenset[str]:
        """Every name that was given."""
        return frozenset(k for k in (self.loss, self.grad_norm, self.eval_loss, self.step, self.ga) if k)


NO_KEYS = Keys()


@lru_cache(maxsize=4096)
def is_metric(name: str, keys: Keys) -> bool:
    """Whether a value makes a line a row of a log: a loss or a norm, by role or by name."""
    if name in keys.all or roles.role_of(name) in _METRICS:
        return True
    if name.count(".") > 1:  # a module or a file
        return False
    return _LOSS_LIKE.search(name) is not None and _NO_LOSS.search(name) is None


@lru_cache(maxsize=4096)
def _is_kept(name: str, keys: Keys) -> bool:
    return is_metric(name, keys) or roles.role_of(name) is not None or name in _KEPT


@dataclass(slots=True)
class _Reading:
    """A line while it is read from left to right."""

    counters: dict[Kind, float] = field(default_factory=dict)
    totals: dict[Kind, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    scope: str = ""
    group: str = ""
    last: Kind | None = None  # the counter that the number before was
    name: str = ""  # of the value that the number before was
    unusable: bool = False  # a counter that counts nothing: no number, or one beyond any step
    nameless: tuple[float, float | None] | None = None  # a number without a name, and its total
    needs_total: bool = False  # it has a name of no use: a counter only with a total

    def counter(self, kind: Kind, value: float, total: float | None = None) -> None:
        """Note a counter; the first of a kind counts."""
        self.last = kind
        if not abs(value) < _values.MOST_STEPS:
            self.unusable = True
        elif kind not in self.counters:
            self.counters[kind] = value
            if total is not None:
                self.totals[kind] = total

    def value(self, name: str, number: Number) -> None:
        """Note a value; of equal names the last counts."""
        self.values[name] = number.value
        self.spans[name] = (number.start, number.end)


def record_of(clean: Clean, keys: Keys = NO_KEYS, *, prose: bool = False) -> Record | None:
    """The record of a line; one without values holds the counters of the lines below it. None for any other text.

    With `prose` a sentence that names a loss is a record, too.
    """
    text = clean.text
    if (bare := trainers.WITHOUT_NAMES.fullmatch(text)) is not None:
        return _without_names(clean, bare)
    rank = _RANK.search(text, 0, 80) or _RANK_LAST.search(text, max(0, len(text) - 24))
    shown = _blanked(text, rank.span() if rank else None)
    comma = has_decimal_comma(shown)
    reading = _Reading(scope="eval" if trainers.is_evaluation(text) else "")
    end = 0
    for match in NUMBER.finditer(shown):
        number = parse(match, decimal_comma=comma)
        gap = shown[max(end, number.start - names.LONGEST_GAP) : number.start]
        _take(reading, number, names.of_gap(gap), gap, keys)
        end = match.end()
    _end_of_nameless(reading)
    if reading.unusable:
        return None
    if (pair := trainers.epoch_and_batch(text)) is not None:
        reading.counters |= {Kind.EPOCH: pair[0], Kind.MICRO: pair[1]}
        reading.totals.clear()
    elif not reading.counters and (leads := _LEADS.match(text)) is not None:
        reading.counters[Kind.ITER] = float(leads[1])
    if trainers.only_evaluation(text):
        reading.values = {k: v for k, v in reading.values.items() if roles.role_of(k) is not Role.LOSS}
    found = Record(reading.values, reading.spans, reading.counters, reading.totals, clean=clean,
                   rank=int(rank[1]) if rank else None, scope=reading.scope)  # fmt: skip
    if not any(is_metric(name, keys) for name in found.values):
        found.values, found.spans = {}, {}
        return found if found.counters else None
    found_roles = {roles.role_of(name) for name in found.values}
    if Role.EVAL_LOSS in found_roles and not found_roles & {Role.LOSS, Role.GRAD_NORM}:
        for name in [name for name in found.values if roles.role_of(name) is Role.PERPLEXITY]:
            found.values[names.as_eval(name)] = found.values.pop(name)  # it is that of the evaluation
            found.spans[names.as_eval(name)] = found.spans.pop(name)
    named = prose or found.scope == "eval" or any(name in keys.all for name in found.values)
    return found if found.counters or named or _is_row(shown, found) else None


def _blanked(text: str, rank: Span | None) -> str:
    """The text with times and the rank as blanks."""
    if rank is not None:
        text = text[: rank[0]] + " " * (rank[1] - rank[0]) + text[rank[1] :]
    return _TIMES.sub(lambda match: " " * len(match[0]), text) if ":" in text or "-" in text else text


def _is_row(text: str, found: Record) -> bool:
    """Whether a line without a counter is a row, and no sentence that names a loss."""
    start = min(span[0] for span in found.spans.values())
    before = text[max(0, start - 200) : start].rstrip()
    return before[-1:] in (":", "=", '"', "'") and len(names._WORD.findall(before)) <= _ROW_WORDS


def _take(reading: _Reading, number: Number, gap: Gap, raw: str, keys: Keys) -> None:
    """One number with what stands before it."""
    if gap.group is not None:
        reading.group = gap.group
    if gap.scope:
        reading.scope = gap.scope
    if gap.join:
        _take_joined(reading, number, gap)
        return
    suffix = _SUFFIXES.get(number.suffix.lower()) if number.suffix else None
    if gap.kind is not None or (gap.name and gap.name in (keys.step,)):
        _end_of_nameless(reading)
        reading.counter(gap.kind or Kind.STEP, number.value)
        reading.name = ""
    elif suffix is not None:
        reading.counter(suffix, number.value)
        reading.nameless = None
    elif gap.name in names._SPLIT and "loss" not in reading.name.lower() and number.value == int_of(number.value):
        _end_of_nameless(reading)
        reading.nameless, reading.last, reading.name = (number.value, None), None, ""
        reading.needs_total = False
    elif gap.name and raw.rstrip()[-1:] in ("[", "(") and (gap.name in names._SPLIT or not _is_kept(gap.name, keys)):
        _end_of_nameless(reading)
        reading.nameless, reading.last, reading.name = (number.value, None), None, ""
        reading.needs_total = gap.name not in names._SPLIT
    elif gap.name:
        _end_of_nameless(reading)
        _take_value(reading, number, gap, keys)
    else:
        _end_of_nameless(reading)
        reading.nameless, reading.last, reading.name = (number.value, None), None, ""
        reading.needs_total = False


def _take_joined(reading: _Reading, number: Number, gap: Gap) -> None:
    """A number that goes with the one before it: `a/b`, `a (b)`, `[a][b]`, `a-b`."""
    suffix = _SUFFIXES.get(number.suffix.lower()) if number.suffix else None
    if gap.join == "total":
        if reading.nameless is not None:
            reading.nameless = (reading.nameless[0], number.value)
            if suffix is not None:
                reading.counter(suffix, *reading.nameless)
                reading.nameless = None
        elif reading.last is not None:
            reading.totals.setdefault(reading.last, number.value)
    elif gap.join == "inner" and reading.nameless is None:
        reading.nameless, reading.needs_total = (number.value, None), True
    elif gap.join in ("bracket", "inner"):
        if reading.nameless is not None:
            reading.counter(Kind.EPOCH, *reading.nameless)
        reading.nameless, reading.last, reading.name = (number.value, None), None, ""
        reading.needs_total = False
    elif gap.join == "range" and suffix is not None:
        reading.nameless = None
        reading.counter(suffix, number.value)


def _end_of_nameless(reading: _Reading) -> None:
    """A number without a name is a counter where it has a total, or stands behind the epoch in brackets."""
    if reading.nameless is None:
        return
    value, total = reading.nameless
    reading.nameless = None
    if total is not None or (Kind.EPOCH in reading.counters and not reading.needs_total):
        reading.counter(Kind.INDEX, value, total)


def _take_value(reading: _Reading, number: Number, gap: Gap, keys: Keys) -> None:
    name = gap.name
    reading.last = None
    if name in names._SPLIT:  # `loss train: 2.3, val: 2.4`
        if "loss" not in reading.name.lower():
            return
        name = f"{name}_loss"
    elif reading.group and name not in keys.all:
        name = f"{reading.group}/{name}"
    reading.name = name
    if not _is_kept(name, keys) or (number.suffix and number.suffix != "%"):
        return
    scope = gap.own or reading.scope
    if scope == "eval" and name not in keys.all and not _says_train(name):
        name = names.as_eval(name)
    if _is_kept(name, keys) or scope == "eval":
        reading.value(name, number)


def int_of(value: float) -> float:
    """The whole part of a number; of one that is not finite, nothing equal to it."""
    return float(int(value)) if abs(value) < _values.MOST_STEPS else math.nan


def _says_train(name: str) -> bool:
    return name.lower().startswith("train")


def _without_names(clean: Clean, match: re.Match[str]) -> Record | None:
    number = NUMBER.fullmatch(match[3])
    if number is None or float(match[1]) >= _values.MOST_STEPS:
        return None
    name = "loss" if match[2] == "train" else "val_loss"
    return Record({name: parse(number).value}, {name: match.span(3)}, {Kind.STEP: float(match[1])}, clean=clean)
