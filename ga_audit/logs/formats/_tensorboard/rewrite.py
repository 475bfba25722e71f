"""Event files with corrected values: every other record byte for byte as it was."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from ga_audit.logs.formats import Rescale, Rewrite
from ga_audit.logs.formats._protobuf import delimited, fields, signed, size_of_first
from ga_audit.logs.formats._tensorboard.event import (
    FLOAT,
    PROVENANCE_TAG,
    is_double,
    scalar_tensor,
    tag_of_shape,
    tensor_value,
)
from ga_audit.logs.formats._tensorboard.tfrecord import Damage, frame, mapped, records


def rewritten(files: Sequence[Path], rewrite: Rewrite, destination: Path) -> list[Path]:
    """Corrected copies of event files: records that hold no rescaled tag are copied byte for byte."""
    written = []
    told = False  # once, after the first good record of any file
    for file in files:
        path = destination / file.name
        damage = Damage()
        with mapped(file) as data, path.open("wb") as f:
            at = 0
            known: dict[bytes, Rescale | None] = {}
            for start, end, payload in records(data, damage):
                f.write(data[at:start])  # what cannot be read is passed on as it is
                try:
                    new = _corrected_known(payload, rewrite, known)
                except ValueError:  # no event after all: passed on as it is
                    new = None
                f.write(data[start:end] if new is None else frame(new))
                at = end
                if not told:
                    f.write(frame(_provenance_event(payload, rewrite)))
                    told = True
            f.write(data[at:])
        written.append(path)
    return written


def _corrected_known(payload: bytes, rewrite: Rewrite, known: dict[bytes, Rescale | None]) -> bytes | None:
    """As `_corrected`, faster for events of one simple value: only their last four bytes change."""
    if rewrite.include_original or len(payload) < 20 or payload[0] != 0x09 or payload[9] != 0x10:
        return _corrected(payload, rewrite)
    at = 10
    while payload[at] >= 0x80 and at < len(payload) - 5:
        at += 1
    key = payload[at + 1 : -4]
    if key not in known:
        tag = tag_of_shape(key)
        if tag is None:
            return _corrected(payload, rewrite)
        known[key] = rewrite.for_name(tag)
    rescale = known[key]
    if rescale is None:
        return None
    step = 0
    for i, byte in enumerate(payload[10 : at + 1]):
        step |= (byte & 0x7F) << (7 * i)
    corrected = rescale.at(step, FLOAT.unpack_from(payload, len(payload) - 4)[0])
    return payload[:-4] + FLOAT.pack(corrected)


def _corrected(payload: bytes, rewrite: Rewrite) -> bytes | None:
    """The event with its rescaled values, or None where it has none."""
    tags = [r.name.encode() for r in rewrite.rescales]
    if not any(tag in payload for tag in tags):
        return None
    step, changed = 0, False
    for number, value in fields(payload):
        if number == 2 and isinstance(value, int):
            step = signed(value)
    out = bytearray()
    for number, value, raw in _raw_fields(payload):
        if number == 5 and isinstance(value, bytes):
            summary = bytearray()
            for n, inner, inner_raw in _raw_fields(value):
                new = _corrected_value(inner, step, rewrite) if n == 1 and isinstance(inner, bytes) else None
                if new is None:
                    summary += inner_raw
                    continue
                changed = True
                if rewrite.include_original and isinstance(inner, bytes):
                    summary += delimited(1, _renamed(inner))
                summary += delimited(1, new)
            out += delimited(5, bytes(summary))
        else:
            out += raw
    return bytes(out) if changed else None


def _corrected_value(data: bytes, step: int, rewrite: Rewrite) -> bytes | None:
    tag = next((v.decode("utf-8", "replace") for n, v in fields(data) if n == 1 and isinstance(v, bytes)), "")
    rescale = rewrite.for_name(tag)
    if rescale is None:
        return None
    out = bytearray()
    for number, value, raw in _raw_fields(data):
        if number == 2 and isinstance(value, bytes) and len(value) == 4:
            logged = struct.unpack("<f", value)[0]
            out += b"\x15" + struct.pack("<f", rescale.at(step, logged))
        elif number == 8 and isinstance(value, bytes) and isinstance(scalar := tensor_value(value), float):
            out += delimited(8, scalar_tensor(rescale.at(step, scalar), double=is_double(value)))
        else:
            out += raw
    return bytes(out)


def _renamed(data: bytes) -> bytes:
    out = bytearray()
    for number, value, raw in _raw_fields(data):
        out += delimited(1, b"original/" + value) if number == 1 and isinstance(value, bytes) else raw
    return bytes(out)


def _raw_fields(data: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Fields with the bytes that encode them."""
    rest = data
    for number, value in fields(data):
        size = size_of_first(rest)
        yield number, value, rest[:size]
        rest = rest[size:]


def _provenance_event(first: bytes, rewrite: Rewrite) -> bytes:
    """A text summary at step 0 with the wall time of the file's first event."""
    wall = next((v for n, v in fields(first) if n == 1 and isinstance(v, bytes)), bytes(8))
    text = json.dumps(dict(rewrite.provenance)).encode()
    tensor = b"\x08\x07" + delimited(2, delimited(2, b"\x08\x01")) + delimited(8, text)
    metadata = delimited(1, delimited(1, b"text"))
    value = delimited(1, PROVENANCE_TAG.encode()) + delimited(9, metadata) + delimited(8, tensor)
    return b"\x09" + wall + delimited(5, delimited(1, value))
