"""Event files with corrected values: every other record byte for byte as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ga_audit.formats import Rescale, Rewrite
from ga_audit.formats._event import PROVENANCE_TAG, scalar_tensor
from ga_audit.formats._protobuf import delimited
from ga_audit.formats._tb_crc import U8, contribution, mask, masked_crc, unmask
from ga_audit.formats._tb_groups import Faults, Group, groups
from ga_audit.formats._tb_layout import DELIMITED, Layout, Value, decode, numbers, spans
from ga_audit.formats._tfrecord import Chunk, Chunks, frame
from ga_audit.run import FloatArray, IntArray

_IN_PLACE = ("<f4", "<f8")  # types that hold a corrected value in the bytes of the logged one
_Change = tuple[int, int, bytes]  # bytes from, to and what takes their place


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
    whole: dict[int, Layout] = {}
    for i, value in enumerate(group.layout.values):
        for members, tags in group.members():
            rescale = rewrite.for_name(tags[i])
            if rescale is None or value.number is None or not len(members):
                continue
            if value.varint or value.dtype not in _IN_PLACE or rewrite.include_original:
                for row in members.tolist():
                    payload = group.rows[row, : len(group.layout.payload)].tobytes()
                    whole[int(group.start[row])] = decode(payload)
                continue
            rows, start = group.rows[members], group.start[members]
            _correct_in_place(data, group.layout, value, rescale, rows, start)
    for at, layout in whole.items():
        # another value of the record may be corrected in place already; these are the logged bytes
        end = at + len(layout.payload) + 4
        yield at - 12, end, frame(_corrected_payload(layout, rewrite))


def _correct_in_place(
    data: bytearray, layout: Layout, value: Value, rescale: Rescale, rows: U8, start: IntArray
) -> None:
    """Write corrected numbers and the CRCs that they lead to."""
    assert value.number is not None
    at, size = value.number[0], len(layout.payload)
    new = _rescaled(rescale, layout, value, rows).astype(value.dtype)
    difference = np.ascontiguousarray(rows[:, slice(*value.number)]) ^ new.view(np.uint8).reshape(len(rows), -1)
    stored = np.ndarray((len(data) - 3,), "<u4", data, 0, (1,))
    crc = unmask(stored[start + size]) ^ contribution(difference, range(difference.shape[1]), size - at)
    stored[start + size] = mask(crc)
    np.ndarray((len(data) - 7,), value.dtype, data, 0, (1,))[start + at] = new


def _rescaled(rescale: Rescale, layout: Layout, value: Value, rows: U8) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        return rescale.apply(layout.steps(rows), numbers(value, rows))


def _corrected_payload(layout: Layout, rewrite: Rewrite) -> bytes:
    """The event with its rescaled values."""
    payload, values = layout.payload, {value.whole: value for value in layout.values}
    out, at = bytearray(), 0
    for number, kind, start, stop in spans(payload, 0, len(payload)):
        if number == 5 and kind == DELIMITED:
            summary, inner_at = bytearray(), start
            for _, _, a, b in spans(payload, start, stop):
                value = values.get((a, b))
                summary += payload[inner_at:b] if value is None else _corrected_value(layout, value, rewrite)
                inner_at = b
            out += delimited(5, bytes(summary))
        else:
            out += payload[at:stop]
        at = stop
    return bytes(out)


def _corrected_value(layout: Layout, value: Value, rewrite: Rewrite) -> bytes:
    """A value as a field of its summary, after the logged one where that is kept."""
    payload, (begin, end) = layout.payload, value.whole
    tag = payload[slice(*value.tag)]
    rescale = rewrite.for_name(tag.decode("utf-8", "replace"))
    if rescale is None or value.number is None:
        return delimited(1, payload[begin:end])
    rows = np.frombuffer(payload, np.uint8).reshape(1, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        corrected = _rescaled(rescale, layout, value, rows)
        simple = corrected.astype("<f4").tobytes()
    out, original, at = bytearray(), bytearray(), begin
    for number, kind, start, stop in spans(payload, begin, end):
        raw = payload[at:stop]
        original += delimited(1, b"original/" + tag) if (number, kind) == (1, DELIMITED) else raw
        if (start, stop) == value.number:
            out += b"\x15" + simple
        elif number == 8 and kind == DELIMITED and start <= value.number[0] < stop:
            out += delimited(8, scalar_tensor(float(corrected[0]), double=value.dtype == "<f8"))
        else:
            out += raw
        at = stop
    return (delimited(1, bytes(original)) if rewrite.include_original else b"") + delimited(1, bytes(out))


def _provenance_event(first: Layout, rewrite: Rewrite) -> bytes:
    """A text summary at step 0 with the wall time of the file's first event."""
    at = first.wall
    wall = bytes(8) if at is None else first.payload[at : at + 8]
    text = json.dumps(dict(rewrite.provenance)).encode()
    tensor = b"\x08\x07" + delimited(2, delimited(2, b"\x08\x01")) + delimited(8, text)
    metadata = delimited(1, delimited(1, b"text"))
    value = delimited(1, PROVENANCE_TAG.encode()) + delimited(9, metadata) + delimited(8, tensor)
    return b"\x09" + wall + delimited(5, delimited(1, value))
