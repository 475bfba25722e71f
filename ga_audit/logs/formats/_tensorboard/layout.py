"""The decode of one TensorBoard event to a layout: which bytes are the step, the tags, the values.

A layout also holds which bytes the decode did not look at. Any record that equals it in all others has
the same layout, so many records are decoded by column views of an array that holds one record per row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ga_audit.run import FloatArray, IntArray

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
Span = tuple[int, int]

# TensorProto: DataType -> how numpy reads its tensor_content; bfloat16 has no numpy type
BFLOAT16 = "bfloat16"
_CONTENT = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 14: BFLOAT16, 17: "<u2", 19: "<f2",
    22: "<u4", 23: "<u8",
}  # fmt: skip
# DataType -> the field of its values, where they are not in tensor_content
_LIST = {1: 5, 2: 6, 3: 7, 4: 7, 5: 7, 6: 7, 9: 10, 14: 13, 17: 7, 19: 13, 22: 16, 23: 17}
_FLOAT, _DOUBLE, _STRING = 1, 2, 7
_CONTENT_FIELD, _STRING_VAL = 4, 8


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a summary, by its bytes in the payload."""

    whole: Span  # the Summary.Value message
    tag: Span = (0, 0)
    number: Span | None = None  # the bytes of a scalar
    dtype: str = ""  # of the number
    varint: bool = False  # whether the number is a varint
    text: Span | None = None  # a tensor of one string


@dataclass(slots=True)
class _Decode:
    """A payload that is being decoded, and the bytes that no decision depends on."""

    data: bytes
    skipped: list[Span] = field(default_factory=list)
    varints: list[Span] = field(default_factory=list)

    def skip(self, kind: int, start: int, stop: int) -> None:
        (self.varints if kind == VARINT else self.skipped).append((start, stop))


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the parts of an event are, and which of its bytes are free."""

    payload: bytes  # the record that was decoded
    wall: int | None
    step: Span | None
    values: tuple[Value, ...]
    skipped: list[Span]
    varints: list[Span]

    @property
    def words(self) -> int:
        """Words of eight bytes that hold the payload and its CRC."""
        return (len(self.payload) + 11) // 8

    @cached_property
    def template(self) -> U64:
        """The payload (words,), padded with zeros."""
        return np.frombuffer(self.payload.ljust(8 * self.words, b"\0"), "<u8")

    @cached_property
    def tag_mask(self) -> U64:
        """Bits of the tags (words,)."""
        mask = np.zeros(8 * self.words, np.uint8)
        for value in self.values:
            mask[slice(*value.tag)] = 0xFF
        return mask.view("<u8")

    @cached_property
    def fixed_mask(self) -> U64:
        """Bits that records of this layout share (words,): all that the decode looked at but the tags."""
        mask = np.zeros(8 * self.words, np.uint8)
        mask[: len(self.payload)] = 0xFF
        for span in self.skipped:
            mask[slice(*span)] = 0
        for span in self.varints:
            mask[slice(*span)] = 0x80
        return mask.view("<u8") & ~self.tag_mask

    def steps(self, rows: U8) -> IntArray:
        """Steps (n,) of records (n, bytes)."""
        if self.step is None:
            return np.zeros(len(rows), np.int64)
        return _varints(rows, self.step).view(np.int64)

    def walls(self, rows: U8) -> FloatArray:
        """Wall times (n,) of records (n, bytes)."""
        if self.wall is None:
            return np.zeros(len(rows))
        return _column(rows, self.wall, "<f8").astype(np.float64)


def numbers(value: Value, rows: U8) -> FloatArray:
    """The scalars (n,) that a value holds in records (n, bytes)."""
    assert value.number is not None
    with np.errstate(invalid="ignore"):  # signalling NaN
        if not value.varint:
            dtype = "<u2" if value.dtype == BFLOAT16 else value.dtype
            found = _column(rows, value.number[0], dtype)
        else:
            bits = _varints(rows, value.number)
            if value.dtype in ("<f2", BFLOAT16):
                found = bits.astype("<u2").view("<u2" if value.dtype == BFLOAT16 else "<f2")
            else:
                found = bits if value.dtype[1] == "u" else bits.view(np.int64)
        if value.dtype == BFLOAT16:  # the upper half of a float32
            found = (found.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return found.astype(np.float64)


def _column(rows: U8, at: int, dtype: str) -> NDArray[Any]:
    return np.ndarray((len(rows),), dtype, rows, at, (rows.strides[0],))


def _varints(rows: U8, span: Span) -> U64:
    total = (rows[:, span[0]] & np.uint8(0x7F)).astype(np.uint64)
    for i in range(1, span[1] - span[0]):
        total |= (rows[:, span[0] + i] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * i)
    return total


def decode(payload: bytes) -> Layout:
    """Decode an Event: wall_time = 1, step = 2, summary = 5; Summary: value = 1.

    Raises
    ------
    ValueError
        not a message, or cut off.
    """
    d = _Decode(payload)
    wall, step = None, None
    values: list[Value] = []
    for number, kind, start, stop in spans(payload, 0, len(payload)):
        if number == 5 and kind == DELIMITED:
            for inner, inner_kind, a, b in spans(payload, start, stop):
                if inner == 1 and inner_kind == DELIMITED:
                    values.append(_value(d, a, b))
                else:
                    d.skip(inner_kind, a, b)
            continue
        if number == 2 and kind == VARINT:
            step = (start, stop)
        elif number == 1 and kind == FIXED64:
            wall = start
        d.skip(kind, start, stop)
    return Layout(payload, wall, step, tuple(values), d.skipped, d.varints)


def _value(d: _Decode, begin: int, end: int) -> Value:
    """Summary.Value: tag = 1; one of simple_value = 2, other media = 3 to 6, tensor = 8."""
    tag, found = (0, 0), Value((begin, end))
    for number, kind, start, stop in spans(d.data, begin, end):
        if number == 1 and kind == DELIMITED:
            tag = (start, stop)
            continue
        if number == 8 and kind == DELIMITED:
            found = _tensor(d, start, stop)
            continue
        if number == 2 and kind == FIXED32:
            found = Value((begin, end), number=(start, stop), dtype="<f4")
        elif 3 <= number <= 6 and kind == DELIMITED:
            found = Value((begin, end))
        d.skip(kind, start, stop)
    return Value((begin, end), tag, found.number, found.dtype, found.varint, found.text)


def _tensor(d: _Decode, begin: int, end: int) -> Value:
    """TensorProto: dtype = 1, tensor_shape = 2, tensor_content = 4, then lists of values by type."""
    kind, size = 0, 1
    content: Span | None = None
    lists: list[tuple[int, int, Span]] = []
    for number, wire, start, stop in spans(d.data, begin, end):
        if number == 1 and wire == VARINT:
            kind = _varint(d.data, start, end)[0]
        elif number == 2 and wire == DELIMITED:
            size = _elements(d.data, start, stop)
        else:
            if number == _CONTENT_FIELD and wire == DELIMITED and stop > start:
                content = (start, stop)
            lists.append((number, wire, (start, stop)))
    if kind == _STRING:
        texts = [span for number, wire, span in lists if number == _STRING_VAL and wire == DELIMITED]
        found = Value((0, 0), text=texts[0] if len(texts) == 1 else None)
    elif size != 1 or kind not in _CONTENT:
        found = Value((0, 0))
    elif content is not None:
        width = 2 if _CONTENT[kind] == BFLOAT16 else np.dtype(_CONTENT[kind]).itemsize
        fits = content[1] - content[0] == width
        found = Value((0, 0), number=content if fits else None, dtype=_CONTENT[kind])
    else:
        found = _listed(d, kind, [(wire, span) for number, wire, span in lists if number == _LIST[kind]])
    packed = _LIST[kind] if kind in _LIST and kind not in (_FLOAT, _DOUBLE) else None
    for number, wire, span in lists:  # a packed list has as many values as clear top bits
        d.skip(VARINT if number == packed and wire == DELIMITED else wire, *span)
    return found


def _listed(d: _Decode, kind: int, lists: list[tuple[int, Span]]) -> Value:
    """The one value of a repeated field, packed or not."""
    nothing = Value((0, 0))
    lists = [(wire, span) for wire, span in lists if span[1] > span[0]]  # an empty packed list has no value
    if len(lists) != 1:
        return nothing
    wire, span = lists[0]
    if kind in (_FLOAT, _DOUBLE):
        fits = wire in (DELIMITED, FIXED32 if kind == _FLOAT else FIXED64) and span[1] - span[0] == 4 * kind
        return Value((0, 0), number=span, dtype=_CONTENT[kind]) if fits else nothing
    if wire not in (VARINT, DELIMITED) or any(b < 0x80 for b in d.data[span[0] : span[1] - 1]):
        return nothing  # several values
    if wire == DELIMITED and _varint(d.data, *span)[1] != span[1]:
        return nothing
    return Value((0, 0), number=span, dtype=_CONTENT[kind], varint=True)


def _elements(data: bytes, begin: int, end: int) -> int:
    """Number of elements by a TensorShapeProto: dim = 2, of size = 1."""
    total = 1
    for number, wire, start, stop in spans(data, begin, end):
        if number == 2 and wire == DELIMITED:
            size = 0
            for inner, inner_wire, a, b in spans(data, start, stop):
                if inner == 1 and inner_wire == VARINT:
                    size = _varint(data, a, b)[0]
            total *= size
    return total


def spans(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, stop) of the values in a message.

    Raises
    ------
    ValueError
        not a message, or cut off.
    """
    while at < end:
        key = data[at]
        at += 1
        if key >= 0x80:
            key, at = _varint(data, at - 1, end)
        kind = key & 7
        start = at
        if kind == DELIMITED:
            if at < end and data[at] < 0x80:
                size, start = data[at], at + 1
            else:
                size, start = _varint(data, at, end)
            at = start + size
        elif kind == VARINT:
            at = _varint(data, at, end)[1]
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("cut off")
        yield key >> 3, kind, start, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= end or shift > 63:
            raise ValueError("cut off in a varint")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
