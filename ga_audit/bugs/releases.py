"""Ranges of releases as the catalogue writes them: PEP 440 specifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ga_audit.errors import WrongUsage


def parse_requirement(text: str) -> tuple[str, str]:
    """Package and release of `NAME==RELEASE`.

    Raises
    ------
    WrongUsage
        another form, or no release.
    """
    from packaging.version import InvalidVersion, Version

    name, sign, release = (part.strip() for part in text.partition("=="))
    remedy = "Write e.g. --package transformers==4.46.1."
    if not sign or not re.fullmatch(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", name):
        raise WrongUsage(f"{text!r} is not NAME==RELEASE", remedy=remedy)
    try:
        Version(release)
    except InvalidVersion:
        raise WrongUsage(f"{release!r} of {text!r} is no release", remedy=remedy) from None
    return name, release


def within(specifier: str, release: str) -> bool:
    """Whether a release meets a specifier; development versions count as the release that they lead to."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        version = Version(release)
    except InvalidVersion:
        return False
    return SpecifierSet(specifier).contains(version.base_version, prereleases=True)


def exactly(release: str) -> str | None:
    """The range of one release, a development version as the release that it leads to; None where it is no release."""
    from packaging.version import InvalidVersion, Version

    try:
        return f"=={Version(release).base_version}"
    except InvalidVersion:
        return None


def union(specifiers: Iterable[str]) -> list[str]:
    """The ranges, the oldest first, without those that lie in another one."""
    told = sorted(set(specifiers), key=oldest)
    return [inner for inner in told if not any(inner != outer and _lies_in(inner, outer) for outer in told)]


def share(one: str, other: str) -> bool:
    """Whether two ranges have a release in common; an end that a range names is taken for a release."""
    ends = {"0", *_named(one), *_named(other)}
    return any(within(one, release) and within(other, release) for release in ends)


def in_words(specifier: str) -> str:
    """A range for a sentence: `5.2.0 to 5.5.3`."""
    ends = dict(re.findall(r"(==|>=|<=|<)\s*([\w.]+)", specifier))
    if "==" in ends:
        return str(ends["=="])
    low, last, before = ends.get(">="), ends.get("<="), ends.get("<")
    if last:
        return f"{low} to {last}" if low else f"{last} or earlier"
    if before:
        return f"{low} or later but before {before}" if low else f"a release before {before}"
    return f"{low} or later" if low else specifier


def _named(specifier: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)*", specifier)


def oldest(specifier: str) -> tuple[int, ...]:
    """The oldest release that a specifier names, to sort by."""
    named = [tuple(int(n) for n in found.split(".")) for found in _named(specifier)]
    return min(named, default=()) if not specifier.startswith("<") else ()


def _lies_in(inner: str, outer: str) -> bool:
    """Whether a range lies in another one: its ends do, and it is not open where the other is closed."""
    closed_below = inner.startswith((">", "==")) or outer.startswith("<")
    closed_above = "<" in inner or "==" in inner or not ("<" in outer or "==" in outer)
    return closed_below and closed_above and all(within(outer, release) for release in _named(inner))
