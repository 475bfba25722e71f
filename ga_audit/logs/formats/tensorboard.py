"""TensorBoard event files: one file, or a run directory with several."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from mmap import mmap
from pathlib import Path
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import failures, git_lfs, settings
from ga_audit.logs.formats import Claim, Format, Rewrite, Target
from ga_audit.logs.formats._points import Points, Rows, need_series
from ga_audit.logs.formats._protobuf import fields, signed
from ga_audit.logs.formats._tensorboard import trainings
from ga_audit.logs.formats._tensorboard.event import (
    FLOAT,
    PROVENANCE_TAG,
    tag_of_shape,
    tensor_value,
)
from ga_audit.logs.formats._tensorboard.rewrite import rewritten
from ga_audit.logs.formats._tensorboard.tfrecord import Damage, mapped, records
from ga_audit.run import Counted, Fact, Note, NoteCode, ReadFailure, Role, Run, RunSettings, Series, Source, Trust

SINK = "tensorboard"
_FILE = "events.out.tfevents."
HELD_OUT_FOLDERS = frozenset({"valid", "val", "validation", "eval", "dev", "test"})
TRAINING_FOLDERS = ("train", "training")
_VERSION = b"brain.Event:"
_HPARAMS = "_hparams_/session_start_info"
_TEXT_SETTINGS = ("args/text_summary", "model_config/text_summary")


def claim(target: Target) -> Claim:
    """YES for a directory that holds event files itself, and for a file that begins as one."""
    if target.is_dir:
        try:
            found = bool(_files(target))
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

    @property
    def points(self) -> Mapping[str, Points]:
        """Points by tag."""
        return self.rows.points

    @property
    def settings(self) -> RunSettings:
        """What the file says of the training."""
        return settings.in_order(self.sessions)

    # all bytes between an event's step and its value -> tag, for events of one simple value: a training loop writes the
    # same ones over and over
    known: dict[bytes, str] = field(default_factory=dict)


def read(target: Target) -> Iterator[Run | ReadFailure]:
    """A run for each training that the event files hold, in the order in which they were opened.

    A file that cannot be read is a failure.

    Raises
    ------
    UnreadableLog
        no event in any file, or no series of ours.
    """
    files, unread = _files(target), 0
    read_files: list[tuple[Path, _Content]] = []
    for file in files:
        content = _Content(Rows(SINK, target.path))
        if target.text is not None:
            _session(target.text, str(file), content)
            read_files.append((file, content))
            continue
        try:
            with mapped(file) as data:
                _session(data, str(file), content)
            read_files.append((file, content))
        except OSError as error:
            if not target.is_dir:
                raise
            yield failures.of_error(str(file), error, reader=SINK)
            unread += 1
    parts = _trainings(read_files)
    if not any(content.events for _, content in read_files) and unread and unread == len(files):
        return  # each has said why
    for number, contents in enumerate(parts, 1):
        yield _run(target, _together(contents, target), number if len(parts) > 1 else 0)


def _trainings(files: Sequence[tuple[Path, _Content]]) -> list[list[_Content]]:
    """What was read of each training."""
    found: dict[int, list[_Content]] = {0: []}
    for number, (_, content) in zip(trainings.numbers(files), files, strict=True):
        found.setdefault(number, []).append(content)
    return list(found.values())


def _together(contents: Sequence[_Content], target: Target) -> _Content:
    """The sessions of one training as one."""
    whole = _Content(Rows(SINK, target.path))
    for content in contents:
        for tag, points in content.rows.points.items():
            whole.rows.points[tag].step.extend(points.step)
            whole.rows.points[tag].value.extend(points.value)
        whole.rows.unread.update(content.rows.unread)
        whole.hparams = content.hparams or whole.hparams
        whole.sessions += content.sessions
        whole.made = content.made or whole.made
        whole.notes += content.notes
        whole.events += content.events
    return whole


def _run(target: Target, content: _Content, number: int) -> Run:
    """The run of one training; `number` from 1 where there are several."""
    found = content.settings
    folder = target.file if target.is_dir else target.file.parent
    if content.hparams and all(len(points) < 2 for points in content.rows.points.values()):
        # SummaryWriter.add_hparams writes into a folder of its own, below that of the log
        return Run(target.path, folder.name, str(folder.parent), found, (), (Source(SINK, str(folder.parent)),))
    if not content.events:
        raise UnreadableLog(
            "holds no scalar", where=target.path,
            remedy="Give the event file of a run that has logged; git-lfs pointers need `git lfs pull`.",
        )  # fmt: skip
    series, left = content.rows.series(target)
    series = tuple(_by_folder(s, folder) for s in series)
    need_series(series, target.path, left)
    name, part = (f"{folder.name} (run {number})", str(number)) if number else (folder.name, "")
    if number:
        facts: dict[str, Fact] = {"what": "folder", "number": number}
        content.notes.append(Note(NoteCode.SEVERAL_RUNS, where=target.path, facts=facts))
    return Run(
        f"{target.path}#{part}" if part else target.path, name, f"{folder}#{part}" if part else str(folder), found,
        series, (Source(SINK, target.path, part),), notes=tuple(content.notes), left_out=left,
        corrected_by=content.made,
    )  # fmt: skip


def _by_folder(series: Series, folder: Path) -> Series:
    """A series with what its folder says: Keras, fairseq and others write `train/` and `valid/` beside each other."""
    if series.name.startswith("epoch_"):
        series = replace(series, counted=Counted.EPOCH, window=None)
    if series.role is Role.LOSS and folder.name.lower() in HELD_OUT_FOLDERS and _has_training_folder(folder):
        return replace(series, role=Role.EVAL_LOSS, window=None)
    return series


def _has_training_folder(folder: Path) -> bool:
    try:
        return any(bool(_files(Target(str(folder.parent / name)))) for name in TRAINING_FOLDERS
                   if (folder.parent / name).is_dir())  # fmt: skip
    except OSError:
        return False


def _files(target: Target) -> list[Path]:
    if not target.is_dir:
        return [target.file]
    found = (f for f in target.file.iterdir() if f.name.startswith(_FILE) and f.is_file())
    return sorted(found, key=lambda f: f.name)


def _session(data: bytes | mmap, where: str, content: _Content) -> None:
    """One file: a session of the training, which goes on from a checkpoint where there are several."""
    content.texts, content.hparams, before = {}, {}, {tag: len(p) for tag, p in content.rows.points.items()}
    _read_file(data, where, content)
    firsts = [p.step[before.get(tag, 0)] for tag, p in content.rows.points.items() if len(p) > before.get(tag, 0)]
    content.sessions.append((int(min(firsts, default=0)), _settings(content)))


def _read_file(data: bytes | mmap, where: str, content: _Content) -> None:
    if git_lfs.is_pointer(data[:64]):
        content.notes.append(Note(NoteCode.GIT_LFS_POINTER, where=where))
        return
    damage = Damage()
    for start, _, payload in records(data, damage):
        try:
            if not _known_event(payload, content):
                _event(payload, content)
        except ValueError as error:
            content.notes.append(
                Note(NoteCode.BROKEN_RECORD, where=f"{where}, byte {start}", facts={"error": str(error)})
            )
    if damage.truncated_at is not None:
        facts = {"byte": damage.truncated_at, "size": len(data)}
        content.notes.append(Note(NoteCode.TRUNCATED, where=where, facts=facts))
    if damage.wrong_payloads:
        place = f"{where}, byte {damage.first}"
        content.notes.append(Note(NoteCode.WRONG_CHECKSUM, where=place, count=damage.wrong_payloads))
    if damage.skipped_bytes:
        place = f"{where}, byte {damage.first}"
        content.notes.append(Note(NoteCode.SKIPPED, where=place, facts={"bytes": damage.skipped_bytes}))


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
        tag = tag_of_shape(key)
        if tag is None:
            return False
        content.known[key] = tag
    content.rows.points[tag].append(step, FLOAT.unpack_from(payload, len(payload) - 4)[0])
    content.events += 1
    return True


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
        scalar = tensor_value(tensor)
        if isinstance(scalar, str):
            content.texts[tag] = scalar
            return
        number = scalar
    if tag == _HPARAMS:
        _hparams(data, content)
    elif number is not None:
        content.rows.add(tag, step, number)
        content.events += 1


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
    from google.protobuf.json_format import MessageToDict, SerializeToJsonError
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        plugin = Summary.Value.FromString(value).metadata.plugin_data.content
        found = HParamsPluginData.FromString(plugin).session_start_info.hparams
    except DecodeError:
        return
    for name, setting in found.items():
        with suppress(SerializeToJsonError, ValueError):  # JSON, and so this, knows no NaN and no infinity
            content.hparams[name] = MessageToDict(setting)


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


def write(source: Source, rewrite: Rewrite, destination: Path) -> list[Path]:
    """Corrected copies of the event files: records that hold no rescaled tag are copied byte for byte."""
    target = Target(source.path)
    files = _files(target)
    if not source.part:
        return rewritten(files, rewrite, destination)
    read_files: list[tuple[Path, _Content]] = []
    for file in files:
        content = _Content(Rows(SINK, source.path))
        with mapped(file) as data:
            _session(data, str(file), content)
        read_files.append((file, content))
    written: list[Path] = []
    for number in dict.fromkeys(found := trainings.numbers(read_files)):
        own = [file for file, of in zip(files, found, strict=True) if of == number]
        rescales = [replace(r, part="") for r in rewrite.rescales if r.part == str(number + 1)]
        written += rewritten(own, replace(rewrite, rescales=rescales), destination)
    return written


FORMAT = Format(claim=claim, read=read, write=write, several_runs=True)
