"""A verdict on a group holds for each of its runs: a log in the company of its multiples."""

import dataclasses

import numpy as np
import pytest
from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.conclusion import UndecidedReason
from ga_audit.finding import Verdict
from ga_audit.output.wording.verdict import headline
from ga_audit.run import Role

N = 40


def log(name, ga, factor=1.0, *, seed=0, **fields):
    """A language model's run with evaluations, its train loss `factor` times the right one."""
    rng = np.random.default_rng(seed)
    right = 2.0 + 2.0 * np.exp(-np.arange(1, N + 1) / 15)
    at = list(range(5, N + 1, 5))
    noise = rng.normal(0, 0.01, N)
    return make_run(name, ga=ga, loss=factor * (right + noise), eval_loss=right[[i - 1 for i in at]], eval_steps=at,
                    other={"trainer": "SFTTrainer"}, packages={"trl": "0.12.0"}, **fields)  # fmt: skip


def verdicts(runs):
    return [(d.verdict, tuple(r.name for r in d.runs)) for d in pipeline.audit_runs(runs).diagnoses]


@pytest.mark.parametrize("ga", [4, 8])
def test_right_runs_of_one_ga_are_healthy_together(ga):
    assert [v for v, _ in verdicts([log(f"r{i}", ga, seed=i) for i in range(3)])] == [Verdict.HEALTHY]


@pytest.mark.parametrize("ga", [2, 4, 8])
@pytest.mark.parametrize("factor", [2, 4, 8, 1 / 2, 1 / 4])
@pytest.mark.parametrize(("right", "copies"), [(1, 1), (2, 1), (7, 1), (2, 2), (1, 3)])
def test_a_multiple_is_not_healthy_in_the_company_of_right_runs(ga, factor, right, copies):
    runs = [log(f"right{i}", ga, seed=i) for i in range(right)]
    runs += [log(f"odd{i}", ga, factor, seed=i) for i in range(copies)]
    (diagnosis,) = pipeline.audit_runs(runs).diagnoses
    assert diagnosis.verdict is Verdict.INCONCLUSIVE, headline(diagnosis)


@pytest.mark.parametrize("factor", [2, 4, 1 / 4])
def test_a_multiple_is_not_healthy_among_runs_of_several_ga(factor):
    runs = [log(f"ga{ga}", ga) for ga in (1, 2, 4, 8)] + [log("odd", 8, factor)]
    (diagnosis,) = pipeline.audit_runs(runs).diagnoses
    assert diagnosis.verdict is Verdict.INCONCLUSIVE
    why = diagnosis.undecided[Role.LOSS]
    assert why.runs == ("odd",)
    if why.reason is UndecidedReason.ODD_RUNS:
        assert why.factors == pytest.approx((factor,), rel=0.05)


def test_the_run_whose_own_evidence_contradicts_is_named_alone():
    (diagnosis,) = pipeline.audit_runs([log("right", 8), log("odd", 8, 8.0)]).diagnoses
    why = diagnosis.undecided[Role.LOSS]
    assert (why.reason, why.runs) == (UndecidedReason.CONTRADICTED, ("odd",))
    assert why.right == pytest.approx((0.013,), abs=0.003)


def test_a_right_run_is_not_scaled_in_the_company_of_summed_ones():
    runs = [log(f"sum{i}", 8, 8.0, seed=i) for i in range(3)] + [log("right", 8)]
    (diagnosis,) = pipeline.audit_runs(runs).diagnoses
    assert diagnosis.verdict is Verdict.INCONCLUSIVE
    assert "right" in headline(diagnosis)


def test_a_run_on_which_nothing_is_known_is_not_healthy_with_the_others():
    """It has no eval loss and shares no step with the others."""
    other = log("other", 8)
    series = dataclasses.replace(other.get(Role.LOSS), position=np.arange(100001, 100001 + N))
    lone = dataclasses.replace(other, id="lone", name="lone", series=(series,))
    assert all(v is not Verdict.HEALTHY for v, names in verdicts([log("right", 8), lone]) if "lone" in names)


def test_no_run_of_unknown_ga_is_healthy():
    runs = [dataclasses.replace(r, name=f"x{i}", id=f"x{i}") for i, r in enumerate(twins(0.0))]
    unknown = [dataclasses.replace(r, settings=dataclasses.replace(r.settings, gradient_accumulation_steps=None))
               for r in runs]  # fmt: skip
    assert all(v is Verdict.INCONCLUSIVE for v, _ in verdicts(unknown))


def test_a_run_on_which_nothing_can_scale_keeps_no_verdict_from_the_others():
    """Of GA 1, without an eval loss and without a step in common with the other run."""
    other = log("other", 1)
    series = dataclasses.replace(other.get(Role.LOSS), position=np.arange(100001, 100001 + N))
    for ga, verdict in ((1, Verdict.HEALTHY), (8, Verdict.INCONCLUSIVE)):
        lone = dataclasses.replace(log("lone", ga), series=(series,))
        assert verdicts([log("right", 8), lone])[0][0] is verdict
