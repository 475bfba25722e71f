"""An audit against a policy: levels, expectations, exceptions, baseline, status."""

from datetime import date

import pytest
from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.check.baseline import Entry
from ga_audit.check.concerns import check_audit
from ga_audit.check.policy import Level, Policy, Waiver
from ga_audit.errors import UnreadableLog
from ga_audit.run import ReadFailure, Role

LOSS, NORM = "loss-summed-over-ga", "grad-norm-summed-over-ga"
DAY = date(2026, 11, 27)
SCALED = pipeline.audit_runs(twins(1))
HEALTHY = pipeline.audit_runs(twins(0))
OPEN = pipeline.audit_runs([make_run("a", ga=8, loss=[3.0])])


def shown(check):
    return [(c.rule, c.level.value, c.is_accepted) for c in check.concerns]


def test_the_default_policy():
    check = check_audit(SCALED)
    assert shown(check) == [(LOSS, "error", False), (NORM, "error", False)]
    assert [run.name for run in check.concerns[0].runs] == ["ga8"]  # a run of GA 1 is not changed
    assert check.status == 1
    assert (shown(check_audit(HEALTHY)), check_audit(HEALTHY).status) == ([], 0)
    assert (shown(check_audit(OPEN)), check_audit(OPEN).status) == ([("inconclusive", "undecided", False)], 3)


@pytest.mark.parametrize(
    ("audit", "levels", "status"),
    [
        (SCALED, {"scaled": Level.WARNING}, 0),
        (SCALED, {"loss-*": Level.OFF}, 1),
        (SCALED, {"loss-*": Level.OFF, NORM: Level.WARNING}, 0),
        (OPEN, {"inconclusive": Level.ERROR}, 1),
        (OPEN, {"inconclusive": Level.WARNING}, 0),
        (OPEN, {"inconclusive": Level.OFF}, 0),
        (HEALTHY, {"healthy": Level.ERROR}, 1),
    ],
)
def test_levels_decide_the_status(audit, levels, status):
    assert check_audit(audit, Policy(levels=levels)).status == status


def test_what_was_not_read_or_has_no_ga_is_not_judged():
    failure = ReadFailure("x", UnreadableLog("broken", where="x"))
    unknown = make_run("u", loss=[3.0] * 9)
    check = check_audit(pipeline.audit_runs([*twins(0), unknown], [failure]))
    assert shown(check) == [("unknown-ga", "undecided", False), ("unreadable-log", "undecided", False)]
    assert shown(check_audit(pipeline.audit_runs([]))) == [("nothing-judged", "undecided", False)]


def test_an_error_goes_before_what_is_open():
    failure = ReadFailure("x", UnreadableLog("broken", where="x"))
    assert check_audit(pipeline.audit_runs(twins(1), [failure])).status == 1


def test_expected_exponents():
    summed = {Role.LOSS: (1.0, 0.0), Role.GRAD_NORM: (1.0, 0.0)}
    assert check_audit(SCALED, Policy(expected=summed)).concerns == ()
    assert shown(check_audit(SCALED, Policy(expected={Role.LOSS: (-1.0, 0.0)}))) == [
        (LOSS, "error", False), (NORM, "error", False),
    ]  # fmt: skip
    check = check_audit(HEALTHY, Policy(expected=summed))
    assert shown(check) == [("unexpected-exponent", "error", False)] * 2
    assert check.concerns[0].mismatch.found == (0.0, 0.0)
    # nothing is known of a quantity that was not logged
    only_loss = pipeline.audit_runs(
        [make_run(f"ga{ga}", ga=ga, micro_batch_size=16 // ga, loss=[4 - i / 20 for i in range(40)]) for ga in (1, 8)]
    )
    found = check_audit(only_loss, Policy(expected={Role.GRAD_NORM: (1.0, 0.0)}))
    assert shown(found)[-1] == ("inconclusive", "undecided", False)


def waiver(**fields):
    return Waiver(**{"finding": LOSS, "reason": "known", "until": DAY, **fields})


@pytest.mark.parametrize(
    ("made", "accepted"),
    [
        (waiver(), True),
        (waiver(finding="loss-*"), True),
        (waiver(runs=("ga8",)), True),
        (waiver(runs=("ga?",)), True),
        (waiver(runs=("ga1",)), False),
        (waiver(finding=NORM, runs=("other",)), False),
    ],
)
def test_an_exception_accepts_what_it_covers(made, accepted):
    check = check_audit(SCALED, Policy(exceptions=(made,)), today=DAY)
    assert check.concerns[0].is_accepted is accepted
    assert check.unused == (() if accepted else (made,))
    assert check.status == 1  # grad_norm is not excepted


def test_every_affected_run_must_be_covered():
    audit = pipeline.audit_runs(twins(1, gas=(1, 4, 8)))
    assert not check_audit(audit, Policy(exceptions=(waiver(runs=("ga8",)),)), today=DAY).concerns[0].is_accepted
    both = waiver(runs=("ga8", "ga4"))
    assert check_audit(audit, Policy(exceptions=(both,)), today=DAY).concerns[0].is_accepted


def test_an_expired_exception_is_an_error_again_and_is_named():
    old = waiver(until=date(2026, 11, 26))
    check = check_audit(SCALED, Policy(exceptions=(old,)), today=DAY)
    assert shown(check)[0] == (LOSS, "error", False)
    assert check.concerns[0].expired is old
    renewed = check_audit(SCALED, Policy(exceptions=(old, waiver())), today=DAY)
    assert renewed.concerns[0].is_accepted
    # a baseline is no way around the expiry
    kept = check_audit(SCALED, Policy(exceptions=(old,)), baseline=[Entry(LOSS, "ga8")], today=DAY)
    assert not kept.concerns[0].is_accepted


def test_a_baseline_accepts_known_findings_only(tmp_path):
    first = check_audit(SCALED, root=tmp_path)
    entries = [entry for c in first.concerns for entry in c.entries]
    again = check_audit(SCALED, root=tmp_path, baseline=entries)
    assert (again.status, [c.in_baseline for c in again.concerns]) == (0, [True, True])
    more = check_audit(pipeline.audit_runs(twins(1, gas=(1, 4, 8))), root=tmp_path, baseline=entries)
    assert more.status == 1
    fixed = check_audit(HEALTHY, root=tmp_path, baseline=entries)
    assert (fixed.status, fixed.gone) == (0, tuple(sorted(entries)))


def test_the_fingerprint_is_of_rule_and_runs(tmp_path):
    first, second = check_audit(SCALED, root=tmp_path).concerns
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == check_audit(SCALED, root=tmp_path).concerns[0].fingerprint
