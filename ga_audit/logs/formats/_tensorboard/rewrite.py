"""Event files with corrected values: every other record byte for byte as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ga_audit.logs.formats import Rescale, Rewrite
from ga_audit.logs.formats._protobuf import delimited, head
from ga_audit.logs.formats._tensorboard.crc import U8, contribution, mask, masked_crc, unmask
from ga_audit.logs.formats._tensorboard.event import PROVENANCE_TAG, tensor_head
from ga_audit.logs.formats._tensorboard.groups import Faults, Group, groups
from ga_audit.logs.formats._tensorboard.layout import DELIMITED, Layout, Span, Value, decode, numbers, spans
from ga_audit.logs.formats._tensorboard.tfrecord import Chunk, Chunks, frame
from ga_audit.run import IntArray

_IN_PLACE = ("<f4", "<f8")  # types that hold a corrected value in the bytes of the logged one
_Change = tuple[int, int, bytes]  # bytes from, to and what takes their place
_Part = U8  # columns of payloads: (n, size), or (1, size) where all have the same


def rewritten(files: Sequence[Path], rewrite: Rewrite, destination: Path) -> list[Path]:
    """Corrected copies of event files: records that hold no rescaled tag are copied byte for byte."""
    written = []
    noted = False  # once, after the first good record of any file
    for file in files:
        path = destination / file.name
        with file.open("rb", buffering=0) as source, path.open("wb") as copy:
            noted = _copy(source, copy, rewrite, noted)
        written.append(path)
    return written


def _copy(source: BinaryIO, copy: BinaryIO, rewrite: Rewrite, noted: bool) -> bool:
    """Copy one file; whether the note of what was done is written."""
    layouts: dict[int, list[Layout]] = {}
    for chunk in Chunks().of(source):
        changes = []
        if not noted and (first := _first_good(chunk)) is not None:
            end, layout = first
            changes.append((end, end, frame(_provenance_event(layout, rewrite))))
            noted = True
        for group in groups(chunk.data, chunk.frames, layouts, Faults()):
            changes += _corrected(chunk.data, group, rewrite)
        at, view = 0, memoryview(chunk.data)
        for start, end, new in sorted(changes):
            copy.write(view[at:start])  # what cannot be read is passed on as it is
            copy.write(new)
            at = end
        copy.write(view[at : chunk.have if chunk.last else chunk.frames.stop])
    return noted


def _first_good(chunk: Chunk) -> tuple[int, Layout] | None:
    """Where the first record that is an event ends, and its layout."""
    for start, length in zip(chunk.frames.start.tolist(), chunk.frames.length.tolist(), strict=True):
        end = start + 12 + length
        payload = bytes(chunk.data[start + 12 : end])
        if masked_crc(payload) == int.from_bytes(chunk.data[end : end + 4], "little"):
            try:
                return end + 4, decode(payload)
            except ValueError:
                continue
    return None


def _corrected(data: bytearray, group: Group, rewrite: Rewrite) -> Iterator[_Change]:
    """Correct a group in place where sizes stay; the changes of records that grow or shrink."""
    for members, tags in group.members():
        pairs = zip(group.layout.values, tags, strict=True)
        rescales = {v: r for v, tag in pairs if v.number and (r := rewrite.for_name(tag))}
        if not rescales or not len(members):
            continue
        records = Group(group.layout, group.start[members], group.rows[members], None, [tags])
        if rewrite.include_original or any(v.varint or v.dtype not in _IN_PLACE for v in rescales):
            yield from _resized(records, rescales, rewrite.include_original)
            continue
        for value, rescale in rescales.items():
            _correct_in_place(data, records.layout, value, rescale, records.rows, records.start)


def _correct_in_place(
    data: bytearray, layout: Layout, value: Value, rescale: Rescale, rows: U8, start: IntArray
) -> None:
    """Write corrected numbers and the CRCs that they lead to."""
    assert value.number is not None
    at, size = value.number[0], len(layout.payload)
    new = _rescaled(rescale, layout, value, rows, value.dtype)
    difference = np.ascontiguousarray(rows[:, slice(*value.number)]) ^ _bytes(new)
    stored = np.ndarray((len(data) - 3,), "<u4", data, 0, (1,))
    crc = unmask(stored[start + size]) ^ contribution(difference, range(difference.shape[1]), size - at)
    stored[start + size] = mask(crc)
    np.ndarray((len(data) - 7,), value.dtype, data, 0, (1,))[start + at] = new


def _rescaled(rescale: Rescale, layout: Layout, value: Value, rows: U8, dtype: str) -> NDArray[Any]:
    with np.errstate(all="ignore"):  # beyond single precision is infinite
        return rescale.apply(layout.steps(rows), numbers(value, rows)).astype(dtype)


def _resized(group: Group, rescales: Mapping[Value, Rescale], originals: bool) -> Iterator[_Change]:
    """The records of a group whose values are written anew."""
    layout, rows = group.layout, group.rows
    parts: list[_Part] = []
    at = 0
    for number, kind, start, stop in spans(layout.payload, 0, len(layout.payload)):
        if number == 5 and kind == DELIMITED:
            parts += _delimited(5, _summary(layout, rows, (start, stop), rescales, originals))
        else:
            parts.append(rows[:, at:stop])
        at = stop
    payloads = np.concatenate([np.broadcast_to(p, (len(rows), p.shape[1])) for p in parts], axis=1)
    for start, payload in zip(group.start.tolist(), payloads, strict=True):
        yield start - 12, start + len(layout.payload) + 4, frame(payload.tobytes())


def _summary(layout: Layout, rows: U8, span: Span, rescales: Mapping[Value, Rescale], originals: bool) -> list[_Part]:
    values = {value.whole: value for value in rescales}
    parts: list[_Part] = []
    at = span[0]
    for _, _, start, stop in spans(layout.payload, *span):
        value = values.get((start, stop))
        if value is None:
            parts.append(rows[:, at:stop])
        else:
            logged, corrected = _value(layout, rows, value, rescales[value])
            parts += (_delimited(1, logged) if originals else []) + _delimited(1, corrected)
        at = stop
    return parts


def _value(layout: Layout, rows: U8, value: Value, rescale: Rescale) -> tuple[list[_Part], list[_Part]]:
    """The logged value under the name `original/...`, and the corrected one."""
    assert value.number is not None
    double = value.dtype == "<f8"
    number = _bytes(_rescaled(rescale, layout, value, rows, "<f8" if double else "<f4"))
    logged: list[_Part] = []
    corrected: list[_Part] = []
    at = value.whole[0]
    for field, kind, start, stop in spans(layout.payload, *value.whole):
        raw = rows[:, at:stop]
        if (field, kind) == (1, DELIMITED):
            logged += _delimited(1, [_constant(b"original/"), rows[:, start:stop]])
        else:
            logged.append(raw)
        if (start, stop) == value.number:
            corrected += [_constant(b"\x15"), number]
        elif field == 8 and kind == DELIMITED and start <= value.number[0] < stop:
            corrected += _delimited(8, [_constant(tensor_head(double=double)), number])
        else:
            corrected.append(raw)
        at = stop
    return logged, corrected


def _delimited(number: int, parts: list[_Part]) -> list[_Part]:
    return [_constant(head(number, sum(part.shape[1] for part in parts))), *parts]


def _constant(data: bytes) -> _Part:
    return np.frombuffer(data, np.uint8).reshape(1, -1)


def _bytes(numbers: NDArray[Any]) -> U8:
    """The bytes (n, size) of numbers (n,)."""
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(len(numbers), -1)


def _provenance_event(first: Layout, rewrite: Rewrite) -> bytes:
    """A text summary at step 0 with the wall time of the file's first event."""
    at = first.wall
    wall = bytes(8) if at is None else first.payload[at : at + 8]
    text = json.dumps(dict(rewrite.provenance)).encode()
    tensor = b"\x08\x07" + delimited(2, delimited(2, b"\x08\x01")) + delimited(8, text)
    metadata = delimited(1, delimited(1, b"text"))
    value = delimited(1, PROVENANCE_TAG.encode()) + delimited(9, metadata) + delimited(8, tensor)
    return b"\x09" + wall + delimited(5, delimited(1, value))
