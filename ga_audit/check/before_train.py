"""What the installed stack is known to do, before a model is trained."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ga_audit import __version__
from ga_audit.bugs import catalogue, coverage, remedies
from ga_audit.bugs.conditions import STOCK
from ga_audit.check.concerns import Check, Concern, StackFact
from ga_audit.check.policy import Level, Policy
from ga_audit.conclusion import Audit
from ga_audit.errors import AuditError
from ga_audit.run import RunSettings, Setting, Trust


def check_stack(policy: Policy, stack: Iterable[tuple[str, str]] = ()) -> Check:
    """The known bugs of a stack against a policy, and the releases of which nothing is known.

    Parameters
    ----------
    policy : with the levels, and in `stack` what is known of the training.
    stack : packages and releases; default: those that are installed.

    Raises
    ------
    AuditError
        nothing is known of any installed package.
    """
    packages = list(stack) or installed()
    known = as_settings(packages, policy.stack)
    found = tuple(c for c in _concerns(known, policy) if c.level is not Level.OFF)
    return Check(audit=Audit(diagnoses=(), version=__version__), policy=policy, concerns=found)


def installed() -> list[tuple[str, str]]:
    """The packages of this environment of which anything is known, and their releases.

    Raises
    ------
    AuditError
        there is none.
    """
    found = list(coverage.installed())
    if not found:
        raise AuditError(
            "none of the packages of which a bug is known is installed here",
            where=sys.prefix,
            remedy=f"These are known: {', '.join(sorted(coverage.packages()))}. "
            "Run ga-audit in the environment that trains.",
        )
    return found


def as_settings(stack: Sequence[tuple[str, str]], facts: Mapping[str, Any]) -> RunSettings:
    """A stack and what is known of the training, to hold conditions of bugs against."""

    def given(value: Any) -> Setting[Any]:
        return Setting(value, "given", Trust.GIVEN)

    model, smoothing = facts.get("model"), facts.get("label_smoothing")
    other = {
        "architectures": [model] if model else None,
        "deepspeed": facts.get("deepspeed"),
        "trainer": STOCK if facts.get("stock_trainer") else None,
        "label_smoothing_factor": None if smoothing is None else float(smoothing),
    }
    world_size = facts.get("world_size")
    return RunSettings(
        world_size=None if world_size is None else given(world_size),
        packages={re.sub(r"[-_.]+", "-", name).lower(): given(release) for name, release in stack},
        other={name: given(value) for name, value in other.items() if value is not None},
    )


def _concerns(known: RunSettings, policy: Policy) -> Iterator[Concern]:
    run = catalogue.stack(known)
    covered = {name: coverage.look_up(name, release.value) for name, release in known.packages.items()}
    rows: dict[str, tuple[catalogue.Bug, list[catalogue.Affected]]] = {}
    for bug, row in catalogue.expected(known):
        rows.setdefault(bug.id, (bug, []))[1].append(row)
    for bug, affected in rows.values():
        # one row that certainly applies is enough
        open_conditions = min((catalogue.open_conditions(row, [run]) for row in affected), key=len)
        rule = "possible-bug" if open_conditions else "known-bug"
        if covered[bug.package].unknown is not None:  # it may be fixed in this release
            rule = "possible-bug"
        level = policy.level(bug.id, rule)
        fact = StackFact(
            package=bug.package,
            release=known.packages[bug.package].value,
            coverage=covered[bug.package],
            bug=bug,
            open_conditions=open_conditions,
            fix=remedies.fix_for(bug, affected, [run]),
        )
        yield Concern(rule=bug.id, level=level, stack=fact)
    affected_packages = {bug.package for bug, _ in rows.values()}
    for name, one in covered.items():
        if not one.measured and (one.unknown is not None or name not in affected_packages):
            fact = StackFact(package=name, release=one.release, coverage=one)
            yield Concern(rule="unmeasured-release", level=policy.level("unmeasured-release"), stack=fact)
