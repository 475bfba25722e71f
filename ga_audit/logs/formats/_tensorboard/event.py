"""Parts of a TensorBoard event that reading and rewriting share: the shape of a scalar's bytes, and tensors of one number."""

from __future__ import annotations

import struct

import numpy as np

from ga_audit.logs.formats._protobuf import delimited, fields, signed

PROVENANCE_TAG = "ga_audit/text_summary"
FLOAT = struct.Struct("<f")
_DT_FLOAT, _DT_DOUBLE, _DT_INT32, _DT_INT64, _DT_STRING = 1, 2, 3, 9, 7


def tag_of_shape(key: bytes) -> str | None:
    """The tag, where the bytes are those of a summary with one tag and one simple value, whose four bytes follow."""
    try:
        (number, summary), *more = fields(key + bytes(4))
        if number != 5 or more or not isinstance(summary, bytes):
            return None
        (number, value), *more = fields(summary)
        if number != 1 or more or not isinstance(value, bytes):
            return None
        (first, tag), (second, simple) = fields(value)
    except ValueError:
        return None
    if first != 1 or second != 2 or not isinstance(tag, bytes) or simple != bytes(4):
        return None
    return tag.decode("utf-8", "replace")


def tensor_value(data: bytes) -> float | str | None:
    """A TensorProto of one number or one text; None for anything larger."""
    kind, sizes, numbers, texts, raw = 0, [], [], [], b""
    for number, value in fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            sizes = [signed(v) for n, dim in fields(value) if n == 2 and isinstance(dim, bytes)
                     for m, v in fields(dim) if m == 1 and isinstance(v, int)]  # fmt: skip
        elif number == 4 and isinstance(value, bytes):
            raw = value
        elif number == 8 and isinstance(value, bytes):
            texts.append(value.decode("utf-8", "replace"))
        elif number in (5, 6) and isinstance(value, bytes):
            numbers += [float(x) for x in np.frombuffer(value[: len(value) // 4 * 4 if number == 5 else len(value) // 8 * 8],
                                                        "<f4" if number == 5 else "<f8")]  # fmt: skip
    if kind == _DT_STRING:
        return texts[0] if len(texts) == 1 else None
    if int(np.prod(sizes or [1])) != 1:
        return None
    if raw:
        types = {_DT_FLOAT: "<f4", _DT_DOUBLE: "<f8", _DT_INT32: "<i4", _DT_INT64: "<i8"}
        if kind in types and len(raw) == np.dtype(types[kind]).itemsize:
            return float(np.frombuffer(raw, types[kind])[0])
        return None
    return numbers[0] if len(numbers) == 1 else None


def is_double(tensor: bytes) -> bool:
    """Whether a TensorProto holds float64."""
    return any(number == 1 and value == _DT_DOUBLE for number, value in fields(tensor))


def scalar_tensor(number: float, *, double: bool) -> bytes:
    """A TensorProto of rank 0: dtype, an empty shape, float_val or double_val."""
    if double:
        return b"\x08\x02\x12\x00" + delimited(6, struct.pack("<d", number))
    return b"\x08\x01\x12\x00" + delimited(5, struct.pack("<f", number))
