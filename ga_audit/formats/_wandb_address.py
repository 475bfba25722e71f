"""Every way in which people name a W&B run, project, group, sweep or report, as one value.

Taken: `ab12cd34`, `project/ab12cd34`, `entity/project/ab12cd34`, `wandb://...` of each, and the URLs that a browser
shows: run, workspace, sweep, group and report pages, of wandb.ai or of a server of one's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

_RUN_ID = re.compile(r"[a-zA-Z0-9_-]{4,128}$")
_GENERATED_ID = re.compile(r"[a-z0-9]{8}$")  # what the SDK makes when nobody chooses an id
_PART = re.compile(r"[^/?#:\\\x00-\x1f]+$")  # display names hold blanks
_PAGES = frozenset({"runs", "workspace", "sweeps", "groups", "reports", "table", "artifacts", "charts", "overview"})


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
        parts = [p for p in (self.entity, self.project, self.run) if p]
        query = "&".join(f"{k}={v}" for k in ("group", "sweep", "tag") if (v := getattr(self, k)))
        return "wandb://" + "/".join(parts) + (f"?{query}" if query else "")


def parse(text: str) -> Address | None:
    """The address that a text gives, or None where it cannot be one."""
    if text.startswith(("http://", "https://")):
        return _from_url(text)
    if text.startswith("wandb://"):
        return _from_path(text.removeprefix("wandb://"), certain=True)
    if "\\" in text or text.startswith((".", "/", "~", "-")) or text.endswith("/"):
        return None
    return _from_path(text, certain=False)


def _from_path(text: str, *, certain: bool) -> Address | None:
    path, _, query = text.partition("?")
    parts = [unquote(p) for p in path.strip("/").split("/") if p]
    chosen = {k: v[-1] for k, v in parse_qs(query).items() if k in {"group", "sweep", "tag"}}
    if query and not chosen:
        return None
    if not parts or len(parts) > 3 or not all(_PART.match(p) for p in parts):
        return None
    if chosen:
        entity, project = parts if len(parts) == 2 else (None, parts[0])
        return Address(entity, project, certain=True, **chosen)
    if len(parts) == 1:
        # a bare word is an id only where it looks like one: `runs` or `model.json` are missing paths
        fits = _GENERATED_ID if not certain else _RUN_ID
        return Address(run=parts[0], certain=certain) if fits.match(parts[0]) else None
    if len(parts) == 2:
        return Address(project=parts[0], run=parts[1], certain=certain)
    return Address(parts[0], parts[1], parts[2], certain=certain)


def _from_url(text: str) -> Address | None:
    url = urlsplit(text)
    parts = [unquote(p) for p in url.path.split("/") if p]
    if len(parts) < 2:
        return None
    base = f"{url.scheme}://{url.netloc}" if url.hostname not in {"wandb.ai", "www.wandb.ai"} else None
    entity, project, *rest = parts
    if not rest or rest[0] not in _PAGES:
        return Address(entity, project, base_url=base)
    page, *inside = rest
    if page == "runs" and inside:
        return Address(entity, project, inside[0], base_url=base)
    if page == "sweeps" and inside:
        return Address(entity, project, sweep=inside[0], base_url=base)
    if page == "groups" and inside:
        return Address(entity, project, group=inside[0], base_url=base)
    # a workspace, a table or a report shows runs of the project
    return Address(entity, project, base_url=base)
