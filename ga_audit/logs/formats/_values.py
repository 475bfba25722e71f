"""Values as logs hold them -> values of one kind, or None: no reader trusts the type of what it was given.

A log may hold text where a number is due, null, an infinity, an integer of thousands of digits, or digits of another
script. Each function here takes anything and never raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MOST_STEPS = float(1 << 53)  # beyond, a number is no count of steps
_MOST = float(1 << 31)  # beyond, a number is no count of samples, devices or steps between two lines
_LONGEST = 10_000  # characters of a text that is kept


def number(value: Any) -> float | None:
    """A number, NaN and the infinities included, or the number that a text is; switches are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:  # an integer beyond the largest float
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def finite(value: Any) -> float | None:
    """A finite number, or None."""
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def step(value: Any) -> int | None:
    """An optimizer step: a finite number within 53 bits, cut to a whole one; thousands may have commas."""
    found = number(value.replace(",", "") if isinstance(value, str) else value)
    return int(found) if found is not None and abs(found) < MOST_STEPS else None


def count(value: Any) -> int | None:
    """How many of something: a number from 1 to 2^31, cut to a whole one; thousands may have commas."""
    found = number(value.replace(",", "") if isinstance(value, str) else value)
    return int(found) if found is not None and 1 <= found < _MOST else None


def text(value: Any) -> str | None:
    """A text, also as bytes of UTF-8; anything else is none."""
    if isinstance(value, bytes):
        value = value[:_LONGEST].decode("utf-8", "replace")
    return value[:_LONGEST] if isinstance(value, str) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """The entries of a mapping whose keys are texts, numbers or dates; none of anything else."""
    if not isinstance(value, Mapping):
        return {}
    return {name: inner for key, inner in value.items() if (name := _key(key)) is not None}


def _key(key: Any) -> str | None:
    try:
        return str(key)[:_LONGEST]
    except ValueError:  # an integer of thousands of digits
        return None
