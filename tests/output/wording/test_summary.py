"""The verdict with its factor, for each combination of findings."""

import dataclasses

import pytest
from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.conclusion import ClippingEffect, OptimizerKind, Retrain, RetrainAnswer
from ga_audit.finding import BugMatch, ClipShare, Fit, RetrainRule
from ga_audit.output.wording import advice, summary

SUM = "summed over gradient_accumulation_steps instead of averaged"
DIVIDED = "divided by gradient_accumulation_steps one time too many"


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ((1, 1), f"The logged loss and grad_norm are 8x too high at GA 8: {SUM}. The gradients are affected too."),
        ((1, 0), f"The logged loss is 8x too high at GA 8: {SUM}. grad_norm is right: only the log is affected."),
        ((0, 1), f"grad_norm is 8x too high at GA 8: {SUM}. The gradients are affected. "
                 "The loss looks right and hides it."),
        ((-1, 0), f"The logged loss is 8x too low at GA 8: {DIVIDED}. grad_norm is right: only the log is affected."),
        ((0, 0), "Logged loss and grad_norm do not scale with GA (GA 1, 8)."),
    ],
)  # fmt: skip
def test_the_headline_names_factor_and_effect(factors, said):
    [diagnosis] = pipeline.audit_runs(twins(*factors), ()).diagnoses
    assert summary.headline(diagnosis) == said


def test_without_a_verdict_the_reason_is_the_headline():
    [diagnosis] = pipeline.audit_runs([make_run("a", ga=8, loss=[4, 3, 2])], ()).diagnoses
    assert summary.headline(diagnosis) == "because only 1 run has a usable loss, and a ratio needs two."


def match(bug, fit):
    return BugMatch(
        bug=bug, fit=fit, package="transformers", releases_held=("4.48.0",), affected="==4.48.0", title="Sums up",
        fix="Upgrade.", retrain=RetrainRule.LOG_ONLY, links=(),
    )  # fmt: skip


def test_the_bug_that_fits_is_named_with_its_fix():
    bugs = (match("GA001", Fit.MATCHES), match("GA004", Fit.POSSIBLE))
    assert summary.bug(bugs) == "GA001, transformers 4.48.0: Sums up. Upgrade."
    assert summary.bug(bugs[1:]) == "possibly GA004, under conditions that the logs do not record"
    assert summary.bug((match("GA001", Fit.HEALTHY),)) == ""


def test_the_training_is_affected_where_clipping_changed():
    share = ClipShare("ga8", 1.0, 1.0, 0.12, 40)
    answer = Retrain(
        answer=RetrainAnswer.GRADIENTS, clipping=ClippingEffect.CHANGED, clipped=share,
        optimizer=OptimizerKind.INVARIANT, optimizers=("adamw",),
    )  # fmt: skip
    assert summary.training(answer) == (
        "Affected: gradients were clipped in 100% of the steps instead of 12% (ga8). Updates of an Adam-like "
        "optimizer are otherwise nearly scale-invariant. Retrain only if the runs must be comparable.",
    )
    other = dataclasses.replace(answer, optimizer=OptimizerKind.DEPENDENT, optimizers=("sgd",))
    assert summary.training(other) == advice.retrain(other)
