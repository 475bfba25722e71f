"""Numbers as people and trainers print them: 1.4M, 76,631, 8.30e-01, 2,31, nan."""

from __future__ import annotations

import re
from typing import NamedTuple

_SCALE = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
# digits, then what follows without a blank; no two parts of it can match the same text, so it takes linear time
NUMBER = re.compile(
    r"(?<![\w.])(?P<digits>[-+]?(?:\d{1,3}(?:,\d{3}){1,6}(?!\d|,\d)(?:\.\d+)?|\d+,\d+(?!\d|[,.]\d)|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
    r"|[-+]?(?:nan|inf(?:inity)?)(?![\w.]))(?P<suffix>%|[^\W\d_]+)?",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3}){1,6}(?:\.\d+)?")
_WITH_TEXT = re.compile(
    r"\s{0,20}(?:(?:np\.|numpy\.|torch\.|jnp\.)?(?:float\d*|bfloat16|int\d*|tensor|array|Array|DeviceArray)\(\s{0,20}\[?\s{0,20})?"
    r"[\"'*\s]{0,20}"
)


class Number(NamedTuple):
    """A number of a text."""

    value: float
    start: int
    end: int
    suffix: str  # letters that follow it; a scale (1.4M) is part of the number


def parse(match: re.Match[str], *, decimal_comma: bool = False) -> Number:
    """The number of a match of `NUMBER`."""
    digits, suffix = match["digits"], match["suffix"] or ""
    if "," in digits:
        thousands = _THOUSANDS.fullmatch(digits) is not None and not decimal_comma
        digits = digits.replace(",", "" if thousands else ".")
    value = float(digits)
    end = match.end("digits")
    if suffix in _SCALE:
        return Number(value * _SCALE[suffix], match.start(), match.end(), "")
    return Number(value, match.start(), end, suffix)


def has_decimal_comma(text: str) -> bool:
    """Whether a line writes its fractions with a comma: some number can be read in no other way, and none has a point."""
    if "," not in text:
        return False
    found = False
    for match in NUMBER.finditer(text):
        digits = match["digits"]
        if "." in digits and "," not in digits:
            return False
        if "," in digits and not _THOUSANDS.fullmatch(digits):
            found = True
    return found


def value_at(text: str, at: int) -> Number | None:
    """The number that a value is, from an index on: also as text, in bold, in tensor(..) or np.float64(..)."""
    begin = _WITH_TEXT.match(text, at)
    match = NUMBER.match(text, begin.end() if begin else at)
    if match is None:
        return None
    found = parse(match)
    return found if not found.suffix else None
