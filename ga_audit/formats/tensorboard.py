"""TensorBoard event files: one file, or a run directory with several.

A little longer than most, since reading and writing share the walk over an event's fields.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np

from ga_audit import settings
from ga_audit.errors import UnreadableLog
from ga_audit.formats import Claim, Rescale, Rewrite, Target
from ga_audit.formats._points import Rows, need_series
from ga_audit.formats._protobuf import fields, signed
from ga_audit.formats._tfrecord import Damage, frame, mapped, records
from ga_audit.run import Note, Run, RunSettings, Source, Trust

SINK = "tensorboard"
_FILE = "events.out.tfevents."
_VERSION = b"brain.Event:"
PROVENANCE_TAG = "ga_audit/text_summary"
_HPARAMS = "_hparams_/session_start_info"
_TEXT_SETTINGS = ("args/text_summary", "model_config/text_summary")
_DT_FLOAT, _DT_DOUBLE, _DT_INT32, _DT_INT64, _DT_STRING = 1, 2, 3, 9, 7


def claim(target: Target) -> Claim:
    """YES for a directory that holds event files itself, and for a file that begins as one."""
    if target.is_dir:
        try:
            found = any(f.name.startswith(_FILE) for f in target.file.iterdir())
        except OSError:
            found = False
        return Claim.YES if found else Claim.NO
    if _VERSION in target.head[:64]:
        return Claim.YES
    return Claim.YES if target.name.startswith(_FILE) else Claim.NO


@dataclass(slots=True)
class _Content:
    rows: Rows
    texts: dict[str, str] = field(default_factory=dict)  # of the file that is being read
    hparams: dict[str, Any] = field(default_factory=dict)
    sessions: list[tuple[int, RunSettings]] = field(default_factory=list)  # first step, settings; one of each file
    made: str | None = None
    notes: list[Note] = field(default_factory=list)
    events: int = 0
    # all bytes between an event's step and its value -> tag, for events of one simple value: a training loop writes the
    # same ones over and over
    known: dict[bytes, str] = field(default_factory=dict)


def read(target: Target) -> Iterator[Run]:
    """The run of the event files, joined in the order in which they were opened.

    Raises
    ------
    UnreadableLog
        no event in any file, or no series of ours.
    """
    files = _files(target)
    content = _Content(Rows(SINK, target.path))
    for file in files:
        if target.text is not None:
            _session(target.text, str(file), content)
            continue
        with mapped(file) as data:
            _session(data, str(file), content)
    found = settings.in_order(content.sessions)
    folder = target.file if target.is_dir else target.file.parent
    if content.hparams and all(len(points) < 2 for points in content.rows.points.values()):
        # SummaryWriter.add_hparams writes into a folder of its own, below that of the log
        yield Run(target.path, folder.name, str(folder.parent), found, (), (Source(SINK, str(folder.parent)),))
        return
    if not content.events:
        raise UnreadableLog(
            "holds no scalar", where=target.path,
            remedy="Give the event file of a run that has logged; git-lfs pointers need `git lfs pull`.",
        )  # fmt: skip
    series, left = content.rows.series(target)
    need_series(series, target.path, left)
    yield Run(
        target.path, folder.name, str(folder), found, series, (Source(SINK, target.path),),
        notes=tuple(content.notes), left_out=left, corrected_by=content.made,
    )  # fmt: skip


def _files(target: Target) -> list[Path]:
    if not target.is_dir:
        return [target.file]
    return sorted((f for f in target.file.iterdir() if f.name.startswith(_FILE)), key=lambda f: f.name)


def _session(data: bytes | mmap, where: str, content: _Content) -> None:
    """One file: a session of the training, which goes on from a checkpoint where there are several."""
    content.texts, content.hparams, before = {}, {}, {tag: len(p) for tag, p in content.rows.points.items()}
    _read_file(data, where, content)
    firsts = [p.step[before.get(tag, 0)] for tag, p in content.rows.points.items() if len(p) > before.get(tag, 0)]
    content.sessions.append((int(min(firsts, default=0)), _settings(content)))


def _read_file(data: bytes | mmap, where: str, content: _Content) -> None:
    if data[:23] == b"version https://git-lfs":
        content.notes.append(Note("git-lfs-pointer", "is a git-lfs pointer, not the events; `git lfs pull`", where))
        return
    damage = Damage()
    for start, _, payload in records(data, damage):
        try:
            if not _known_event(payload, content):
                _event(payload, content)
        except ValueError as error:
            content.notes.append(Note("broken-record", f"a record cannot be read: {error}", f"{where}, byte {start}"))
    if damage.truncated_at is not None:
        message = f"ends inside a record: read up to byte {damage.truncated_at} of {len(data)}"
        content.notes.append(Note("truncated", message, where))
    if damage.wrong_payloads:
        message = f"{damage.wrong_payloads} records fail their checksum and are left out"
        content.notes.append(Note("wrong-checksum", message, f"{where}, byte {damage.first}", damage.wrong_payloads))
    if damage.skipped_bytes:
        message = f"{damage.skipped_bytes} bytes without a valid record are skipped"
        content.notes.append(Note("skipped", message, f"{where}, byte {damage.first}"))


_FLOAT = struct.Struct("<f")


def _known_event(payload: bytes, content: _Content) -> bool:
    """Keep the point of an event of a shape that was met before: five times as fast as walking its fields."""
    if len(payload) < 20 or payload[0] != 0x09 or payload[9] != 0x10:  # wall time, then step
        return False
    at, step, shift = 10, 0, 0
    while True:
        byte = payload[at]
        step |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
        shift += 7
        if shift > 56 or at >= len(payload) - 5:
            return False
    key = payload[at:-4]
    tag = content.known.get(key)
    if tag is None:
        tag = _tag_of_shape(key)
        if tag is None:
            return False
        content.known[key] = tag
    content.rows.points[tag].append(step, _FLOAT.unpack_from(payload, len(payload) - 4)[0])
    content.events += 1
    return True


def _tag_of_shape(key: bytes) -> str | None:
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


def _event(payload: bytes, content: _Content) -> None:
    """Event: step = 2, summary = 5; Summary: value = 1; Value: tag = 1, simple_value = 2, tensor = 8."""
    step, summary = 0, None
    for number, value in fields(payload):
        if number == 2 and isinstance(value, int):
            step = signed(value)
        elif number == 5 and isinstance(value, bytes):
            summary = value
    if summary is None:
        return
    for number, value in fields(summary):
        if number == 1 and isinstance(value, bytes):
            _value(value, step, content)


def _value(data: bytes, step: int, content: _Content) -> None:
    tag, number, tensor = "", None, None
    for field_number, value in fields(data):
        if field_number == 1 and isinstance(value, bytes):
            tag = value.decode("utf-8", "replace")
        elif field_number == 2 and isinstance(value, bytes) and len(value) == 4:
            number = float(struct.unpack("<f", value)[0])
        elif field_number == 8 and isinstance(value, bytes):
            tensor = value
    if tensor is not None and number is None:
        scalar = _tensor(tensor)
        if isinstance(scalar, str):
            content.texts[tag] = scalar
            return
        number = scalar
    if tag == _HPARAMS:
        _hparams(data, content)
    elif number is not None:
        content.rows.add(tag, step, number)
        content.events += 1


def _tensor(data: bytes) -> float | str | None:
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


def _settings(content: _Content) -> RunSettings:
    parts = []
    for tag, text in content.texts.items():
        found = _json_in(text)
        if tag == PROVENANCE_TAG:
            content.made = str(found.get("version", "ga-audit")) if found else "ga-audit"
        elif found and (tag in _TEXT_SETTINGS or tag.endswith("/text_summary")):
            name = tag.removesuffix("/text_summary")
            parts.append(settings.from_mapping(found, source=f"events, text {name!r}", trust=Trust.RECORDED))
    if content.hparams:
        parts.append(settings.from_mapping(content.hparams, source="events, hparams", trust=Trust.RECORDED))
    return settings.merge(*parts) if parts else RunSettings()


def _hparams(value: bytes, content: _Content) -> None:
    """`_hparams_/session_start_info`, as `SummaryWriter.add_hparams` and Keras write it."""
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        plugin = Summary.Value.FromString(value).metadata.plugin_data.content
        found = HParamsPluginData.FromString(plugin).session_start_info.hparams
        content.hparams.update({name: MessageToDict(v) for name, v in found.items()})
    except DecodeError:
        return


def _json_in(text: str) -> dict[str, Any] | None:
    """The JSON object of a text summary, also inside a Markdown code fence."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        content = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


# --- writing ---------------------------------------------------------------------------------------------------------


def write(source: Source, rewrite: Rewrite, destination: Path) -> list[Path]:
    """Corrected copies of the event files: records that hold no rescaled tag are copied byte for byte."""
    target = Target(source.path)
    written = []
    told = False  # once, after the first good record of any file
    for file in _files(target):
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
        tag = _tag_of_shape(key)
        if tag is None:
            return _corrected(payload, rewrite)
        known[key] = rewrite.for_name(tag)
    rescale = known[key]
    if rescale is None:
        return None
    step = 0
    for i, byte in enumerate(payload[10 : at + 1]):
        step |= (byte & 0x7F) << (7 * i)
    corrected = rescale.at(step, _FLOAT.unpack_from(payload, len(payload) - 4)[0])
    return payload[:-4] + _FLOAT.pack(corrected)


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
                    summary += _delimited(1, _renamed(inner))
                summary += _delimited(1, new)
            out += _delimited(5, bytes(summary))
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
        elif number == 8 and isinstance(value, bytes) and isinstance(scalar := _tensor(value), float):
            out += _delimited(8, _scalar_tensor(rescale.at(step, scalar), double=_is_double(value)))
        else:
            out += raw
    return bytes(out)


def _is_double(tensor: bytes) -> bool:
    return any(number == 1 and value == _DT_DOUBLE for number, value in fields(tensor))


def _scalar_tensor(number: float, *, double: bool) -> bytes:
    """A TensorProto of rank 0: dtype, an empty shape, float_val or double_val."""
    if double:
        return b"\x08\x02\x12\x00" + _delimited(6, struct.pack("<d", number))
    return b"\x08\x01\x12\x00" + _delimited(5, struct.pack("<f", number))


def _renamed(data: bytes) -> bytes:
    out = bytearray()
    for number, value, raw in _raw_fields(data):
        out += _delimited(1, b"original/" + value) if number == 1 and isinstance(value, bytes) else raw
    return bytes(out)


def _raw_fields(data: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Fields with the bytes that encode them."""
    rest = data
    for number, value in fields(data):
        size = _size_of_first(rest)
        yield number, value, rest[:size]
        rest = rest[size:]


def _size_of_first(data: bytes) -> int:
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


def _delimited(number: int, data: bytes) -> bytes:
    return _encoded(number << 3 | 2) + _encoded(len(data)) + data


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _provenance_event(first: bytes, rewrite: Rewrite) -> bytes:
    """A text summary at step 0 with the wall time of the file's first event."""
    wall = next((v for n, v in fields(first) if n == 1 and isinstance(v, bytes)), bytes(8))
    text = json.dumps(dict(rewrite.provenance)).encode()
    tensor = b"\x08\x07" + _delimited(2, _delimited(2, b"\x08\x01")) + _delimited(8, text)
    metadata = _delimited(1, _delimited(1, b"text"))
    value = _delimited(1, PROVENANCE_TAG.encode()) + _delimited(9, metadata) + _delimited(8, tensor)
    return b"\x09" + wall + _delimited(5, _delimited(1, value))
