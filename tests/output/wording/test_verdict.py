"""Every code has its sentence."""

import pytest
from conftest import twins

from ga_audit import pipeline
from ga_audit.conclusion import Outcome, Undecided, UndecidedReason
from ga_audit.finding import BugMatch, Fit, NotApplicable, Reason, Verdict
from ga_audit.output.wording import verdict
from ga_audit.run import Role

NOT_LOGGED = NotApplicable(kind="ratio_regression", reason=Reason.NOT_LOGGED, role=Role.LOSS)


def undecided(reason, **facts):
    return verdict.undecided(Undecided(reason=reason, role=Role.LOSS, **facts), ())


@pytest.mark.parametrize("reason", UndecidedReason)
def test_every_reason_has_a_clause_of_its_own(reason):
    clauses = {undecided(r, runs=("a",), not_applicable=NOT_LOGGED) for r in UndecidedReason}
    assert len(clauses) == len(UndecidedReason)
    clause = undecided(reason, runs=("a",), not_applicable=NOT_LOGGED)
    assert clause
    assert not clause.endswith(".")


def test_names_of_many_runs_are_cut():
    runs = tuple("abcdef")
    assert undecided(UndecidedReason.UNKNOWN_GA, runs=runs) == (
        "gradient_accumulation_steps of a, b, c, d ... is unknown"
    )


@pytest.mark.parametrize("outcome", Outcome)
def test_every_measured_outcome_has_a_headline(outcome):
    assert verdict._OUTCOME[outcome]


@pytest.mark.parametrize(("factors", "headline", "after_label"), [
    ((0, 0), "Healthy: logged loss and grad_norm do not scale with GA (GA 1, 8).",
     "Logged loss and grad_norm do not scale with GA (GA 1, 8)."),
    ((1, 0), "Only the logged loss is summed over gradient_accumulation_steps instead of averaged; grad_norm is right.",
     "Only the logged loss is summed over gradient_accumulation_steps instead of averaged; grad_norm is right."),
    ((0, 1), "The loss looks right, but grad_norm is summed over gradient_accumulation_steps instead of averaged: "
     "the dangerous kind.",
     "The loss looks right, but grad_norm is summed over gradient_accumulation_steps instead of averaged: "
     "the dangerous kind."),
])  # fmt: skip
def test_headline_and_the_part_behind_a_label(factors, headline, after_label):
    (diagnosis,) = pipeline.diagnose(twins(*factors))
    assert (verdict.headline(diagnosis), verdict.after_label(diagnosis)) == (headline, after_label)


def match(fit, **fields):
    return BugMatch(
        bug="GA001", fit=fit, package="trl", releases_held=("0.12.0",), affected="==0.12.*", title="", fix="",
        retrain="", links=(), **fields,
    )  # fmt: skip


@pytest.mark.parametrize(("bug", "of", "sentence"), [
    (match(Fit.MATCHES), Verdict.SCALED, "Trl 0.12.0 is affected (==0.12.*) and the signature fits."),
    (match(Fit.POSSIBLE, open=(("model", "own"),)), Verdict.SCALED,
     "Trl 0.12.0 is affected (==0.12.*) and the signature fits; not in the logs: model = own."),
    (match(Fit.POSSIBLE, open=(("model", "own"),)), Verdict.INCONCLUSIVE,
     "Trl 0.12.0 has this bug if model = own; the logs do not decide."),
    (match(Fit.HEALTHY), Verdict.HEALTHY, "Trl 0.12.0 is affected, and these logs are healthy."),
    (match(Fit.OUTSIDE_RANGE), Verdict.SCALED, "The signature fits, but trl 0.12.0 is not in ==0.12.*."),
    (match(Fit.MATCHES, measured=True), Verdict.SCALED,
     "Measured: this stack does in this situation what the bug is known to do."),
])  # fmt: skip
def test_how_a_bug_fits(bug, of, sentence):
    assert verdict.bug_match(bug, of) == sentence
