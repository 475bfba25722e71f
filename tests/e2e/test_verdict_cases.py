"""Logs as people have them, from public threads and files: the verdict on each is the right one."""

from pathlib import Path

import pytest

from ga_audit import pipeline
from ga_audit.conclusion import Diagnosis
from ga_audit.finding import Impact, Reason, Verdict
from ga_audit.logs import discovery
from ga_audit.options import Options, apply
from ga_audit.run import Role, Run

CASES = Path(__file__).parents[1] / "golden" / "cases"


def diagnose(case: str, *names: str, **options: object) -> Diagnosis:
    found = [run for run in discovery.find_runs([str(CASES / case / name) for name in names]) if isinstance(run, Run)]
    (diagnosis,) = pipeline.diagnose(list(apply(found, Options(**options))))
    return diagnosis


def not_applicable(diagnosis: Diagnosis, kind: str) -> set[Reason]:
    return {item.reason for item in diagnosis.not_applicable if item.kind == kind}


def test_an_exact_factor_at_every_point_is_a_sum():
    got = diagnose("exact-double", "ga1.txt", "ga2.txt")
    assert (got.verdict, got.impact) == (Verdict.SCALED, Impact.GRADIENTS)
    assert [round(estimate.value, 3) for _, estimate in got.exponents] == [1.0, 1.0]


def test_equal_values_at_every_point_are_healthy():
    got = diagnose("exact-equal", "ga1.txt", "ga8.txt")
    assert (got.verdict, got.impact) == (Verdict.HEALTHY, Impact.NONE)
    assert [round(estimate.value, 3) for _, estimate in got.exponents] == [0.0, 0.0]


@pytest.mark.parametrize(("case", "kind", "reason"), [
    ("dpo-mid-run", "first_loss_anchor", Reason.LATE_START),
    ("kto-then-nan", "first_loss_anchor", Reason.WEIGHTS_UNKNOWN),
])  # fmt: skip
def test_a_loss_whose_start_is_not_known_is_undecided(case, kind, reason):
    got = diagnose(case, "paste.txt", ga={"*": 2})
    assert (got.verdict, got.likely) == (Verdict.INCONCLUSIVE, None)
    assert not_applicable(got, kind) == {reason}


def test_perplexity_to_base_two_is_no_witness():
    got = diagnose("perplexity-base-two", "train.log", ga={"*": 8})
    assert got.verdict is Verdict.INCONCLUSIVE
    assert not_applicable(got, "entropy_ratio") == {Reason.COPY_OF_LOSS}


def test_a_release_of_a_package_that_computes_no_loss_moves_no_odds():
    got = diagnose("release-of-another-package", "paste.txt", stack=("deepspeed==0.15.4",))
    assert got.verdict is Verdict.INCONCLUSIVE
    assert got.posterior == {}
    assert not_applicable(got, "known_release") == {Reason.RELEASE_ELSEWHERE}


def test_a_loss_of_grpo_is_undecided():
    got = diagnose("grpo-zero-loss", "paste.txt", ga={"*": 8})
    assert got.verdict is Verdict.INCONCLUSIVE
    assert Role.LOSS not in got.posterior
    assert got.next_steps[-1].argv == ("ga-audit", "repro", "--engine", "trl", "--variant", "grpo", "--ga", "1,8")
