"""TensorBoard event files: one file, or a run directory with several."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ga_audit.errors import UnreadableLog
from ga_audit.logs import failures, roles, settings
from ga_audit.logs.formats import Claim, Rewrite, Target
from ga_audit.logs.formats._points import Rows, need_series
from ga_audit.logs.formats._tensorboard.event import PROVENANCE_TAG
from ga_audit.logs.formats._tensorboard.reader import EventReader
from ga_audit.logs.formats._tensorboard.rewrite import rewritten
from ga_audit.run import Note, ReadFailure, Role, Run, RunSettings, Source, Trust

SINK = "tensorboard"
_FILE = "events.out.tfevents."
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
    target: Target
    rows: Rows
    texts: dict[str, str] = field(default_factory=dict)  # of the file that is being read
    hparams: dict[str, Any] = field(default_factory=dict)
    sessions: list[tuple[int, RunSettings]] = field(default_factory=list)  # first step, settings; one of each file
    made: str | None = None
    notes: list[Note] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # points by tag, those that are not kept too

    def wanted(self, tag: str) -> bool:
        """Whether the points of a tag are kept."""
        return self._role(tag) is not None

    def _role(self, tag: str) -> Role | None:
        return roles.role_of(tag, loss_key=self.target.loss_key, grad_norm_key=self.target.grad_norm_key)

    def no_roles(self) -> tuple[Note, ...]:
        """A note on each tag whose points are not kept."""
        return tuple(
            Note("no-role", f"{tag!r} ({count} points) has no role here", tag)
            for tag, count in self.counts.items() if not self.wanted(tag)
        )  # fmt: skip


def _says_settings(tag: str) -> bool:
    return tag in (PROVENANCE_TAG, _HPARAMS) or tag.endswith("/text_summary")


def read(target: Target) -> Iterator[Run | ReadFailure]:
    """The run of the event files, joined in the order in which they were opened; one that cannot be read is a failure.

    Raises
    ------
    UnreadableLog
        no event in any file, or no series of ours.
    """
    files, unread = _files(target), 0
    content = _Content(target, Rows(SINK, target.path))
    for file in files:
        if target.text is not None:
            _session(io.BytesIO(target.text), str(file), content)
            continue
        try:
            with file.open("rb", buffering=0) as data:
                _session(data, str(file), content)
        except OSError as error:
            if not target.is_dir:
                raise
            yield failures.of_error(str(file), error, reader=SINK)
            unread += 1
    found = settings.in_order(content.sessions)
    folder = target.file if target.is_dir else target.file.parent
    if content.hparams and all(count < 2 for count in content.counts.values()):
        # SummaryWriter.add_hparams writes into a folder of its own, below that of the log
        yield Run(target.path, folder.name, str(folder.parent), found, (), (Source(SINK, str(folder.parent)),))
        return
    if not content.counts and unread and unread == len(files):
        return  # each has said why
    if not content.counts:
        raise UnreadableLog(
            "holds no scalar", where=target.path,
            remedy="Give the event file of a run that has logged; git-lfs pointers need `git lfs pull`.",
        )  # fmt: skip
    series, left = content.rows.series(target)
    left = content.no_roles() + left
    need_series(series, target.path, left)
    yield Run(
        target.path, folder.name, str(folder), found, series, (Source(SINK, target.path),),
        notes=tuple(content.notes), left_out=left, corrected_by=content.made,
    )  # fmt: skip


def _files(target: Target) -> list[Path]:
    if not target.is_dir:
        return [target.file]
    found = (f for f in target.file.iterdir() if f.name.startswith(_FILE) and f.is_file())
    return sorted(found, key=lambda f: f.name)


def _session(data: BinaryIO, where: str, content: _Content) -> None:
    """One file: a session of the training, which goes on from a checkpoint where there are several."""
    content.texts, content.hparams, before = {}, {}, {tag: len(p) for tag, p in content.rows.points.items()}
    _read_file(data, where, content)
    firsts = [p.step[before.get(tag, 0)] for tag, p in content.rows.points.items() if len(p) > before.get(tag, 0)]
    content.sessions.append((int(min(firsts, default=0)), _settings(content)))


def _read_file(data: BinaryIO, where: str, content: _Content) -> None:
    if data.read(23) == b"version https://git-lfs":
        content.notes.append(Note("git-lfs-pointer", "is a git-lfs pointer, not the events; `git lfs pull`", where))
        return
    reader = EventReader(content.wanted, _says_settings, content.rows.points, counts=content.counts)
    reader.read(data)
    content.texts = reader.texts
    for tag, value in reader.values:
        if tag == _HPARAMS:
            _hparams(value, content)
    content.notes += [Note("broken-record", f"a record cannot be read: {why}", f"{where}, byte {at}")
                      for at, why in reader.broken]  # fmt: skip
    damage = reader.damage
    if damage.truncated_at is not None:
        message = f"ends inside a record: read up to byte {damage.truncated_at} of {reader.chunks.size}"
        content.notes.append(Note("truncated", message, where))
    if damage.wrong_payloads:
        message = f"{damage.wrong_payloads} records fail their checksum and are left out"
        content.notes.append(Note("wrong-checksum", message, f"{where}, byte {damage.first}", damage.wrong_payloads))
    if damage.skipped_bytes:
        message = f"{damage.skipped_bytes} bytes without a valid record are skipped"
        content.notes.append(Note("skipped", message, f"{where}, byte {damage.first}"))


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
    return rewritten(_files(Target(source.path)), rewrite, destination)
