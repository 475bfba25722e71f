"""Load, check and match the known bugs.

A bug says for which releases of a package, and under which conditions, which exponents come out wrong. The catalogue is
read both ways: from a finding to the bug that explains it, and from a stack to what it is known to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ga_audit.bugs.conditions import CONDITIONS, condition
from ga_audit.bugs.releases import union, within
from ga_audit.bugs.remedies import ORDINARY, Workaround, advice, read_workaround
from ga_audit.finding import BugMatch, Finding, Fit, Signature, Verdict
from ga_audit.run import Role, Run, RunSettings

REFERENCE_TYPES = frozenset({"report", "fix", "evidence"})
VERIFIED = frozenset({"run", "source", "said"})


@dataclass(frozen=True, slots=True)
class Affected:
    """One row of a bug: these releases, under these conditions, show this signature."""

    releases: str  # PEP 440 specifier
    when: Mapping[str, Any]
    signature: Signature
    continues: bool = False  # later releases have the bug too, in another row

    @property
    def is_window(self) -> bool:
        """Whether the bug has an end: one that is still there is a habit, not a release's fault."""
        return ("==" in self.releases or "<" in self.releases) and not self.continues

    def holds(self, release: str) -> bool:
        """Whether a release is in the range."""
        return within(self.releases, release)


@dataclass(frozen=True, slots=True)
class Bug:
    """One entry of the catalogue."""

    id: str
    title: str
    package: str
    affected: tuple[Affected, ...]
    eval_loss_affected: bool
    fixed_in: str | None
    upgrade: str | None  # releases to upgrade to, a PEP 440 specifier: from the one that fixed it on, or later
    workarounds: tuple[Workaround, ...]
    caution: str  # what an upgrade may meet that no condition says
    retrain: str
    references: tuple[tuple[str, str], ...]  # (type, url)
    verified: str
    verified_note: str

    @property
    def fix(self) -> str:
        """What to do on any of the affected releases, in one sentence."""
        return advice(self)

    @property
    def releases(self) -> str:
        """The affected releases of all rows, for a sentence."""
        return " or ".join(union({row.releases for row in self.affected}))


@cache
def load() -> tuple[Bug, ...]:
    """Every entry, by id."""
    import tomllib
    from importlib import resources

    folder = resources.files("ga_audit.bugs") / "data"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return tuple(_bug(f.name.removesuffix(".toml"), tomllib.loads(f.read_text("utf-8"))) for f in files)


def _bug(name: str, entry: Mapping[str, Any]) -> Bug:
    fix = entry.get("fix", {})
    return Bug(
        id=name, title=entry["title"], package=entry["package"],
        affected=tuple(
            Affected(row["releases"], row.get("when", {}), _signature(row["signature"]), row.get("continues", False))
            for row in entry["affected"]
        ),
        eval_loss_affected=entry["eval_loss_affected"], fixed_in=fix.get("release"),
        upgrade=fix.get("upgrade", f">={fix['release']}" if "release" in fix else None),
        workarounds=tuple(read_workaround(way, entry["package"]) for way in fix.get("workarounds", ())),
        caution=fix.get("caution", ""), retrain=fix.get("retrain", ""),
        references=tuple((r["type"], r["url"]) for r in entry["references"]),
        verified=entry["verified"]["how"], verified_note=entry["verified"].get("note", ""),
    )  # fmt: skip


def _signature(row: Mapping[str, Mapping[str, float]]) -> Signature:
    def of(name: str) -> tuple[float, float] | None:
        if name not in row:
            return None
        return float(row[name].get("ga", 0)), float(row[name].get("world", 0))

    return Signature(of("loss"), of("grad_norm"), of("gradient"))


def problems(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an entry's file; nothing for a good one."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if not re.fullmatch(r"GA\d{3}", name):
        yield "the file is not named GAnnn.toml"
    for key in ("title", "package", "eval_loss_affected", "affected", "references", "verified"):
        if key not in entry:
            yield f"{key} is missing"
            return
    for row in entry["affected"]:
        try:
            SpecifierSet(row["releases"])
        except InvalidSpecifier:
            yield f"{row['releases']!r} is no PEP 440 specifier"
        beside = row.get("when", {}).get("transformers", "")
        try:
            SpecifierSet(beside)
        except InvalidSpecifier:
            yield f"{beside!r} is no PEP 440 specifier"
        if unknown := set(row.get("when", {})) - CONDITIONS:
            yield f"unknown conditions {sorted(unknown)}"
        if not {"loss", "grad_norm", "gradient"} & set(row.get("signature", {})):
            yield "a row without a signature"
    types = {r.get("type") for r in entry["references"]}
    if not types & {"report", "fix"} or types - REFERENCE_TYPES:
        yield "needs a reference of type report or fix"
    if any(not str(r.get("url", "")).startswith("https://") for r in entry["references"]):
        yield "a reference without an https link"
    if entry["verified"].get("how") not in VERIFIED:
        yield "verified.how is none of run, source, said"


# --- look-up -----------------------------------------------------------------------------------------------------------


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

    The look-up that finds what no loss curve shows: release x kind of model x trainer x DeepSpeed x ranks.
    """
    run = stack(settings)
    for package, release in settings.packages.items():
        for bug, row in of_release(package, release.value):
            if settled(row, [run]) is not False:
                yield bug, row


def match(runs: Sequence[Run], findings: Sequence[Finding], verdict: Verdict) -> tuple[BugMatch, ...]:
    """The known bugs held against what was found, best fit first.

    `matches`: release, conditions that the logs settle, and signature agree; `possible`: they agree, and a condition of
    many releases is not settled, or nothing is decided. `outside-range`: the signature fits a bug of
    a package of this stack, the release does not. `affected-but-healthy`: the release is affected and the log is healthy.
    """
    found = _found(findings)
    releases = {
        name: {r.settings.packages[name].value for r in runs if name in r.settings.packages} for name in _names(runs)
    }
    if not releases:
        return ()
    matches: list[BugMatch] = []
    least_open: dict[str, int] = {}  # conditions that the logs leave open, of the row that needs the fewest
    for bug in load():
        held = sorted(releases.get(bug.package, ()))
        covered = [row for row in bug.affected if any(row.holds(v) for v in held)]
        rows = [row for row in covered if settled(row, runs) is not False]
        rows.sort(key=lambda row: (len(_open(row, runs)), not row.releases.startswith("==")))
        if rows:
            least_open[bug.id] = len(_open(rows[0], runs))
        if rows and verdict is Verdict.SCALED:
            fitting = [row for row in rows if _fits(row.signature, found, strict=True)]
            if fitting:
                row = fitting[0]
                # a bug of many releases is named for certain only where the logs settle its conditions
                sure = row.releases.startswith("==") or not _open(row, runs)
                fit = Fit.MATCHES if sure else Fit.POSSIBLE
                matches.append(_match(bug, fit, held, row.releases, fix_for(bug, fitting, runs), _wanted(row, runs)))
        elif rows and verdict is Verdict.HEALTHY:
            # of a bug that needs what the logs do not tell, a healthy log says nothing worth a line
            if any(not _open(row, runs) for row in rows):
                matches.append(_match(bug, Fit.HEALTHY, held, rows[0].releases, fix_for(bug, rows, runs)))
        elif rows and any((run.settings.ga or 2) > 1 or run.settings.ranks > 1 for run in runs):
            fix = fix_for(bug, rows, runs)
            matches.append(_match(bug, Fit.POSSIBLE, held, rows[0].releases, fix, _wanted(rows[0], runs)))
        elif (
            held
            and not covered
            and verdict is Verdict.SCALED
            and any(_fits(r.signature, found, strict=True) for r in bug.affected)
        ):
            ranges = "; ".join(dict.fromkeys(row.releases for row in bug.affected))
            matches.append(_match(bug, Fit.OUTSIDE_RANGE, held, ranges, bug.fix))
    order = {fit: rank for rank, fit in enumerate(Fit)}
    # a bug of one release explains better than one of every release
    narrow = {bug.id: all(row.releases.startswith("==") for row in bug.affected) for bug in load()}
    return tuple(sorted(matches, key=lambda m: (order[m.fit], not narrow[m.bug], least_open.get(m.bug, 0))))


def _names(runs: Sequence[Run]) -> set[str]:
    return {name for run in runs for name in run.settings.packages}


def _found(findings: Sequence[Finding]) -> dict[Role, tuple[float, float]]:
    return {f.role: (f.hypothesis.ga, f.hypothesis.world) for f in findings}


def _fits(signature: Signature, found: Mapping[Role, tuple[float, float]], *, strict: bool) -> bool:
    """Whether what was found is what the bug does; a quantity that was not found scaled counts as (0, 0)."""
    pairs = ((signature.loss, Role.LOSS), (signature.grad_norm, Role.GRAD_NORM))
    if any(expected is None and found.get(role, (0.0, 0.0)) != (0.0, 0.0) for expected, role in pairs):
        return False  # a scale that the bug has no exponent for: it does not explain it
    agreeing = [expected == found.get(role, (0.0, 0.0)) for expected, role in pairs if expected is not None]
    if signature.loss is not None and Role.GRAD_NORM not in found and strict:
        # grad_norm may be missing from the log: the loss alone then has to fit, and to be scaled
        return signature.loss == found.get(Role.LOSS, (0.0, 0.0)) and signature.loss != (0.0, 0.0)
    return bool(agreeing) and all(agreeing)


def settled(row: Affected, runs: Sequence[Run]) -> bool | None:
    """Whether the conditions of a row hold for the runs: None where the logs leave one open."""
    answers = [condition(name, value, runs) for name, value in row.when.items()]
    if any(answer is False for answer in answers):
        return False
    return None if any(answer is None for answer in answers) else True


def concerns(row: Affected, runs: Sequence[Run]) -> bool:
    """Whether a row may well be about these runs: it holds, or it has an end and what is open is nothing rare."""
    held = settled(row, runs)
    return held is True or (held is None and row.is_window and open_conditions(row, runs) <= ORDINARY)


def packages() -> frozenset[str]:
    """The packages that the catalogue has entries about."""
    return frozenset(bug.package for bug in load())


def conditions_text(row: Affected, runs: Sequence[Run]) -> str:
    """The conditions of a row that the logs leave open, for a sentence."""
    return ", ".join(_open(row, runs))


def open_conditions(row: Affected, runs: Sequence[Run]) -> frozenset[str]:
    """Names of the conditions of a row that the logs leave open."""
    return frozenset(k for k, v in row.when.items() if condition(k, v, runs) is None)


def _open(row: Affected, runs: Sequence[Run]) -> list[str]:
    return [f"{k} = {row.when[k]}" for k in row.when if k in open_conditions(row, runs)]


def _wanted(row: Affected, runs: Sequence[Run]) -> tuple[tuple[str, str], ...]:
    """The conditions of a row that the logs leave open, each with the value that it needs."""
    names = open_conditions(row, runs)
    return tuple((name, str(wanted)) for name, wanted in row.when.items() if name in names)


def confirmed(name: str, stack: Mapping[str, str]) -> BugMatch:
    """The match of a bug that a measurement has shown on these releases."""
    bug = next(bug for bug in load() if bug.id == name)
    held = [stack[bug.package]] if bug.package in stack else []
    rows = [row for row in bug.affected if any(row.holds(release) for release in held)]
    affected = "; ".join(dict.fromkeys(row.releases for row in rows))
    return replace(_match(bug, Fit.MATCHES, held, affected, advice(bug, rows, stack)), measured=True)


def _match(
    bug: Bug, fit: Fit, held: Sequence[str], affected: str, fix: str, wanted: tuple[tuple[str, str], ...] = ()
) -> BugMatch:
    return BugMatch(
        bug=bug.id, fit=fit, package=bug.package, releases_held=tuple(held), affected=affected, open=wanted,
        title=bug.title, fix=fix, retrain=bug.retrain, links=tuple(url for _, url in bug.references),
    )  # fmt: skip


def fix_for(bug: Bug, rows: Sequence[Affected], runs: Sequence[Run]) -> str:
    """What to do about a bug on the releases of these runs: what does not help on them is left out."""
    held = {
        name: {r.settings.packages[name].value for r in runs if name in r.settings.packages} for name in _names(runs)
    }
    stack = {name: next(iter(releases)) for name, releases in held.items() if len(releases) == 1}
    deepspeed = condition("deepspeed", True, runs)
    return advice(bug, rows, stack, {} if deepspeed is None else {"deepspeed": deepspeed})
