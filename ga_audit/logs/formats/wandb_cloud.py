"""W&B runs of a server: by id, path, URL, display name, group, sweep or tag.

Taken for an address only where no such file exists. A bare id that has a run directory on this machine is read there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ga_audit.errors import AuditError, UnreadableLog
from ga_audit.logs import missing_path
from ga_audit.logs.formats import Claim, Format, Rewrite, Target
from ga_audit.logs.formats._points import need_series
from ga_audit.logs.formats._wandb import address as wandb_address
from ga_audit.logs.formats._wandb import run as wandb_run
from ga_audit.logs.formats._wandb.address import Address
from ga_audit.run import Note, NoteCode, ReadFailure, Run, Source

if TYPE_CHECKING:
    from ga_audit.logs.formats._wandb.fetch import CloudRun

# What talks to a server (hashlib, socket, subprocess) is imported where it is used: every audit imports this module.

SINK = "wandb_cloud"


def claim(target: Target) -> Claim:
    """YES for an address that can be nothing else; MAYBE for one that may be a mistyped path."""
    if target.text is not None or os.path.exists(target.path):
        return Claim.NO
    address = wandb_address.parse(target.path)
    if address is None or missing_path.is_path(target.path):
        return Claim.NO
    return Claim.YES if address.certain else Claim.MAYBE


def expand(target: Target) -> Iterator[Target]:
    """The single runs that an address names; further conditions are in the options (`filters`, JSON in the SDK's form).

    Raises
    ------
    AuditError
        not logged in, no such run, no answer; with what was tried.
    """
    from ga_audit.logs.formats._wandb import fetch as wandb_fetch
    from ga_audit.logs.formats._wandb import login as wandb_login

    address, timeout = _address(target), _timeout(target)
    try:
        api = wandb_login.connect(address.base_url, timeout)
        api.flush()  # it remembers runs, and they may have grown
        filters = json.loads(target.options.get("filters", "{}"))
        found = list(wandb_fetch.find(api, address, timeout=timeout, filters=filters))
    except AuditError as error:
        raise error if address.certain else _also_no_path(error, target.path, address) from None
    same_name = Counter(run.name for run in found)
    for run in found:
        id_too = {"show_id": "yes"} if same_name[run.name] > 1 else {}
        yield replace(target, path=source_path(address, run), options={**target.options, **id_too})


def read(target: Target) -> Iterator[Run | ReadFailure]:
    """The run of a full address, as `expand` gives it.

    Raises
    ------
    AuditError
        not logged in, no such run, no answer; with what was tried.
    """
    from ga_audit.logs.formats._wandb import fetch as wandb_fetch
    from ga_audit.logs.formats._wandb import login as wandb_login

    address, timeout = _address(target), _timeout(target)
    api = wandb_login.connect(address.base_url, timeout)
    for sdk_run in wandb_fetch.find(api, address, timeout=timeout):
        use_cache = target.options.get("cache", "yes") == "yes"
        keys = [key for key in (target.loss_key, target.grad_norm_key) if key]
        cloud = wandb_fetch.read_run(sdk_run, timeout=timeout, use_cache=use_cache, keys=keys)
        name = f"{cloud.name} ({cloud.id})" if "show_id" in target.options else cloud.name
        yield run_of(cloud, source_path(address, sdk_run), name, target)


def _address(target: Target) -> Address:
    address = wandb_address.parse(target.path)
    assert address is not None
    return address


def _timeout(target: Target) -> int:
    from ga_audit.logs.formats._wandb import fetch as wandb_fetch

    return int(target.options.get("timeout", wandb_fetch.TIMEOUT))


def _also_no_path(error: AuditError, text: str, address: Address) -> AuditError:
    """What was tried: the user may have meant a file."""
    from ga_audit.logs.formats._wandb.login import NoKey

    tried = "no such file or directory"
    if address.project is None:
        places = ", ".join(str(place) for place in wandb_address.local_places())
        tried += f", no run of this id in {places}"
    where = f" ({error.where})" if error.where and error.where != text else ""
    needs = " it needs a login" if isinstance(error, NoKey) else ""
    near = missing_path.find_similar(text)
    remedy = " ".join(part for part in (f"Did you mean {near}?" if near else "", error.remedy or "") if part)
    return type(error)(f"{tried}; as a W&B run{needs}: {error.message}{where}", where=text, remedy=remedy)


def source_path(address: Address, run: object) -> str:
    """The one address of a run, on the server that it was found on."""
    entity, project, run_id = (str(getattr(run, name)) for name in ("entity", "project", "id"))
    return str(Address(entity, project, run_id, base_url=address.base_url))


def run_of(cloud: CloudRun, place: str, name: str, target: Target) -> Run:
    """A fetched run as a Run.

    Raises
    ------
    UnreadableLog
        it logged no training loss and no gradient norm.
    """
    of_run = Target(place, loss_key=target.loss_key, grad_norm_key=target.grad_norm_key)
    series, left, notes = wandb_run.series_of(cloud.rows, of_run, SINK)
    need_series(series, place, left)
    metadata = wandb_run.json_value(cloud.files.get("wandb-metadata.json") or "{}")
    found = wandb_run.settings_of(
        cloud.config, cloud.files.get("requirements.txt", ""), metadata if isinstance(metadata, dict) else {}, "W&B"
    )
    if cloud.incomplete:
        notes = (*notes, Note(NoteCode.INCOMPLETE, where=place, facts={"why": cloud.incomplete}))
    if not cloud.ended:
        notes = (*notes, Note(NoteCode.UNFINISHED, where=place, facts={"state": cloud.state}))
    return Run(
        place, name, f"wandb:{cloud.id}", found, series, (Source(SINK, place),), notes=notes, left_out=left,
        corrected_by=wandb_run.provenance(cloud.config), private=_private(cloud, place, metadata),
    )  # fmt: skip


def _private(cloud: CloudRun, place: str, metadata: Any) -> tuple[str, ...]:
    """The entity, a server of one's own, and who trained where."""
    of_machine = (
        [str(metadata.get(key) or "") for key in ("host", "username", "email")] if isinstance(metadata, dict) else []
    )
    server = urlsplit(place).hostname if place.startswith("http") and "wandb.ai" not in place else None
    return tuple(name for name in dict.fromkeys([cloud.entity, server or "", *of_machine]) if name)


# --- writing ---------------------------------------------------------------------------------------------------------


def write(source: Source, rewrite: Rewrite, destination: Path) -> list[Path]:
    """A corrected run as a new offline run; nothing is sent.

    Raises
    ------
    UnreadableLog
        a part of the history is missing: a corrected run that looks whole must be whole.
    """
    from ga_audit.logs.formats._wandb import fetch as wandb_fetch
    from ga_audit.logs.formats._wandb import login as wandb_login
    from ga_audit.logs.formats._wandb.write import Logged, write_offline

    address = wandb_address.parse(source.path)
    assert address is not None
    timeout = wandb_fetch.TIMEOUT
    api = wandb_login.connect(address.base_url, timeout)
    (sdk_run,) = wandb_fetch.find(api, address, timeout=timeout)
    cloud = wandb_fetch.read_run(sdk_run, timeout=timeout, every_key=True)
    if cloud.incomplete:
        raise UnreadableLog(cloud.incomplete, where=source.path, remedy="Call again when the server can be reached.")
    logged = Logged(
        cloud.id, cloud.name, cloud.rows, cloud.config, cloud.entity, cloud.project, cloud.group, cloud.tags, cloud.notes,
        cloud.files.get("requirements.txt", ""), source.path,
    )  # fmt: skip
    return write_offline(logged, rewrite, destination)


def upload(source: Source, folder: Path, timeout: int) -> None:
    """Send a corrected run as a new run of the original's project; see `_wandb.publish.upload`."""
    from ga_audit.logs.formats._wandb import publish as wandb_publish

    address = wandb_address.parse(source.path)
    assert address is not None
    wandb_publish.upload(folder, address.base_url, entity=address.entity, project=address.project, timeout=timeout)


def annotate(source: Source, facts: Mapping[str, Any], note: str, timeout: int) -> None:
    """Write facts into the original's summary, and a line into its notes; see `_wandb.publish.annotate`."""
    from ga_audit.logs.formats._wandb import publish as wandb_publish

    address = wandb_address.parse(source.path)
    assert address is not None
    wandb_publish.annotate(address, facts, note, timeout=timeout)


FORMAT = Format(claim=claim, read=read, write=write, expand=expand, upload=upload, annotate=annotate)
