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


def delimited(number: int, data: bytes) -> bytes:
    """A field of a text, bytes or a message."""
    return head(number, len(data)) + data


def head(number: int, size: int) -> bytes:
    """What stands before `size` bytes of a text, bytes or a message."""
    return _encoded(number << 3 | 2) + _encoded(size)


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
