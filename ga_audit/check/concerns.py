"""An audit against a policy: what is wrong or open, at which level, and what is accepted."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from ga_audit.bugs.catalogue import Bug
from ga_audit.bugs.conditions import Value
from ga_audit.bugs.coverage import Coverage
from ga_audit.check.baseline import Entry
from ga_audit.check.policy import Level, Policy, Waiver
from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.errors import ExitCode
from ga_audit.finding import HEALTHY, Finding, Verdict
from ga_audit.run import ReadFailure, Role, Run

_SURE = 0.95  # probability from which a quantity without a finding counts as right


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackFact:
    """What is known of an installed release."""

    package: str
    release: str
    coverage: Coverage
    bug: Bug | None = None
    open_conditions: tuple[tuple[str, Value], ...] = ()  # what would have to be known of the training
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mismatch:
    """A quantity whose exponents are not the expected ones; `found` is None where they are not known."""

    role: Role
    expected: tuple[float, float]  # on GA, world size
    found: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concern:
    """One thing that the policy has a level for."""

    rule: str  # id of a finding or a known bug, or a rule of `policy.DEFAULTS`
    level: Level
    runs: tuple[Run, ...] = ()  # the affected ones
    entries: tuple[Entry, ...] = ()  # how a baseline names them
    diagnosis: Diagnosis | None = None
    finding: Finding | None = None
    failure: ReadFailure | None = None
    mismatch: Mismatch | None = None
    stack: StackFact | None = None
    waiver: Waiver | None = None  # the exception that accepts it
    in_baseline: bool = False
    expired: Waiver | None = None  # the exception that did until its day

    @property
    def is_accepted(self) -> bool:
        """Whether an exception or the baseline accepts it."""
        return self.waiver is not None or self.in_baseline

    @property
    def fingerprint(self) -> str:
        """The same for the same rule and runs, as long as the logs stay where they are."""
        about = [entry.run for entry in self.entries] or [run.name for run in self.runs]
        if self.failure is not None:
            about = [self.failure.source]
        if self.stack is not None:
            about = [self.stack.package]
        names = sorted(about)
        return hashlib.sha256("\n".join((self.rule, *names)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Check:
    """The outcome of a check."""

    audit: Audit
    policy: Policy
    concerns: tuple[Concern, ...]
    unused: tuple[Waiver, ...] = ()  # exceptions that accept nothing
    gone: tuple[Entry, ...] = ()  # entries of the baseline that are no longer found

    def of_level(self, level: Level) -> tuple[Concern, ...]:
        """The concerns of a level that nothing accepts."""
        return tuple(c for c in self.concerns if c.level is level and not c.is_accepted)

    @property
    def status(self) -> ExitCode:
        """Violated before undecided before met."""
        if self.of_level(Level.ERROR):
            return ExitCode.SCALED
        return ExitCode.UNDECIDED if self.of_level(Level.UNDECIDED) else ExitCode.HEALTHY


def check_audit(
    audit: Audit,
    policy: Policy | None = None,
    *,
    root: Path | None = None,
    baseline: Iterable[Entry] = (),
    today: date | None = None,
) -> Check:
    """Hold an audit against a policy.

    Parameters
    ----------
    audit : what was found.
    policy : what is allowed; default: nothing.
    root : the folder that paths in a baseline start from; default: the working directory.
    baseline : findings that were there before.
    today : the day, for exceptions.
    """
    policy = policy or Policy()
    known = frozenset(baseline)
    found = [c for c in _found(audit, policy, root or Path.cwd()) if c.level is not Level.OFF]
    day = today or date.today()
    judged = tuple(_accept(c, policy.exceptions, known, day) for c in found)
    used = {id(w) for c in judged for w in (c.waiver, c.expired) if w is not None}
    present = {entry for c in judged for entry in c.entries}
    return Check(
        audit=audit,
        policy=policy,
        concerns=judged,
        unused=tuple(w for w in policy.exceptions if id(w) not in used),
        gone=tuple(sorted(known - present)),
    )


def _found(audit: Audit, policy: Policy, root: Path) -> Iterator[Concern]:
    for diagnosis in audit.diagnoses:
        yield from _of_diagnosis(diagnosis, policy, root)
    for item in audit.set_aside:
        yield Concern(rule="unknown-ga", level=policy.level("unknown-ga"), runs=(item.run,))
    for failure in audit.failures:
        yield Concern(rule="unreadable-log", level=policy.level("unreadable-log"), failure=failure)
    if not (audit.diagnoses or audit.set_aside or audit.failures):
        yield Concern(rule="nothing-judged", level=policy.level("nothing-judged"))


def _of_diagnosis(diagnosis: Diagnosis, policy: Policy, root: Path) -> Iterator[Concern]:
    for finding in diagnosis.findings:
        exponents = (finding.hypothesis.ga, finding.hypothesis.world)
        if policy.expected.get(finding.role) == exponents:
            continue
        runs = affected_runs(diagnosis, finding)
        yield Concern(
            rule=finding.id,
            level=policy.level(finding.id, "scaled"),
            runs=runs,
            entries=tuple(Entry(finding.id, identity(run, root)) for run in runs),
            diagnosis=diagnosis,
            finding=finding,
        )
    verdict = diagnosis.verdict
    if verdict is Verdict.SCALED and not diagnosis.findings:
        yield Concern(rule="scaled", level=policy.level("scaled"), runs=diagnosis.runs, diagnosis=diagnosis)
    if verdict is not Verdict.SCALED:
        yield Concern(
            rule=verdict.value,
            level=policy.level(verdict.value),
            runs=diagnosis.runs,
            diagnosis=diagnosis,
        )
    yield from _mismatches(diagnosis, policy)


def _mismatches(diagnosis: Diagnosis, policy: Policy) -> Iterator[Concern]:
    """Quantities that are right, or unknown, where the policy expects them scaled."""
    scaled = {finding.role for finding in diagnosis.findings}
    for role, expected in policy.expected.items():
        if role in scaled or expected == (0, 0):
            continue
        probability = diagnosis.posterior.get(role, {}).get(HEALTHY, 0.0)
        found = (0.0, 0.0) if probability >= _SURE else None
        if found is None and diagnosis.verdict is Verdict.INCONCLUSIVE:
            continue  # that it is inconclusive is a concern already
        rule = "inconclusive" if found is None else "unexpected-exponent"
        yield Concern(
            rule=rule,
            level=policy.level(rule),
            runs=diagnosis.runs,
            diagnosis=diagnosis,
            mismatch=Mismatch(role=role, expected=expected, found=found),
        )


def affected_runs(diagnosis: Diagnosis, finding: Finding) -> tuple[Run, ...]:
    """The runs whose logged values a finding changes: not those of GA 1."""
    about = tuple(run for run in diagnosis.runs if run.id in finding.runs)
    factors = [finding.hypothesis.log_factor(run) for run in about]
    changed = tuple(run for run, f in zip(about, factors, strict=True) if math.isnan(f) or f != 0)
    return changed or about


def identity(run: Run, root: Path) -> str:
    """The path of a run's log below `root`, and which run of it: the same in another checkout."""
    if not run.sources:
        return run.name
    source = run.sources[0]
    path = relative(source.path, root)
    return f"{path}#{source.part}" if source.part else path


def relative(path: str, root: Path) -> str:
    """A path from `root` on, with forward slashes; an address and `-` stay as they are."""
    if path == "-" or "://" in path:
        return path
    return Path(os.path.relpath(path, root)).as_posix()


def _accept(concern: Concern, waivers: Sequence[Waiver], known: frozenset[Entry], today: date) -> Concern:
    """The concern with what accepts it: an exception that covers every affected run, or the baseline."""
    if concern.finding is None:
        return concern
    fitting = [w for w in waivers if _covers(w, concern)]
    held = next((w for w in fitting if w.until >= today), None)
    if held is not None:
        return replace(concern, waiver=held)
    expired = max(fitting, key=lambda w: w.until, default=None)
    in_baseline = bool(concern.entries) and known.issuperset(concern.entries)
    return replace(concern, expired=expired, in_baseline=in_baseline and expired is None)


def _covers(waiver: Waiver, concern: Concern) -> bool:
    return fnmatchcase(concern.rule, waiver.finding) and all(
        any(fnmatchcase(label, glob) for label in _labels(run, entry) for glob in waiver.runs)
        for run, entry in zip(concern.runs, concern.entries, strict=True)
    )


def _labels(run: Run, entry: Entry) -> set[str]:
    return {run.name, run.id, entry.run, *(source.path for source in run.sources)}
