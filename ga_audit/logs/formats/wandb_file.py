"""Local W&B runs: `wandb/run-*`, `offline-run-*`, the `.wandb` file itself, or the id of a run below `./wandb`.

The SDK's Python reader is gone since 0.30, so the file is read here: a 7-byte header, LevelDB log blocks of 32 KiB whose
CRC is plain CRC-32 of the type byte and the data, and protobuf records in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import git_lfs, settings
from ga_audit.logs.formats import Claim, Format, Rewrite, Target, _values
from ga_audit.logs.formats._points import need_series
from ga_audit.logs.formats._protobuf import fields
from ga_audit.logs.formats._text import yaml_text
from ga_audit.logs.formats._wandb import framing
from ga_audit.logs.formats._wandb import run as wandb_run
from ga_audit.logs.formats._wandb.address import local_runs
from ga_audit.logs.formats._wandb.decode import History, items
from ga_audit.run import Note, NoteCode, Run, RunSettings, Source, Trust

if TYPE_CHECKING:
    from ga_audit.logs.formats._wandb.write import Logged

SINK = "wandb_file"
_HISTORY, _CONFIG, _RUN, _EXIT, _ENVIRONMENT = 2, 5, 17, 18, 26
_NUMBER, _HISTORY_TAG = b"\x08", b"\x12"  # how a record begins
# a record is of one kind, and those that are read and have a tag of one byte are history and config
_PASSED_OVER = frozenset(bytes([number << 3 | 2]) for number in range(3, 16) if number != _CONFIG)


def claim(target: Target) -> Claim:
    """YES for a run directory (it holds one `run-*.wandb`), a file that begins as one or is named so, a local run's id."""
    if target.is_dir:
        return Claim.YES if _file_in(target.file) is not None else Claim.NO
    if target.text is None and not os.path.exists(target.path):
        return Claim.YES if local_runs(target.path) else Claim.NO
    return Claim.YES if target.head.startswith(b":W&B") or target.name.endswith(".wandb") else Claim.NO


def _file_in(folder: Path) -> Path | None:
    try:
        return next((file for file in sorted(folder.glob("run-*.wandb")) if file.is_file()), None)
    except OSError:
        return None


@dataclass(slots=True)
class _Content:
    history: History | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    changes: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # rows before it, what it set
    run: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)
    finished: bool = False
    notes: list[Note] = field(default_factory=list)


def read(target: Target) -> Iterator[Run]:
    """The run of a `.wandb` file, with what stands beside it.

    Raises
    ------
    UnreadableLog
        empty, another kind of file, or nothing logged.
    """
    if not os.path.exists(target.path):
        for folder in local_runs(target.path):
            yield from read(replace(target, path=str(folder)))
        return
    file = _file_in(target.file) if target.is_dir else target.file
    assert file is not None
    own = Target(str(file), loss_key=target.loss_key, grad_norm_key=target.grad_norm_key)
    content = _content(file, wandb_run.is_wanted(own))
    history = content.history
    assert history is not None
    files = file.parent / "files"
    requirements = _text(files / "requirements.txt")
    config = {**_yaml(files / "config.yaml"), **content.config}
    metadata = wandb_run.json_value(_text(files / "wandb-metadata.json") or "{}")
    series, left, notes = wandb_run.series_of_columns(history, own, SINK)
    if history.count == len(history.broken):
        raise UnreadableLog(
            "holds no history: the run logged nothing before it ended", where=str(file),
            remedy="Of several processes with a run folder each, only one logs: give its folder.",
        )  # fmt: skip
    need_series(series, str(file), left)
    metadata = metadata if isinstance(metadata, dict) else {}
    private = [*content.private, *(str(metadata.get(key) or "") for key in ("host", "username", "email"))]
    run_id = content.run.get("id") or file.stem.removeprefix("run-")
    if not content.finished:
        content.notes.append(Note(NoteCode.UNFINISHED, where=str(file), facts={"missing": "no exit record"}))
    found = wandb_run.settings_of(config, requirements, metadata, ".wandb")
    yield Run(
        str(file), content.run.get("name") or run_id, f"wandb:{run_id}", _with_changes(found, content), series,
        (Source(SINK, str(file.parent)),), notes=(*content.notes, *notes), left_out=left,
        corrected_by=wandb_run.provenance(config), private=tuple(name for name in dict.fromkeys(private) if name),
    )  # fmt: skip


def _with_changes(found: RunSettings, content: _Content) -> RunSettings:
    """The settings, with GA by segments where the configuration was changed between rows."""
    sessions = [
        (wandb_run.step_after(content.history, before) if before and content.history else 0,
         settings.from_mapping(change, source=".wandb: config", trust=Trust.RECORDED))
        for before, change in content.changes
    ]  # fmt: skip
    ordered = settings.in_order(sessions).gradient_accumulation_steps
    if ordered is None or ordered.value.is_constant:
        return found
    return replace(found, gradient_accumulation_steps=ordered)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace") if path.is_file() else ""
    except OSError:
        return ""


def _yaml(path: Path) -> dict[str, Any]:
    text = _text(path)
    if not text:
        return {}
    import yaml

    try:
        content = yaml_text.load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: the 99th of a month, 5,000 digits
        return {}
    return dict(_values.mapping(content))


# --- records ---------------------------------------------------------------------------------------------------------


def _content(file: Path, wanted: Callable[[str], bool] | None = None) -> _Content:
    """What a file holds: the history as columns of the wanted keys, or as rows of all keys where none are named."""
    data = file.read_bytes()
    if len(data) < len(framing.HEADER):
        raise UnreadableLog(
            f"is empty ({len(data)} bytes): the run ended before it wrote anything", where=str(file),
            remedy="Give another run directory.",
        )  # fmt: skip
    git_lfs.refuse_pointer(data, str(file))
    if not data.startswith(b":W&B"):
        raise UnreadableLog(
            "is no W&B run file", where=str(file), remedy="Give the run-*.wandb file of a run directory."
        )
    content = _Content(history=None if wanted is None else History(wanted))
    for payload in framing.payloads(data, content.notes, str(file)):
        try:
            _take(payload, content)
        except (ValueError, IndexError) as error:
            content.notes.append(_broken(error, file))
    if content.history is not None:
        content.history.flush()
        content.notes += [_broken(error, file) for error in content.history.broken.values()]
    return content


def _broken(error: object, file: Path) -> Note:
    return Note(NoteCode.BROKEN_RECORD, where=str(file), facts={"error": str(error)})


def _take(payload: bytes, content: _Content) -> None:
    """One record; summaries, statistics and console output, most of the file, are passed over by their tag alone."""
    at = 0
    if payload[:1] == _NUMBER:
        at = 1
        while payload[at] >= 0x80:
            at += 1
        at += 1
    tag = payload[at : at + 1]
    if tag == _HISTORY_TAG and content.history is not None:
        size = shift = 0
        at += 1
        while (byte := payload[at]) >= 0x80:
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
        if at + 1 + (size | byte << shift) == len(payload):
            content.history.add(payload[at + 1 :])
            return
    elif tag in _PASSED_OVER:
        return
    _record(payload, content)


def _record(payload: bytes, content: _Content) -> None:
    for number, value in fields(payload):
        if not isinstance(value, bytes):
            continue
        if number == _HISTORY:
            if content.history is not None:
                content.history.add(value)
            else:
                content.rows.append(dict(items(value)))
        elif number == _CONFIG:
            _set_config(value, content)
        elif number == _RUN:
            _run_record(value, content)
        elif number == _EXIT:
            content.finished = True
        elif number == _ENVIRONMENT:  # email = 10, host = 12, username = 13
            found = [v for n, v in fields(value) if n in (10, 12, 13) and isinstance(v, bytes)]
            content.private += [v.decode("utf-8", "replace") for v in found]


def _run_record(message: bytes, content: _Content) -> None:
    """RunRecord: run_id = 1, entity = 2, project = 3, config = 4, run_group = 6, job_type = 7, display_name = 8, host = 13."""
    names = {1: "id", 2: "entity", 3: "project", 6: "group", 7: "job_type", 8: "name", 9: "notes"}
    for number, value in fields(message):
        if not isinstance(value, bytes):
            continue
        if number in (2, 13):
            content.private.append(value.decode("utf-8", "replace"))
        if number in names:
            content.run[names[number]] = value.decode("utf-8", "replace")
        elif number == 10:
            content.tags.append(value.decode("utf-8", "replace"))
        elif number == 4:
            _set_config(value, content)


def _set_config(message: bytes, content: _Content) -> None:
    found = dict(items(message))
    content.config.update(found)
    content.changes.append((len(content.rows) if content.history is None else content.history.count, found))


# --- writing ---------------------------------------------------------------------------------------------------------


def write(source: Source, rewrite: Rewrite, destination: Path) -> list[Path]:
    """A corrected run as a new offline run, to be uploaded with `wandb sync`: W&B's history cannot be edited."""
    from ga_audit.logs.formats._wandb.write import write_offline

    return write_offline(_logged(source), rewrite, destination)


def _logged(source: Source) -> Logged:
    from ga_audit.logs.formats._wandb.write import Logged

    folder = Path(source.path)
    file = _file_in(folder) if folder.is_dir() else folder
    assert file is not None
    content = _content(file)
    run_id = content.run.get("id", file.stem.removeprefix("run-"))
    return Logged(
        run_id, content.run.get("name") or run_id, content.rows,
        {**_yaml(file.parent / "files" / "config.yaml"), **content.config}, content.run.get("entity"),
        content.run.get("project"), content.run.get("group"), content.tags, content.run.get("notes"),
        _text(file.parent / "files" / "requirements.txt"),
    )  # fmt: skip


def upload(source: Source, folder: Path, timeout: int) -> None:
    """Send the corrected run to the entity and project of the original, or the defaults; see `_wandb.publish.upload`."""
    from ga_audit.logs.formats._wandb import publish as wandb_publish

    wandb_publish.upload(folder, None, entity=None, project=None, timeout=timeout)


# `files/output.log` in the directory is the console of the same run
FORMAT = Format(claim=claim, read=read, write=write, upload=upload, owns_directory=True)
