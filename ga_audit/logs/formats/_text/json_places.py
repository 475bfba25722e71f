"""Where the values of JSON objects lie in their text, so that some are replaced and all else stays byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ga_audit.logs.formats._text import places as value_places
from ga_audit.logs.formats._values import number as number_of

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
ORIGINAL = "original/"


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object and the places of its values; of a key that comes twice the last counts, as for `json`."""

    values: Mapping[str, Any]
    spans: Mapping[str, tuple[int, int]]
    end: int  # index of the closing brace

    def number_span(self, text: str, name: str) -> tuple[int, int] | None:
        """The place of a number, quotes left out; None where the text there is not that number."""
        start, end = self.spans[name]
        if text[start] == '"':
            start, end = start + 1, end - 1
        number, value = number_of(text[start:end]), number_of(self.values[name])
        return (start, end) if number == value or number != number else None


def object_at(text: str, at: int) -> JsonObject:
    """The object whose opening brace is at an index of text that is known to be valid JSON."""
    values: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)  # past the colon
        values[key], end = _DECODER.raw_decode(text, start)
        spans[key] = (start, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return JsonObject(values, spans, at)


def objects_in_list(text: str, at: int) -> Iterator[JsonObject]:
    """The objects of the list whose opening bracket is at an index; what else it holds is passed over."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        if text[at] == "{":
            found = object_at(text, at)
            yield found
            end = found.end + 1
        else:
            _, end = _DECODER.raw_decode(text, at)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def objects_in_lines(text: str) -> Iterator[JsonObject]:
    """The objects that fill a line each; other lines are passed over."""
    for match in re.finditer(r"[^\r\n]+", text):
        line = match[0].strip("\ufeff\x00 \t")
        try:
            if isinstance(json.loads(line), dict):
                yield object_at(text, match.start() + match[0].index("{"))
        except (ValueError, RecursionError):
            continue


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def edits(text: str, made: Sequence[value_places.Correction], *, include_original: bool) -> list[value_places.Edit]:
    """The edits that put corrected numbers in place: a number in full, a number as text in the style of that text."""
    found: list[value_places.Edit] = []
    for correction in made:
        start, end = correction.span
        quoted = text[start - 1] == '"'
        old = text[start:end]
        found.append(
            (start, end, value_places.text_like(old, correction.number) if quoted else repr(correction.number))
        )
        if include_original:
            after, quote = (end + 1, '"') if quoted else (end, "")
            name = json.dumps(f"{ORIGINAL}{correction.place.key}")
            found.append((after, after, f", {name}: {quote}{old}{quote}"))
    return found


def added_member(text: str, where: JsonObject, name: str, value: object) -> value_places.Edit:
    """The edit that adds a member at the end of an object that is not empty, on a line of its own if its others are."""
    last = max(end for _, end in where.spans.values())
    separator = "\n  " if "\n" in text[last : where.end] else " "
    return (last, last, f",{separator}{json.dumps(name)}: {json.dumps(value)}")
