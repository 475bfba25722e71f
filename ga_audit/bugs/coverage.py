"""What is known of a release: measured, in the reach of the catalogue, or nothing.

That no bug is known of a release says something only where somebody looked: `measured.json` names the releases that were
installed and trained. It is made of `tests/repro/releases.json` by `pytest tests/repro/test_releases.py --update-golden`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ga_audit.bugs import catalogue


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is known of one release.

    Attributes
    ----------
    package, release : as asked, the name in its canonical form.
    measured : the month in which it was measured, `2026-11`; None where it was not.
    why_unknown : why nothing can be said of it; None where something can.
    """

    package: str
    release: str
    measured: str | None = None
    why_unknown: str | None = None

    @property
    def sentence(self) -> str:
        """What no known bug means here."""
        if self.why_unknown:
            return f"nothing is known of it: {self.why_unknown}"
        if self.measured:
            return f"no known bug (measured {self.measured} on {self.package} {self.release})"
        return f"no known bug, but this release was not measured{_nearest(self.package, self.release)}"


@cache
def measured() -> Mapping[str, Mapping[str, str]]:
    """The releases that were measured: package, release, month."""
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
        close = difflib.get_close_matches(name, sorted(packages()), 1)
        hint = f"; did you mean {close[0]}?" if close else f" ({', '.join(sorted(packages()))} are known)"
        return Coverage(
            name, release, why_unknown=f"no bug of a package {package} is known, and none was looked for{hint}"
        )
    known = {Version(text): text for text in measured().get(name, ())}
    asked = Version(release)
    if asked in known:
        return Coverage(name, release, measured=measured()[name][known[asked]])
    if known and asked > (newest := max(known)):
        why = f"it is newer than {known[newest]}, the newest that was measured"
        return Coverage(name, release, why_unknown=why)
    return Coverage(name, release)


def _nearest(package: str, release: str) -> str:
    """The measured releases on both sides of one."""
    from packaging.version import Version

    asked, known = Version(release), sorted(measured().get(package, ()), key=Version)
    below = [text for text in known if Version(text) < asked][-1:]
    above = [text for text in known if Version(text) > asked][:1]
    return f" (the nearest that were: {', '.join(below + above)})" if below + above else ""


def installed() -> Iterator[tuple[str, str]]:
    """The packages of this environment of which anything is known, and their releases."""
    from importlib import metadata

    for name in sorted(packages()):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
