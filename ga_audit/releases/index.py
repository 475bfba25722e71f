"""The releases of a package, from the package index that pip uses.

The list is read from the index's JSON API (PEP 691, upload times by PEP 700), cached for a day, and read from an older
cache where the index cannot be reached. Without either, the known releases are all there is, and the listing says so.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from ga_audit.errors import WrongUsage
from ga_audit.files.cache import cache_dir
from ga_audit.releases.packages import packages

PYPI = "https://pypi.org/simple"
DAY = 24 * 3600.0
TIMEOUT = 30.0
LARGEST = 64 * 2**20  # bytes of an answer


class Source(StrEnum):
    """Where a list of releases comes from."""

    INDEX = "index"
    CACHE = "cache"  # of an index that cannot be reached now
    KNOWN = "known"  # the table of ga-audit alone: there may be others


@dataclass(frozen=True, slots=True)
class Release:
    """A final release that is not yanked."""

    version: str
    uploaded: datetime | None = None  # its first file


@dataclass(frozen=True, slots=True)
class Listing:
    """The releases of a package, ascending.

    Attributes
    ----------
    package : its name.
    releases : ascending.
    source : where they come from.
    why : why it is not the index; empty where it is.
    """

    package: str
    releases: tuple[Release, ...]
    source: Source
    why: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether a release that is not listed does not exist, as far as an index has said."""
        return self.source is not Source.KNOWN

    def between(self, first: str, last: str) -> tuple[str, ...]:
        """The releases from `first` to `last`, both ends included even if they are not listed.

        Raises
        ------
        WrongUsage
            An end is not a release, or the first is newer than the last.
        """
        try:
            low, high = Version(first), Version(last)
        except InvalidVersion as error:
            raise WrongUsage(f"{error}", remedy="Give releases such as 4.45.2.") from error
        if low > high:
            message = f"--from {first} is newer than --to {last}"
            raise WrongUsage(message, remedy="Give the older one first.")
        listed = {Version(release.version): release.version for release in self.releases}
        ends = {low: listed.get(low, first), high: listed.get(high, last)}  # 4.48 is 4.48.0
        found = ends | {v: text for v, text in listed.items() if low <= v <= high}
        return tuple(found[version] for version in sorted(found))

    def newest_on(self, day: datetime) -> str | None:
        """The newest release that was uploaded by a moment; None where upload times are not known."""
        held = [r.version for r in self.releases if r.uploaded is not None and r.uploaded <= day]
        return max(held, key=Version, default=None)

    def uploaded(self, release: str) -> datetime | None:
        """When a release was uploaded; None where that is not known."""
        asked = Version(release)
        return next((r.uploaded for r in self.releases if Version(r.version) == asked), None)


def listing(package: str, *, cache: Path | None = None, now: float | None = None) -> Listing:
    """The releases of a package.

    Parameters
    ----------
    package : its name.
    cache : folder of the cached answers; the user's own by default.
    now : seconds since 1970.
    """
    name = canonicalize_name(package)
    place = (cache or cache_dir("index")) / f"{name}.json"
    now = time.time() if now is None else now
    kept = _kept(place)
    if kept is not None and now - kept[0] < DAY:
        return Listing(name, kept[1], Source.INDEX)
    try:
        found = _fetch(name)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = f"the package index cannot be read: {_reason(error)}"
        if kept is not None:
            day = f"{datetime.fromtimestamp(kept[0], UTC):%Y-%m-%d}"
            return Listing(name, kept[1], Source.CACHE, f"{why}; this is the list of {day}")
        known = packages().get(name)
        return Listing(name, tuple(map(Release, known.releases if known else ())), Source.KNOWN, why)
    _keep(place, found, now)
    return Listing(name, found, Source.INDEX)


def _reason(error: Exception) -> str:
    """Why a request failed, without the address: it may hold a password."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__ if isinstance(error, subprocess.SubprocessError) else str(error)


def index_url() -> str:
    """The index that pip or uv is configured to use."""
    for variable in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if url := os.environ.get(variable):
            return url
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    return done.stdout.strip() or PYPI


def _fetch(name: str) -> tuple[Release, ...]:
    """The releases by the index's JSON API, or by `pip index versions` where it has none."""
    answer = _get(f"{index_url().rstrip('/')}/{name}/")
    if answer is not None:
        return read_files(answer.get("files", ()))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", name],
        capture_output=True, text=True, check=False, timeout=4 * TIMEOUT,
    )  # fmt: skip
    line = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    if line is None:
        raise ValueError("neither its JSON API nor `pip index versions` lists the package")
    return tuple(sorted(map(Release, line[1].split(", ")), key=lambda r: Version(r.version)))


def _get(url: str) -> Mapping[str, Any] | None:
    """The JSON answer of an index; None if it answers in another form."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("https", "http"):
        return None
    host = parts.hostname or ""
    place = f"[{host}]" if ":" in host else host
    address = parts._replace(netloc=f"{place}:{parts.port}" if parts.port else place).geturl()
    headers = {"Accept": "application/vnd.pypi.simple.v1+json", "User-Agent": "ga-audit"}
    if parts.username is not None:
        words = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(words.encode()).decode()}"
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 (its scheme is checked)
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
    with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as reply:  # noqa: S310
        if "json" not in reply.headers.get("Content-Type", ""):
            return None
        text = reply.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError("its answer is too large")
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError("its answer is not a PEP 691 document")
    return answer


def read_files(files: Sequence[Mapping[str, Any]]) -> tuple[Release, ...]:
    """The final releases with a file that is not yanked, ascending."""
    found: dict[Version, datetime | None] = {}
    for file in files:
        version = _version(str(file.get("filename", "")))
        if version is None or file.get("yanked") or version.is_prerelease:
            continue
        uploaded = _moment(file.get("upload-time"))
        first = found.get(version)
        found[version] = min(filter(None, (first, uploaded)), default=None)
    return tuple(Release(str(version), found[version]) for version in sorted(found))


def _version(filename: str) -> Version | None:
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        return parse_sdist_filename(filename)[1]
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _kept(place: Path) -> tuple[float, tuple[Release, ...]] | None:
    """When a list was read, and the list; None where there is no valid one."""
    try:
        held = json.loads(place.read_text("utf-8"))
        rows = tuple(Release(str(v), _moment(at) if at else None) for v, at in held["releases"])
        return float(held["read"]), rows
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(place: Path, found: Sequence[Release], now: float) -> None:
    rows = [(r.version, r.uploaded.isoformat() if r.uploaded else None) for r in found]
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"read": now, "releases": rows}), "utf-8")
        part.replace(place)
    except OSError:
        return  # the next call reads the index again


def companions(package: str, release: str, names: Sequence[str], *, cache: Path | None = None) -> dict[str, str]:
    """The releases of other packages that pip would have chosen on the day of a release: the newest of that day.

    Parameters
    ----------
    package, release : what was released.
    names : the other packages.
    cache : as in `listing`.

    Returns
    -------
    Nothing for a package whose upload times are not known.
    """
    day = listing(package, cache=cache).uploaded(release)
    if day is None:
        return {}
    found = {name: listing(name, cache=cache).newest_on(day) for name in names}
    return {name: version for name, version in found.items() if version is not None}
