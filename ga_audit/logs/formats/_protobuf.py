"""The wire format of protocol buffers, as far as two log formats need it: no schema, no import of their packages."""

from __future__ import annotations

from collections.abc import Iterator

Value = int | bytes


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(field number, value) of a message: varints as int, fixed 32/64 and length-delimited ones as bytes.

    Raises
    ------
    ValueError
        not a message, or cut off.

    References
    ----------
    https://protobuf.dev/programming-guides/encoding/
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > end:
            raise ValueError("cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("cut off in a varint")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def signed(value: int) -> int:
    """An int64 field: the varint of a negative number is its two's complement."""
    return value - (1 << 64) if value >= 1 << 63 else value


def size_of_first(data: bytes) -> int:
    """Bytes that the first field of a whole message takes, its key included."""
    at = 0
    while data[at] >= 0x80:
        at += 1
    kind, at = data[0] & 7, at + 1
    if kind == 0:
        while data[at] >= 0x80:
            at += 1
        return at + 1
    if kind == 2:
        size, shift = 0, 0
        while True:
            byte = data[at]
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return at + size
    return at + (8 if kind == 1 else 4)


def delimited(number: int, data: bytes) -> bytes:
    """A field of a text, bytes or a message."""
    return _encoded(number << 3 | 2) + _encoded(len(data)) + data


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
