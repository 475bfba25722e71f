"""Dicts and JSON objects in a text -> records: several in a line, wrapped over lines, without a closing brace.

Nothing is evaluated. A dict is read as pairs of a quoted name and a value, so that `tensor(0.9)`, `np.float64(0.3)`,
`null` and a value in bold do not stand in the way of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ga_audit.logs import roles
from ga_audit.logs.formats._text.names import Kind
from ga_audit.logs.formats._text.numbers import value_at
from ga_audit.logs.formats._text.pairs import NO_KEYS, Keys, is_metric
from ga_audit.logs.formats._text.pieces import Clean
from ga_audit.logs.formats._text.record import Record
from ga_audit.run import Role

_DICT = re.compile(r"\{[^{}]*")
_NAME = re.compile(r"""(?<![\w'"])(['"])([^'"\n]{1,120})\1\s{0,30}:\s{0,30}""")
_TEXT = re.compile(r"""["']([^"'\n]{0,80})["']""")
_STEPS = ("step", "global_step", "num_updates", "train/global_step", "trainer/global_step", "current_steps", "optimizer_step",
          "_step", "iteration", "iter", "update", "steps")  # fmt: skip
_COUNTERS = {name: Kind.ITER if name in ("iteration", "iter") else Kind.STEP for name in _STEPS}
_FRACTION = "global_step/max_steps"  # ms-swift: "1/2046"


def records_of(clean: Clean, keys: Keys = NO_KEYS) -> Iterator[Record]:
    """The records of all dicts of a text, in their order."""
    text = clean.text
    for match in _DICT.finditer(text):
        if "'" in match[0] or '"' in match[0]:
            found = _record(clean, match.start(), match.end(), keys)
            if found is not None:
                yield found


def _record(clean: Clean, start: int, end: int, keys: Keys) -> Record | None:
    found = Record({}, {}, clean=clean)
    text = clean.text
    at = start + 1
    while (match := _NAME.search(text, at, end)) is not None:
        at = match.end()
        name = match[2].strip()
        number = value_at(text, at)
        if number is not None and number.end <= end:
            found.values[name] = number.value
            found.spans[name] = (number.start, number.end)
            at = number.end
        elif (quoted := _TEXT.match(text, at, end)) is not None:
            found.texts[name] = quoted[1]
            at = quoted.end()
    if not _is_row(found, keys):
        return None
    _take_counters(found, keys)
    found.closing = "train_runtime" in found.values
    if str(found.texts.get("mode", "train")).lower() in ("val", "valid", "eval", "test"):
        for name in [name for name in found.values if roles.role_of(name) in (Role.LOSS, Role.GRAD_NORM)]:
            found.values[f"val_{name}"] = found.values.pop(name)
            found.spans[f"val_{name}"] = found.spans.pop(name)
    return found


def _is_row(found: Record, keys: Keys) -> bool:
    """Whether a dict is a row of a log: a configuration has a learning rate too."""
    names = found.values
    if any(is_metric(name, keys) for name in names):
        return True
    return "epoch" in names and any(roles.role_of(name) is not None for name in names if name != "epoch")


def _take_counters(found: Record, keys: Keys) -> None:
    """The step of the dict leaves its values; its epoch is both."""
    values = found.values
    names = (keys.step, *_STEPS) if keys.step else _STEPS
    for name in names:
        if name in values:
            kind = Kind.STEP if name == keys.step else _COUNTERS[name]
            value = values.pop(name)
            found.spans.pop(name, None)
            if kind not in found.counters and (name != "update" or value == int(value)):
                found.counters[kind] = value
    if (fraction := found.texts.get(_FRACTION)) is not None:
        done, _, total = fraction.partition("/")
        if done.strip().isdigit():
            found.counters[Kind.STEP] = float(done)
        if total.strip().isdigit():
            found.totals[Kind.STEP] = float(total)
    if "epoch" in values:
        found.counters[Kind.EPOCH] = values["epoch"]
