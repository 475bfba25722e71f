"""Runs of a W&B server through the SDK: complete history, a private cache, what came in before a line broke.

The history is always scanned, never sampled (`run.history()` returns 500 rows of any run), and without a list of keys,
since a scan for several keys returns only the rows that hold all of them: train and eval rows never share one. Of a run
with hundreds of keys those that have a role are scanned one by one.
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ga_audit.errors import AuditError, MissingSetting, UnreadableLog
from ga_audit.files.cache import cache_dir
from ga_audit.logs import roles
from ga_audit.logs.formats._wandb.address import Address
from ga_audit.logs.formats._wandb.login import errors, sdk_errors, server
from ga_audit.logs.formats._wandb.run import X_AXIS

T = TypeVar("T")

PAGE = 10_000  # steps per request: the largest that the server answers in one piece
LISTED = 200  # runs per request
WIDE = 200  # keys: beyond, a row is mostly what nobody here reads
TIMEOUT = 60
FILES = ("requirements.txt", "wandb-metadata.json")
_ENDED = frozenset({"finished", "crashed", "failed", "killed"})
_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


@dataclass(frozen=True, slots=True)
class CloudRun:
    """What the server holds of one run; JSON values only."""

    entity: str
    project: str
    id: str
    name: str
    state: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]  # numbers and short texts; media, tables and histograms stay on the server
    files: dict[str, str]  # the small ones of FILES
    url: str = ""
    group: str | None = None
    tags: tuple[str, ...] = ()
    notes: str = ""
    incomplete: str = ""  # why rows are missing, where some are

    @property
    def ended(self) -> bool:
        """Whether the history can still grow: a run that ended may be resumed, and then has another last step."""
        return self.state in _ENDED


def find(
    api: Any, address: Address, *, timeout: int = TIMEOUT, filters: Mapping[str, Any] | None = None
) -> Iterator[Any]:
    """The SDK's run objects of an address: by id, then by display name, then all that the filters let through.

    Parameters
    ----------
    api : of `connect`.
    address : one run, or runs of one project.
    timeout : seconds to wait for an answer.
    filters : further conditions in the SDK's form, for several runs.

    Raises
    ------
    AuditError
        no such run or project, no answer; with what was tried.
    """
    with errors(str(address), timeout):
        entity = address.entity or api.settings.get("entity") or api.default_entity
        project = address.project or api.settings.get("project")
        if not project:
            raise MissingSetting(
                "the project of the run is not known",
                where=str(address),
                remedy="Name it as entity/project/run, or set WANDB_PROJECT.",
            )
        if address.run is None:
            yield from _listed(api, f"{entity}/{project}", {**_conditions(address), **(filters or {})}, timeout)
            return
        tried = [f"run {address.run} of {entity}/{project}, by id and by display name"]
        if (run := _by_id_or_name(api, entity, project, address.run, timeout)) is not None:
            yield run
            return
        if (
            address.entity is None and address.project is not None
        ):  # `a/b`: run b of project a, or project b of entity a
            path = f"{address.project}/{address.run}"
            try:
                with errors(path, timeout):
                    yield from _listed(api, path, dict(filters or {}), timeout)
                    return
            except UnreadableLog as error:
                tried.append(f"project {path}: {error.message}")
        raise UnreadableLog(
            f"there is no such run on the server (tried {'; '.join(tried)})",
            where=address.run,
            remedy="Copy the run's URL from the browser.",
        )


def _conditions(address: Address) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if address.group:
        found["group"] = address.group
    if address.sweep:
        found["sweep"] = address.sweep
    if address.tag:
        found["tags"] = {"$in": [address.tag]}
    return found


def _listed(api: Any, path: str, filters: dict[str, Any], timeout: int) -> Iterator[Any]:
    """Runs of a project, without config and history: those come with each run."""
    empty = True
    for run in bounded(lambda: api.runs(path, filters=filters or None, per_page=LISTED), timeout):
        empty = False
        yield run
    if empty:
        raise UnreadableLog(
            "no runs there", where=path, remedy="Check the project, and the group, sweep, tag or filter."
        )


def _by_id_or_name(api: Any, entity: str, project: str, name: str, timeout: int) -> Any:
    if (run := _or_none(lambda: api.run(f"{entity}/{project}/{name}"))) is not None:
        return run
    # perhaps it is what people see, the display name
    same = _or_none(lambda: list(api.runs(f"{entity}/{project}", filters={"displayName": name}))) or []
    if len(same) > 1:
        ids = ", ".join(run.id for run in same[:5])
        raise UnreadableLog(
            f"{len(same)} runs of {entity}/{project} have this name", where=name, remedy=f"Give one of the ids: {ids}."
        )
    return same[0] if same else None


def _or_none(ask: Callable[[], T]) -> T | None:
    """What the server answers, or None where it says that there is no such thing."""
    try:
        return ask()
    except sdk_errors() as error:
        if any(sign in str(error).lower() for sign in ("not found", "could not find")):
            return None
        raise


def read_run(
    run: Any, *, timeout: int = TIMEOUT, use_cache: bool = True, every_key: bool = False, keys: Sequence[str] = ()
) -> CloudRun:
    """Complete history, config and small files of one run; what is cached and has not grown is not fetched again.

    Parameters
    ----------
    run : of `find`.
    timeout : seconds to wait for an answer.
    use_cache : whether to take and to keep what was fetched.
    every_key : all keys also of a run with hundreds of them (to write it anew).
    keys : further keys that are wanted of such a run.

    Raises
    ------
    AuditError
        nothing came in. A line that breaks later leaves what came before, and `incomplete` says so.
    """
    place = f"{run.entity}/{run.project}/{run.id}"
    with errors(place, timeout):
        config = dict(run.config)  # loads a run that was only listed
        known = getattr(run, "historyKeys", None) or {}
        last = int(known.get("lastStep", -1))
        wanted = None if every_key else _wanted(known.get("keys") or {}, keys)
        cached = _cache_path(run, last, wanted) if use_cache and run.state in _ENDED else None
    if cached is not None and (held := _from_cache(cached)) is not None:
        return held
    rows: dict[Any, dict[str, Any]] = {}
    incomplete = ""
    try:
        with errors(place, timeout):
            for number, row in enumerate(bounded(lambda: _scan(run, last, wanted), timeout)):
                # where an export and the live tail overlap, the SDK gives a row twice
                rows.setdefault(row.get("_step", f"row {number}"), {}).update(_scalars(row))
    except AuditError as error:
        if not rows:
            raise
        incomplete = f"{error.message} after {len(rows)} rows: the rest is missing"
    in_order = sorted(rows.values(), key=lambda row: row.get("_step", 0))
    result = CloudRun(
        run.entity, run.project, run.id, run.name or run.id, run.state, config, in_order, _files(run, timeout), run.url,
        getattr(run, "group", None), tuple(run.tags or ()), getattr(run, "notes", None) or "", incomplete,
    )  # fmt: skip
    if cached is not None and not incomplete:
        _to_cache(cached, result)
    return result


def _wanted(names: Iterable[str], more: Sequence[str]) -> list[str] | None:
    """Of many keys those that are read here: with a role, or an axis; None = all."""
    known = list(names)
    if len(known) <= WIDE:
        return None
    axes = {*X_AXIS, "train_runtime"}
    return [name for name in known if name in axes or name in more or roles.role_of(name) is not None]


def _scan(run: Any, last: int, wanted: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """Every row; of a run with hundreds of keys a row for each point of each wanted key, to be joined by `_step`."""
    # the SDK's cache of exports carries no content hash, so a run that grew would be read as it was
    fresh = {"use_cache": False} if "use_cache" in inspect.signature(run.scan_history).parameters else {}
    size = max(min(PAGE, last + 1), 1)
    if wanted is None:
        yield from run.scan_history(page_size=size, **fresh)
        return
    for name in wanted:
        yield from run.scan_history(keys=[name], page_size=size, **fresh)


def _scalars(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Numbers and texts of a row; dictionaries that were logged are flat, as in the local file; media are left out."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, str):
            found[prefix + key] = _FLOATS.get(value, value)
        elif isinstance(value, int | float):
            found[prefix + key] = value
        elif isinstance(value, dict) and "_type" not in value and prefix.count(".") < 8:
            found |= _scalars(value, f"{prefix}{key}.")
    return found


def _files(run: Any, timeout: int) -> dict[str, str]:
    """The package list and the machine's description: hints, and no reason to fail."""
    found: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for file in bounded(lambda: run.files(names=list(FILES), per_page=len(FILES)), timeout):
                if file.name in FILES:
                    list(bounded(lambda file=file: [file.download(root=folder, replace=True)], timeout))  # type: ignore[misc]
                    found[file.name] = Path(folder, file.name).read_text("utf-8", "replace")
    except sdk_errors():
        pass
    return found


def bounded(start: Callable[[], Iterable[T]], timeout: float) -> Iterator[T]:
    """The items of an iterable, while none keeps us waiting longer than `timeout` s; the SDK alone waits for minutes.

    Raises
    ------
    TimeoutError
        and whatever the iterable raises.
    """
    channel: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    end = StopIteration()

    def produce() -> None:
        try:
            for item in start():
                channel.put((item, None))
            channel.put((None, end))
        except BaseException as error:
            channel.put((None, error))

    threading.Thread(target=produce, daemon=True).start()
    while True:
        try:
            item, error = channel.get(timeout=timeout)
        except Empty:
            raise TimeoutError("timed out") from None
        if error is end:
            return
        if error is not None:
            raise error
        yield item  # type: ignore[misc]


# --- cache -------------------------------------------------------------------------------------------------------------


def _cache_path(run: Any, last: int, wanted: Sequence[str] | None) -> Path:
    """A file whose name tells the run, its last step and its last sign of life apart; in the user's own cache."""
    host = str(getattr(run, "url", "")).partition(f"/{run.entity}/")[0] or server()
    alive = getattr(run, "heartbeatAt", None)  # a resume that logs nothing may still change the config
    key = hashlib.sha256(
        json.dumps([1, host, run.entity, run.project, run.id, last, run.state, alive]).encode()
    ).hexdigest()
    return cache_dir("wandb") / f"{key[:32]}.json.gz"


def _from_cache(path: Path) -> CloudRun | None:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as f:
            held: Mapping[str, Any] = json.load(f)
        return CloudRun(**{**held, "tags": tuple(held["tags"])})
    except (OSError, ValueError, TypeError, KeyError, EOFError):
        return None  # absent or damaged: fetched again


def _to_cache(path: Path, run: CloudRun) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")  # readable by the user alone
        with os.fdopen(handle, "wb") as raw, gzip.open(raw, "wt", encoding="utf-8", compresslevel=3) as f:
            json.dump(asdict(run), f)
        Path(name).replace(path)
    except (OSError, TypeError):
        pass  # a full or read-only disk costs the next call a fetch, nothing else
