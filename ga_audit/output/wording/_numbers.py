"""How numbers are written."""

from __future__ import annotations

import math
from collections.abc import Sequence

_MAX_NAMED = 4


def factor(value: float) -> str:
    """`8x`, and `1/8x` below 1."""
    return f"{value:g}x" if value >= 1 else f"1/{1 / value:g}x"


def exponent(value: float) -> str:
    """Three digits, and no minus zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def percent(value: float, below: float | None = None) -> str:
    """A share in whole percent; one that is less than `below` never reads as much."""
    if below is not None and value < below:
        return f"{min(round(100 * value), math.ceil(100 * below) - 1)}%"
    return f"{value:.0%}"


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def named(names: Sequence[str], at_most: int = _MAX_NAMED) -> str:
    """The first names, and ` ...` where there are more."""
    return ", ".join(names[:at_most]) + (" ..." if len(names) > at_most else "")


def capitalised(text: str) -> str:
    """With a capital first letter, unless the first word is an identifier."""
    return text if "_" in text.split(" ", 1)[0] else f"{text[:1].upper()}{text[1:]}"
