"""What is known of a release: measured, in the reach of the catalogue, or nothing.

That no bug is known of a release says something only where somebody looked: `measured.json` names the releases that were
installed and trained. It is made of `tests/repro/releases.json` by `pytest tests/repro/test_releases.py --update-golden`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from ga_audit.bugs import catalogue


class Unknown(StrEnum):
    """Why nothing can be said about a release."""

    NO_SUCH_PACKAGE = "no such package"
    NEWER = "newer than what was measured"


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is known of one release.

    Attributes
    ----------
    package, release : as asked, the name in its canonical form.
    measured : the month in which it was measured, `2026-11`; None where it was not.
    unknown : why nothing can be said of it; None where something can.
    near : the measured releases on both sides of one that was not measured; of a newer release, the newest measured
        one; of an unknown package, the known packages that it may have been meant to be.
    asked : the name of the package as it was given.
    """

    package: str
    release: str
    measured: str | None = None
    unknown: Unknown | None = None
    near: tuple[str, ...] = ()
    asked: str = ""


@cache
def measured() -> Mapping[str, Mapping[str, str]]:
    """The releases that were measured: package, release, month."""
    from importlib import resources

    table: dict[str, dict[str, str]] = json.loads(
        (resources.files("ga_audit.bugs") / "measured.json").read_text("utf-8")
    )
    return table


def packages() -> frozenset[str]:
    """The packages of which anything is known."""
    return catalogue.packages() | measured().keys()


def look_up(package: str, release: str) -> Coverage:
    """What is known of a release of a package."""
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    name = canonicalize_name(package)
    if name not in packages():
        close = tuple(difflib.get_close_matches(name, sorted(packages()), 1))
        return Coverage(name, release, unknown=Unknown.NO_SUCH_PACKAGE, near=close, asked=package)
    known = {Version(text): text for text in measured().get(name, ())}
    asked = Version(release)
    if asked in known:
        return Coverage(name, release, measured=measured()[name][known[asked]], asked=package)
    if known and asked > (newest := max(known)):
        return Coverage(name, release, unknown=Unknown.NEWER, near=(known[newest],), asked=package)
    below = [known[v] for v in sorted(known) if v < asked][-1:]
    above = [known[v] for v in sorted(known) if v > asked][:1]
    return Coverage(name, release, near=(*below, *above), asked=package)


def installed() -> Iterator[tuple[str, str]]:
    """The packages of this environment of which anything is known, and their releases."""
    from importlib import metadata

    for name in sorted(packages()):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
