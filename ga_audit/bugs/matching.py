"""Hold the known bugs against what was found in a group of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ga_audit.bugs.catalogue import Affected, Bug, load, open_conditions, settled
from ga_audit.bugs.conditions import Value
from ga_audit.bugs.remedies import advice, fix_for
from ga_audit.finding import BugMatch, Finding, Fit, Signature, Verdict
from ga_audit.run import Role, Run

_ORDER = {Fit.MATCHES: 0, Fit.POSSIBLE: 1, Fit.HEALTHY: 2, Fit.OUTSIDE_RANGE: 3}
_NOTHING = (0.0, 0.0)
Found = Mapping[Role, tuple[float, float]]  # exponents on GA and world size


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a bug that the runs do not contradict."""

    row: Affected
    open: tuple[tuple[str, Value], ...]  # the conditions that the logs leave open


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A bug of a package that trained the runs."""

    bug: Bug
    held: tuple[str, ...]  # releases of the package
    is_covered: bool  # whether one of them is affected
    rows: tuple[_Row, ...]  # the rows that may hold; fewest open conditions first


def match(runs: Sequence[Run], findings: Sequence[Finding], verdict: Verdict) -> tuple[BugMatch, ...]:
    """The known bugs of the runs' packages that explain what was found, best fit first.

    Parameters
    ----------
    runs : of one group.
    findings : the exponents that were found.
    verdict : on the group.

    Returns
    -------
    One match for each bug. `Fit.MATCHES`: release, signature and the conditions that the logs settle agree;
    `Fit.POSSIBLE`: the same, but a condition of a bug of several releases is open, or the logs decide nothing;
    `Fit.OUTSIDE_RANGE`: the signature agrees and the release is not affected; `Fit.HEALTHY`: the release
    is affected and the log is healthy.
    """
    if not any(run.settings.packages for run in runs):
        return ()  # and the catalogue need not be read
    found = {f.role: (f.hypothesis.ga, f.hypothesis.world) for f in findings}
    accumulates = any((run.settings.ga or 2) > 1 or run.settings.ranks > 1 for run in runs)
    matches: list[tuple[tuple[int, bool, int], BugMatch]] = []
    for bug in load():
        candidate = _candidate(bug, runs)
        chosen = _choose(candidate, found, verdict, accumulates=accumulates)
        if chosen is None:
            continue
        fit, rows = chosen
        # a bug of one release explains better than a bug of every release
        fewest = len(candidate.rows[0].open) if candidate.rows else 0
        key = (_ORDER[fit], not bug.is_narrow, fewest)
        fix = fix_for(bug, [one.row for one in rows], runs) if rows else advice(bug)
        matches.append((key, _match(candidate, fit, rows, fix)))
    return tuple(found for _, found in sorted(matches, key=lambda pair: pair[0]))


def _candidate(bug: Bug, runs: Sequence[Run]) -> _Candidate:
    packages = [run.settings.packages.get(bug.package) for run in runs]
    held = tuple(sorted({setting.value for setting in packages if setting is not None}))
    covered = [row for row in bug.affected if any(row.holds(release) for release in held)]
    rows = [_Row(row, open_conditions(row, runs)) for row in covered if settled(row, runs) is not False]
    rows.sort(key=lambda one: (len(one.open), not one.row.is_one_release))
    return _Candidate(bug, held, bool(covered), tuple(rows))


def _choose(
    candidate: _Candidate, found: Found, verdict: Verdict, *, accumulates: bool
) -> tuple[Fit, tuple[_Row, ...]] | None:
    """How a bug fits, and the rows that fit; None where it does not."""
    if not candidate.rows:
        fits = any(_fits(row.signature, found) for row in candidate.bug.affected)
        outside = bool(candidate.held) and not candidate.is_covered
        if outside and verdict is Verdict.SCALED and fits:
            return Fit.OUTSIDE_RANGE, ()
        return None
    if verdict is Verdict.SCALED:
        fitting = tuple(one for one in candidate.rows if _fits(one.row.signature, found))
        if not fitting:
            return None
        # a bug of many releases is certain only where the logs settle its conditions
        sure = fitting[0].row.is_one_release or not fitting[0].open
        return (Fit.MATCHES if sure else Fit.POSSIBLE), fitting
    if verdict is Verdict.HEALTHY and not candidate.rows[0].open:
        return Fit.HEALTHY, candidate.rows
    # a healthy log says nothing about a bug that needs what the logs leave open
    if verdict is not Verdict.HEALTHY and accumulates:
        return Fit.POSSIBLE, candidate.rows
    return None


def _fits(signature: Signature, found: Found) -> bool:
    """Whether the bug explains what was found; a quantity without a finding has the exponents (0, 0)."""
    pairs = ((signature.loss, Role.LOSS), (signature.grad_norm, Role.GRAD_NORM))
    if any(expected is None and found.get(role, _NOTHING) != _NOTHING for expected, role in pairs):
        return False  # a scale for which the bug has no exponent
    if signature.loss is not None and Role.GRAD_NORM not in found:
        # the log may lack grad_norm: then the loss alone has to fit, and has to be scaled
        return signature.loss == found.get(Role.LOSS, _NOTHING) != _NOTHING
    wanted = [(expected, role) for expected, role in pairs if expected is not None]
    return bool(wanted) and all(expected == found.get(role, _NOTHING) for expected, role in wanted)


def match_measured(name: str, packages: Mapping[str, str]) -> BugMatch:
    """The match of a bug that a measurement has shown.

    Parameters
    ----------
    name : id of the bug.
    packages : release of each package that was measured.
    """
    bug = next(bug for bug in load() if bug.id == name)
    held = packages.get(bug.package, "")
    rows = [row for row in bug.affected if row.holds(held)]
    candidate = _Candidate(bug, (held,), bool(rows), tuple(_Row(row, ()) for row in rows))
    fix = advice(bug, rows, packages)
    return _match(candidate, Fit.MATCHES, candidate.rows, fix, measured=True)


def _match(candidate: _Candidate, fit: Fit, rows: Sequence[_Row], fix: str, *, measured: bool = False) -> BugMatch:
    bug = candidate.bug
    ranges = dict.fromkeys(row.releases for row in bug.affected)
    return BugMatch(
        bug=bug.id,
        title=bug.title,
        fit=fit,
        package=bug.package,
        releases_held=candidate.held,
        affected=rows[0].row.releases if rows else "; ".join(ranges),
        open=tuple((name, str(wanted)) for name, wanted in rows[0].open) if rows else (),
        fix=fix,
        retrain=bug.retrain,
        links=tuple(url for _, url in bug.references),
        measured=measured,
    )
