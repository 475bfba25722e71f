"""Runs of a W&B server through the SDK: complete history, a private cache, clear errors.

The history is always scanned, never sampled (`run.history()` returns 500 rows of any run), and without a list of keys,
since a scan for several keys returns only the rows that hold all of them: train and eval rows never share one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ga_audit.errors import AuditError, MissingSetting, UnreadableLog
from ga_audit.formats._wandb_address import Address

PAGE = 10_000  # steps per page: the largest that the server answers in one piece
TIMEOUT = 60
_FINISHED = frozenset({"finished", "crashed", "failed", "killed"})


@dataclass(frozen=True, slots=True)
class CloudRun:
    """What the server holds of one run."""

    entity: str
    project: str
    id: str
    name: str
    state: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    requirements: str = ""
    url: str = ""
    group: str | None = None
    tags: tuple[str, ...] = ()
    incomplete: str = ""  # why rows are missing, where some are
    extra: dict[str, Any] = field(default_factory=dict)


def fetch(address: Address, *, timeout: int = TIMEOUT, use_cache: bool = True) -> Iterator[CloudRun]:
    """Every run that an address names.

    Raises
    ------
    AuditError
        not logged in, no such run or project, no answer from the server; with what was tried.
    """
    api = connect(address.base_url, timeout)
    with _errors(str(address), timeout):
        found = list(_runs(api, address))
    for run in found:
        yield read_run(run, timeout=timeout, use_cache=use_cache)


def connect(base_url: str | None, timeout: int) -> Any:
    """A logged-in `wandb.Api`; never prompts."""
    import wandb

    host = base_url or os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    if not _has_key(host):
        raise MissingSetting(
            "no W&B API key for this server",
            where=host,
            remedy="Run `wandb login` once, or set WANDB_API_KEY; for a local run give its directory (wandb/run-...).",
        )
    os.environ.setdefault("WANDB_SILENT", "true")
    with _errors(host, timeout):
        return wandb.Api(overrides={"base_url": base_url} if base_url else None, timeout=timeout)


def _has_key(host: str) -> bool:
    import netrc
    from urllib.parse import urlsplit

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    name = urlsplit(host).hostname or host
    for file in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        if file and Path(file).expanduser().is_file():
            try:
                if netrc.netrc(str(Path(file).expanduser())).authenticators(name):
                    return True
            except (netrc.NetrcParseError, OSError):
                continue
    return False


def _runs(api: Any, address: Address) -> Iterator[Any]:
    """The SDK's run objects of an address: by id, then by display name, then all that the filters let through."""
    entity = address.entity or api.settings.get("entity") or api.default_entity
    project = address.project or api.settings.get("project")
    if not project:
        raise MissingSetting(
            "the project of the run is not known",
            where=str(address),
            remedy="Name it as entity/project/run, or set WANDB_PROJECT.",
        )
    if address.run is not None:
        try:
            yield _by_id_or_name(api, entity, project, address.run)
            return
        except UnreadableLog as error:
            # `a/b` may be a run of project a, or project b of entity a
            if address.entity is not None or address.project is None:
                raise
            as_project = _found(lambda: list(api.runs(f"{address.project}/{address.run}", lazy=False)))
            if not as_project:
                raise UnreadableLog(
                    f"{error.message}; nor is it a project of {address.project}", where=error.where, remedy=error.remedy
                ) from None
            yield from as_project
            return
    filters: dict[str, Any] = {}
    if address.group:
        filters["group"] = address.group
    if address.sweep:
        filters["sweep"] = address.sweep
    if address.tag:
        filters["tags"] = {"$in": [address.tag]}
    found = api.runs(f"{entity}/{project}", filters=filters or None, lazy=False)
    empty = True
    for run in found:
        empty = False
        yield run
    if empty:
        raise UnreadableLog(
            "no runs there", where=f"{entity}/{project}", remedy="Check the project, and the group, sweep or tag."
        )


def _by_id_or_name(api: Any, entity: str, project: str, name: str) -> Any:
    if (run := _found(lambda: api.run(f"{entity}/{project}/{name}"))) is not None:
        return run
    # perhaps it is what people see, the display name
    same = _found(lambda: list(api.runs(f"{entity}/{project}", filters={"display_name": name}, lazy=False))) or []
    if len(same) == 1:
        return same[0]
    tried = f"tried as an id and as a display name in {entity}/{project}"
    if same:
        ids = ", ".join(run.id for run in same[:5])
        raise UnreadableLog(
            f"{len(same)} runs have this name ({tried})", where=name, remedy=f"Give one of the ids: {ids}."
        )
    raise UnreadableLog(f"no such run ({tried})", where=name, remedy="Copy the run's URL from the browser.")


def _found(ask: Callable[[], Any]) -> Any:
    """What the server answers, or None where it says that there is no such thing."""
    from wandb.errors import CommError

    try:
        return ask()
    except (CommError, ValueError) as error:  # RunNotFoundError is a ValueError
        if any(sign in str(error).lower() for sign in ("not found", "could not find")):
            return None
        raise


def read_run(run: Any, *, timeout: int = TIMEOUT, use_cache: bool = True) -> CloudRun:
    """Complete history, config and package list of one run; what is cached and finished is not fetched again."""
    place = f"{run.entity}/{run.project}/{run.id}"
    with _errors(place, timeout):
        last = int(run.lastHistoryStep)
        cached = _cache_path(run, last) if use_cache and run.state in _FINISHED else None
        if cached is not None and (held := _from_cache(cached)) is not None:
            return held
        config = dict(run.config)
    rows: list[dict[str, Any]] = []
    incomplete = ""
    try:
        with _errors(place, timeout):
            # the server's own cache of exports carries no content hash, so a run that grew would be read as it was
            for row in run.scan_history(page_size=max(min(PAGE, last + 1), 1), use_cache=False):
                rows.append({k: v for k, v in row.items() if isinstance(v, int | float | str) or v is None})
    except AuditError as error:
        if not rows:
            raise
        incomplete = f"the connection broke after {len(rows)} rows: {error.message}"
    result = CloudRun(
        entity=run.entity, project=run.project, id=run.id, name=run.name or run.id, state=run.state, config=config,
        rows=rows, requirements=_requirements(run), url=run.url, group=run.group, tags=tuple(run.tags or ()),
        incomplete=incomplete,
    )  # fmt: skip
    if cached is not None and not incomplete:
        _to_cache(cached, result)
    return result


def _requirements(run: Any) -> str:
    """The run's pip freeze, or nothing: it is a hint, and no reason to fail."""
    import tempfile

    try:
        with tempfile.TemporaryDirectory() as folder:
            file = run.file("requirements.txt").download(root=folder, replace=True)
            return Path(file.name).read_text("utf-8", "replace")
    except Exception:
        return ""


def _cache_path(run: Any, last: int) -> Path:
    top = Path(os.environ.get("GA_AUDIT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser())
    base = os.environ.get("WANDB_BASE_URL", "")
    key = hashlib.sha256(json.dumps([base, run.entity, run.project, run.id, last, run.state]).encode()).hexdigest()
    return top / "ga-audit" / "wandb" / f"{key[:32]}.json.gz"


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
        part = path.with_suffix(f".{os.getpid()}.part")
        with gzip.open(part, "wt", encoding="utf-8", compresslevel=3) as f:
            json.dump(asdict(run), f)
        part.chmod(0o600)
        part.replace(path)
    except OSError:
        pass  # a full or read-only disk costs the next call a fetch, nothing else


@contextmanager
def _errors(place: str, timeout: int) -> Iterator[None]:
    """Turn what the SDK raises into an AuditError that says what to do; keys are never in the text."""
    from wandb.errors import Error

    try:
        yield
    except AuditError:
        raise
    except (Error, ValueError, OSError, TimeoutError) as error:
        raise _explained(str(error), place, timeout) from None


def _explained(text: str, place: str, timeout: int) -> AuditError:
    low = text.lower()
    for signs, message, remedy in (
        (("401", "relogin", "invalid api key", "not authenticated"), "the server refused the API key",
         "Run `wandb login --relogin`, or check WANDB_API_KEY and WANDB_BASE_URL."),
        (("403", "permission denied", "forbidden"), "you have no permission to read this",
         "Ask the owner for access, or log in with another account."),
        (("404", "not found", "could not find"), "there is no such run or project on the server",
         "Copy the run's URL from the browser."),
        (("429", "rate limit"), "the server limits the rate of requests", "Wait a minute and call again."),
        (("timed out", "timeout", "deadline"), f"no answer within {timeout} s",
         "Check the connection, or give a longer --timeout."),
        (("connection", "refused", "network", "unreachable", "eof"), "the server cannot be reached",
         "Check the connection and WANDB_BASE_URL, or audit the local run directory (wandb/run-...)."),
    ):  # fmt: skip
        if any(sign in low for sign in signs):
            return UnreadableLog(message, where=place, remedy=remedy)
    return UnreadableLog(
        f"W&B: {text[:200]}", where=place, remedy="Try `wandb login`, or audit the local run directory."
    )
