"""Packages that can be bisected: their releases, and what stands beside a release; the table is `packages.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.version import InvalidVersion, Version

from ga_audit.errors import AuditError


@dataclass(frozen=True, slots=True)
class Package:
    """One package."""

    name: str
    engine: str
    variants: tuple[str, ...]  # measured when none are asked for
    releases: tuple[str, ...]  # known, ascending
    beside: tuple[Mapping[str, str], ...] = ()  # {"since": release, other package: its release}, ascending
    needs: tuple[str, ...] = ()  # requirements of any release

    def beside_of(self, release: str) -> dict[str, str]:
        """The releases of other packages that stand beside this release."""
        fitting = [row for row in self.beside if Version(row["since"]) <= Version(release)]
        return {name: value for name, value in fitting[-1].items() if name != "since"} if fitting else {}


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(Path(__file__).with_name("packages.toml").read_text("utf-8"))


@cache
def packages() -> Mapping[str, Package]:
    """Every package that can be bisected, by name."""
    tables = {name: values for name, values in _table().items() if name != "install"}
    return {
        name: Package(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})  # type: ignore[arg-type]
        for name, values in tables.items()
    }


def without_dependencies(requirement: str) -> bool:
    """Whether the package is installed without its dependencies, which would pull another torch."""
    return requirement.partition("==")[0] in _table()["install"]["without_dependencies"]


def between(first: str, last: str, package: str = "transformers") -> tuple[str, ...]:
    """The known releases from `first` to `last`, both ends included, ascending.

    Raises
    ------
    AuditError
        an end is no release, or the first is newer than the last.
    """
    try:
        low, high = Version(first), Version(last)
    except InvalidVersion as error:
        raise AuditError(f"{error}", remedy="Give releases such as 4.45.2.") from error
    if low > high:
        raise AuditError(f"--from {first} is newer than --to {last}")
    known = packages()[package].releases
    return tuple(sorted({first, last, *(r for r in known if low <= Version(r) <= high)}, key=Version))


def requirements(package: str, release: str, pins: Sequence[str] = ()) -> tuple[str, ...]:
    """The release and the packages of its time that it needs beside it; `pins` ("transformers==4.49.0") win.

    Raises
    ------
    AuditError
        a pin is not PACKAGE==RELEASE.
    """
    if bad := [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)]:
        raise AuditError(f"{bad[0]!r} is not PACKAGE==RELEASE", remedy="Write e.g. --with transformers==4.49.0.")
    known = packages()
    chosen = {package: release, **known[package].beside_of(release)}
    chosen |= {name: value for name, _, value in (pin.partition("==") for pin in pins)}
    for name, value in tuple(chosen.items()):
        for other, its in known[name].beside_of(value).items() if name in known else ():
            chosen.setdefault(other, its)
    needs = dict.fromkeys(need for name in chosen if name in known for need in known[name].needs)
    return (*(f"{name}=={value}" for name, value in chosen.items()), *needs)
