"""Every way in which people name a W&B run, project, group, sweep or report, as one value.

Taken: `ab12cd34`, `project/ab12cd34`, `entity/project/ab12cd34`, `wandb://...` of each, and the URLs that a browser
shows: run, workspace, sweep, group and report pages, of wandb.ai or of a server of one's own. A bare id may also name a
run directory of this machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

_RUN_ID = re.compile(r"[a-zA-Z0-9_-]{4,128}$")
_GENERATED_ID = re.compile(r"[a-z0-9]{8}$")  # what the SDK makes when nobody chooses an id
_PART = re.compile(r"[^/?#:\\\x00-\x1f]+$")  # display names hold blanks
_PAGES = frozenset({"runs", "workspace", "sweeps", "groups", "reports", "table", "artifacts", "charts", "overview"})
_LOG_NAME = re.compile(  # a file, in whatever place: no run is named so
    r"\.(jsonl?|ndjson|log|txt|out|err|csv|tsv|wandb|ya?ml|toml|db|sqlite3?|parquet|arrow|md|html|ipynb|py|sh|bin|pt|pth|ckpt"
    r"|pkl|npz|safetensors|gz|bz2|xz|zst|zip|tar|tgz)(/|$)|(^|/)events\.out\.tfevents", re.IGNORECASE,
)  # fmt: skip
SAAS = "https://api.wandb.ai"  # the SDK knows the address that it has today
_SAAS_HOSTS = frozenset({"wandb.ai", "www.wandb.ai", "app.wandb.ai", "forge.coreweave.com"})


@dataclass(frozen=True, slots=True)
class Address:
    """A run, or a set of runs of one project."""

    entity: str | None = None  # None: the default entity
    project: str | None = None  # None: the default project
    run: str | None = None  # id or display name; None: several runs
    group: str | None = None
    sweep: str | None = None
    tag: str | None = None
    base_url: str | None = None  # None: the server of the settings
    certain: bool = True  # False: it may as well be a path that does not exist

    @property
    def is_run(self) -> bool:
        """Whether it names one run."""
        return self.run is not None

    def __str__(self) -> str:
        parts = [quote(p, safe=" ") for p in (self.entity, self.project, self.run) if p]
        if self.base_url is not None and self.entity and self.project:
            host = "https://wandb.ai" if self.base_url == SAAS else self.base_url
            pages = (("runs", self.run), ("groups", self.group), ("sweeps", self.sweep))
            page = next(((name, quote(value, safe=" ")) for name, value in pages if value), ())
            return "/".join([host, *parts[:2], *page])
        query = "&".join(f"{k}={quote(v)}" for k in ("group", "sweep", "tag") if (v := getattr(self, k)))
        return "wandb://" + "/".join(parts) + (f"?{query}" if query else "")


def parse(text: str) -> Address | None:
    """The address that a text gives, or None where it cannot be one."""
    if text.startswith(("http://", "https://")):
        return _from_url(text)
    if text.partition("/")[0] in _SAAS_HOSTS and "/" in text:
        return _from_url(f"https://{text}")
    if text.startswith("wandb://"):
        return _from_path(text.removeprefix("wandb://"), certain=True)
    return None if _is_path(text) else _from_path(text, certain=False)


def _is_path(text: str) -> bool:
    """Whether the form alone says so: `./x`, `a/../b`, `dir/`, `x.json`, a backslash, `*`; so does an option or a URL."""
    path, _, query = text.partition("?")
    return (
        text.startswith((".", "/", "~", "-")) or path.endswith("/") or ".." in path.split("/")
        or any(sign in text for sign in ("\\", "://")) or "*" in path or ("?" in text and "=" not in query)
        or _LOG_NAME.search(path) is not None
    )  # fmt: skip


def _from_path(text: str, *, certain: bool) -> Address | None:
    path, _, query = text.partition("?")
    parts = [unquote(p) for p in path.strip("/").split("/") if p]
    chosen = {k: v[-1] for k, v in parse_qs(query).items() if k in {"group", "sweep", "tag"}}
    if query and not chosen:
        return None
    if len(parts) == 4 and parts[2] in {"runs", "sweeps", "groups"}:  # as the SDK prints paths
        chosen |= {parts[2].removesuffix("s"): parts[3]}
        parts = parts[:2]
    if not parts or len(parts) > 3 or not all(_PART.match(p) and p.strip(". ") for p in parts):
        return None
    if chosen:
        if len(parts) > 2:
            return None
        entity, project = parts if len(parts) == 2 else (None, parts[0])
        return Address(entity, project, certain=certain or bool(query), **chosen)
    if len(parts) == 1:
        # a bare word is an id only where it looks like one: `runs` or `model.json` are missing paths
        fits = _GENERATED_ID if not certain else _RUN_ID
        return Address(run=parts[0], certain=certain) if fits.match(parts[0]) else None
    if len(parts) == 2:
        return Address(project=parts[0], run=parts[1], certain=certain)
    return Address(parts[0], parts[1], parts[2], certain=certain)


def _from_url(text: str) -> Address | None:
    try:
        url = urlsplit(text)
        host = url.hostname
    except ValueError:  # an IPv6 address without its bracket, say
        return None
    parts = [unquote(p) for p in url.path.split("/") if p]
    if host == "forge.coreweave.com" and parts[:1] == ["wandb"]:
        parts = parts[1:]
    if len(parts) < 2 or host is None or not all(_PART.match(p) and p.strip(". ") for p in parts[:4]):
        return None
    # credentials inside a URL are neither used nor shown
    base = SAAS if host in _SAAS_HOSTS else f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    entity, project, *rest = parts
    page, inside = (rest[0], rest[1:]) if rest and rest[0] in _PAGES else ("", [])
    if inside and page in {"runs", "sweeps", "groups"}:
        return Address(entity, project, base_url=base, **{page.removesuffix("s"): inside[0]})  # type: ignore[arg-type]
    if rest and not page and base != SAAS:
        return None  # a page of some other site
    # a workspace, a table or a report shows runs of the project
    return Address(entity, project, base_url=base)


# --- this machine ----------------------------------------------------------------------------------------------------


def local_places() -> list[Path]:
    """Where the SDK keeps runs on this machine: `./wandb`, and `wandb` below WANDB_DIR."""
    own = os.environ.get("WANDB_DIR")
    return [Path("wandb"), *([Path(own).expanduser() / "wandb"] if own else [])]


def local_runs(text: str) -> list[Path]:
    """Directories of a bare run id on this machine, oldest first; a resumed run has several."""
    if not _RUN_ID.match(text):
        return []
    for place in local_places():
        if found := sorted(p for p in place.glob(f"*run-*-{text}") if p.is_dir() and any(p.glob("run-*.wandb"))):
            return found
    return []
