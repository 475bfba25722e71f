"""Packages that can be bisected: their known releases and the companions of each; the table is `packages.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ga_audit.errors import WrongUsage


@dataclass(frozen=True, slots=True)
class Package:
    """One package."""

    name: str
    engine: str
    variants: tuple[str, ...]  # measured when none are asked for
    releases: tuple[str, ...]  # known, ascending
    companions: tuple[Mapping[str, str], ...] = ()  # {"since": release, other package: its release}, ascending
    needs: tuple[str, ...] = ()  # requirements of any release

    def companions_of(self, release: str) -> dict[str, str]:
        """The releases of other packages that are installed with this release."""
        fitting = [row for row in self.companions if Version(row["since"]) <= Version(release)]
        return {name: value for name, value in fitting[-1].items() if name != "since"} if fitting else {}


@cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("packages.toml").read_text("utf-8"))


@cache
def packages() -> Mapping[str, Package]:
    """Every package that can be bisected, by name."""
    tables = {name: values for name, values in _table().items() if name != "install"}
    return {name: _package(name, values) for name, values in tables.items()}


def _package(name: str, values: Mapping[str, Any]) -> Package:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Package(name, **fields)


def without_dependencies(requirement: str) -> bool:
    """Whether the package is installed without its dependencies, which would pull another torch."""
    return requirement.partition("==")[0] in _table()["install"]["without_dependencies"]


def install_environment() -> dict[str, str]:
    """Environment variables that an installer is run with."""
    return dict(_table()["install"]["environment"])


def between(first: str, last: str, package: str = "transformers") -> tuple[str, ...]:
    """The known releases from `first` to `last`, both ends included, ascending.

    Raises
    ------
    WrongUsage
        an end is no release, or the first is newer than the last.
    """
    try:
        low, high = Version(first), Version(last)
    except InvalidVersion as error:
        raise WrongUsage(f"{error}", remedy="Give releases such as 4.45.2.") from error
    if low > high:
        raise WrongUsage(f"--from {first} is newer than --to {last}", remedy="Give the older one first.")
    known = {Version(text): text for text in packages()[package].releases}
    asked = {low: known.get(low, first), high: known.get(high, last)}  # 4.48 is 4.48.0
    found = {
        **asked,
        **{version: text for version, text in known.items() if low <= version <= high},
    }
    return tuple(found[version] for version in sorted(found))


def requirements(package: str, release: str, pins: Sequence[str] = ()) -> tuple[str, ...]:
    """The release and its companions of the same time; `pins` ("transformers==4.49.0") win.

    Raises
    ------
    WrongUsage
        a pin is not PACKAGE==RELEASE, or it pins the package itself.
    """
    if bad := [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)]:
        raise WrongUsage(f"{bad[0]!r} is not PACKAGE==RELEASE", remedy="Write e.g. --with transformers==4.49.0.")
    if itself := [pin for pin in pins if canonicalize_name(pin.partition("==")[0]) == canonicalize_name(package)]:
        raise WrongUsage(
            f"--with {itself[0]} would replace the releases that are measured",
            remedy="Give it with --from and --to.",
        )
    known = packages()
    chosen = {package: release, **known[package].companions_of(release)}
    chosen |= {name: value for name, _, value in (pin.partition("==") for pin in pins)}
    for name, value in tuple(chosen.items()):
        for other, its in known[name].companions_of(value).items() if name in known else ():
            chosen.setdefault(other, its)
    needs = dict.fromkeys(need for name in chosen if name in known for need in known[name].needs)
    return (*(f"{name}=={value}" for name, value in chosen.items()), *needs)
