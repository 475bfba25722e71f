"""The known bugs: load and check the entries, and look them up for a stack.

An entry says for which releases of a package, and under which conditions, which exponents are wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any

from ga_audit.bugs import conditions
from ga_audit.bugs.conditions import Value
from ga_audit.bugs.releases import union, within
from ga_audit.finding import RetrainRule, Signature
from ga_audit.run import Run, RunSettings

REFERENCE_TYPES = frozenset({"report", "fix", "evidence"})
# conditions that an ordinary stack may or may not meet; the others are rare
ORDINARY = frozenset({"model", "deepspeed"})


class Verified(StrEnum):
    """How an entry was verified."""

    RUN = "run"  # the releases were run
    SOURCE = "source"  # read in the released source
    SAID = "said"  # as reported, not checked


@dataclass(frozen=True, slots=True)
class Affected:
    """One row of a bug: these releases, under these conditions, show this signature."""

    releases: str  # PEP 440 specifier
    when: Mapping[str, Value]
    signature: Signature
    continues: bool = False  # later releases have the bug too, in another row

    @property
    def is_window(self) -> bool:
        """Whether the bug has an end; one without an end says nothing about a release."""
        return ("==" in self.releases or "<" in self.releases) and not self.continues

    @property
    def is_one_release(self) -> bool:
        """Whether the row is about a single release."""
        return self.releases.startswith("==")

    def holds(self, release: str) -> bool:
        """Whether a release is in the range."""
        return within(self.releases, release)


@dataclass(frozen=True, slots=True)
class Workaround:
    """What helps without the release that fixed the bug.

    Attributes
    ----------
    text : what to do, as an imperative.
    package, works_in : releases of the package in which it helps; empty where it does not depend on one.
    leads_to : package and releases that it has the reader install.
    when : conditions of a run that it helps, besides those of the bug.
    makes : conditions of the run after it.
    """

    text: str
    package: str
    works_in: str = ""
    leads_to: tuple[str, str] | None = None
    when: Mapping[str, Value] = field(default_factory=dict)
    makes: Mapping[str, Value] = field(default_factory=dict)

    def after(self, row: Affected, known: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The situation of a run that met a row and did this; None where it is not for such a run."""
        asked = {**known, **row.when}
        if any(asked.get(name, wanted) != wanted for name, wanted in self.when.items()):
            return None
        return {**asked, **self.when, **self.makes}


@dataclass(frozen=True, slots=True)
class Bug:
    """One entry of the catalogue."""

    id: str
    title: str
    package: str
    affected: tuple[Affected, ...]
    eval_loss_affected: bool
    fixed_in: str | None
    # releases to upgrade to, a PEP 440 specifier: from the release with the fix on, or later
    upgrade: str | None
    workarounds: tuple[Workaround, ...]
    caution: str  # what an upgrade may meet that no condition says
    retrain: RetrainRule
    references: tuple[tuple[str, str], ...]  # (type, url)
    verified: Verified
    verified_note: str

    @property
    def ranges(self) -> tuple[str, ...]:
        """The affected releases of all rows, the oldest first."""
        return tuple(union({row.releases for row in self.affected}))

    @property
    def is_narrow(self) -> bool:
        """Whether every row is about a single release."""
        return all(row.is_one_release for row in self.affected)


# --- load and check ---------------------------------------------------------------------------


@cache
def load() -> tuple[Bug, ...]:
    """Every entry, by id.

    Raises
    ------
    ValueError
        An entry is not valid.
    """
    import tomllib
    from importlib import resources

    folder = resources.files("ga_audit.bugs") / "data"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return tuple(read_bug(file.name.removesuffix(".toml"), tomllib.loads(file.read_text("utf-8"))) for file in files)


def read_bug(name: str, entry: Mapping[str, Any]) -> Bug:
    """Check an entry's file and return the bug.

    Raises
    ------
    ValueError
        The entry is not valid; the message names the file and every problem.
    """
    if found := list(problems(name, entry)):
        raise ValueError(f"{name}.toml: {'; '.join(found)}")
    fix = entry["fix"]
    return Bug(
        id=name,
        title=entry["title"],
        package=entry["package"],
        affected=tuple(_read_row(row) for row in entry["affected"]),
        eval_loss_affected=entry["eval_loss_affected"],
        fixed_in=fix.get("release"),
        upgrade=fix.get("upgrade", f">={fix['release']}" if "release" in fix else None),
        workarounds=tuple(_read_workaround(way, entry["package"]) for way in fix.get("workarounds", ())),
        caution=fix.get("caution", ""),
        retrain=RetrainRule(fix["retrain"]),
        references=tuple((r["type"], r["url"]) for r in entry["references"]),
        verified=Verified(entry["verified"]["how"]),
        verified_note=entry["verified"].get("note", ""),
    )


def _read_row(row: Mapping[str, Any]) -> Affected:
    when = conditions.read(row.get("when", {}))
    signature = _read_signature(row["signature"])
    return Affected(row["releases"], when, signature, row.get("continues", False))


def _read_signature(row: Mapping[str, Mapping[str, float]]) -> Signature:
    def of(name: str) -> tuple[float, float] | None:
        if name not in row:
            return None
        return float(row[name].get("ga", 0)), float(row[name].get("world", 0))

    return Signature(of("loss"), of("grad_norm"), of("gradient"))


def _read_workaround(entry: Mapping[str, Any], package: str) -> Workaround:
    """One of `[[fix.workarounds]]`: its requirements (`transformers>=4.49.0`) taken apart."""
    works_in, leads_to = _requirement(entry.get("works_in")), _requirement(entry.get("leads_to"))
    place, releases = works_in or (package, "")
    when, makes = (conditions.read(entry.get(key, {})) for key in ("when", "makes"))
    return Workaround(entry["text"], place, releases, leads_to, when, makes)


def _requirement(text: str | None) -> tuple[str, str] | None:
    from packaging.requirements import Requirement

    if text is None:
        return None
    found = Requirement(text)
    operators = (str(part) for part in found.specifier)
    return found.name, ",".join(sorted(operators, key=lambda part: part.startswith("<")))


# tables of an entry and their keys: (required, optional)
_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = MappingProxyType({
    "": (
        frozenset({
            "title", "package", "eval_loss_affected", "affected", "fix", "references", "verified",
        }),
        frozenset(),
    ),
    "affected": (frozenset({"releases", "signature"}), frozenset({"when", "continues"})),
    "fix": (
        frozenset({"retrain"}), frozenset({"release", "upgrade", "workarounds", "caution"}),
    ),
    "fix.workarounds": (
        frozenset({"text"}), frozenset({"works_in", "leads_to", "when", "makes"}),
    ),
    "references": (frozenset({"type", "url"}), frozenset()),
    "verified": (frozenset({"how"}), frozenset({"note"})),
})  # fmt: skip


def problems(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an entry's file; nothing for a valid one."""
    if not re.fullmatch(r"GA\d{3}", name):
        yield "the file is not named GAnnn.toml"
    if wrong := list(_wrong_keys(entry)):
        yield from wrong
        return
    for row in entry["affected"]:
        yield from _problems_of_row(row)
    for way in entry["fix"].get("workarounds", ()):
        yield from conditions.problems({**way.get("when", {}), **way.get("makes", {})})
    yield from _not_a_member(RetrainRule, entry["fix"]["retrain"], "fix.retrain")
    yield from _not_a_member(Verified, entry["verified"]["how"], "verified.how")
    types = {r["type"] for r in entry["references"]}
    if not types & {"report", "fix"} or types - REFERENCE_TYPES:
        yield "needs a reference of type report or fix"
    if any(not str(r["url"]).startswith("https://") for r in entry["references"]):
        yield "a reference without an https link"


def _wrong_keys(entry: Mapping[str, Any]) -> Iterator[str]:
    for place, (required, optional) in _KEYS.items():
        where = f"{place}." if place else ""
        for table in _tables(entry, place):
            for key in sorted(required - table.keys()):
                yield f"{where}{key} is missing"
            for key in sorted(table.keys() - required - optional):
                yield f"{where}{key} is not a known key"


def _tables(entry: Mapping[str, Any], place: str) -> Iterator[Mapping[str, Any]]:
    """The tables of an entry at a place, such as each of `fix.workarounds`."""
    found: Any = entry
    for part in filter(None, place.split(".")):
        if part not in found:
            return
        found = found[part]
    yield from found if isinstance(found, list) else [found]


def _problems_of_row(row: Mapping[str, Any]) -> Iterator[str]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(row["releases"])
    except InvalidSpecifier:
        yield f"{row['releases']!r} is not a PEP 440 specifier"
    yield from conditions.problems(row.get("when", {}))
    signature = row["signature"]
    if not signature or signature.keys() - {"loss", "grad_norm", "gradient"}:
        yield "a signature needs exponents of loss, grad_norm or gradient, and nothing else"
    elif any(exponents.keys() - {"ga", "world"} for exponents in signature.values()):
        yield "an exponent is on ga or world"


def _not_a_member(kind: type[StrEnum], value: object, where: str) -> Iterator[str]:
    if value not in tuple(kind):
        yield f"{where} is {value!r}; choose from {', '.join(kind)}"


# --- look-up ----------------------------------------------------------------------------------


def of_release(package: str, release: str) -> Iterator[tuple[Bug, Affected]]:
    """The bugs that a release of a package is known to have, row by row."""
    name = re.sub(r"[-_.]+", "-", package).lower()
    for bug in load():
        if bug.package == name:
            for row in bug.affected:
                if row.holds(release):
                    yield bug, row


def stack(settings: RunSettings) -> Run:
    """A stack before it has trained anything, to hold conditions against."""
    return Run("stack", "stack", "stack", settings, ())


def expected(settings: RunSettings) -> Iterator[tuple[Bug, Affected]]:
    """What a stack is known to do: every row of its releases that its settings do not rule out.

    This look-up finds what no loss curve shows: release x kind of model x trainer x DeepSpeed x ranks.
    """
    run = stack(settings)
    for package, release in settings.packages.items():
        for bug, row in of_release(package, release.value):
            if settled(row, [run]) is not False:
                yield bug, row


def settled(row: Affected, runs: Sequence[Run]) -> bool | None:
    """Whether the conditions of a row hold for the runs: None where the logs leave one open."""
    answers = [conditions.condition(name, value, runs) for name, value in row.when.items()]
    if any(answer is False for answer in answers):
        return False
    return None if any(answer is None for answer in answers) else True


def open_conditions(row: Affected, runs: Sequence[Run]) -> tuple[tuple[str, Value], ...]:
    """The conditions of a row that the logs leave open, with the values that the row needs."""
    return tuple(
        (name, wanted) for name, wanted in row.when.items() if conditions.condition(name, wanted, runs) is None
    )


def open_names(row: Affected, runs: Sequence[Run]) -> frozenset[str]:
    """Names of the conditions of a row that the logs leave open."""
    return frozenset(name for name, _ in open_conditions(row, runs))


def concerns(row: Affected, runs: Sequence[Run]) -> bool:
    """Whether a row is likely about these runs: it holds, or it has an end and nothing rare is open."""
    held = settled(row, runs)
    return held is True or (held is None and row.is_window and open_names(row, runs) <= ORDINARY)


def packages() -> frozenset[str]:
    """The packages that the catalogue has entries about."""
    return frozenset(bug.package for bug in load())
