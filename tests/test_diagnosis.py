"""The rule that makes a verdict of evidence, on runs in memory through the whole pipeline."""

import dataclasses
import math

import pytest
from conftest import make_run, twins

from ga_audit import pipeline
from ga_audit.conclusion import Action, UndecidedReason
from ga_audit.diagnosis import diagnose_group
from ga_audit.finding import HEALTHY, OTHER, SUMMED_GA, Evidence, Impact, Verdict
from ga_audit.grouping import group
from ga_audit.output.wording.verdict import headline
from ga_audit.run import Role


def diagnose(runs):
    diagnoses = list(pipeline.diagnose(runs))
    assert len(diagnoses) == 1
    return diagnoses[0]


@pytest.mark.parametrize(
    ("loss", "norm", "verdict", "impact"),
    [
        (0, 0, Verdict.HEALTHY, Impact.NONE),
        (1, 0, Verdict.SCALED, Impact.LOG_ONLY),
        (1, 1, Verdict.SCALED, Impact.GRADIENTS),
        (0, 1, Verdict.SCALED, Impact.GRADIENTS),
        (-1, 0, Verdict.SCALED, Impact.LOG_ONLY),
        (0, -1, Verdict.SCALED, Impact.GRADIENTS),
        (-1, -1, Verdict.SCALED, Impact.GRADIENTS),
        (0, -2, Verdict.SCALED, Impact.GRADIENTS),
    ],
)
def test_every_row_of_the_table_of_readings(loss, norm, verdict, impact):
    diagnosis = diagnose(twins(loss, norm, gas=(1, 2, 8)))
    assert (diagnosis.verdict, diagnosis.impact) == (verdict, impact)
    found = {f.role: f.hypothesis.ga for f in diagnosis.findings}
    assert found == {r: a for r, a in ((Role.LOSS, loss), (Role.GRAD_NORM, norm)) if a}


def test_posteriors_sum_to_one():
    diagnosis = diagnose(twins(1, 1))
    for posterior in diagnosis.posterior.values():
        assert sum(posterior.values()) == pytest.approx(1)


def test_order_of_the_runs_changes_nothing():
    runs = twins(1, 0, gas=(1, 2, 8))
    one, two = diagnose(runs), diagnose(runs[::-1])
    assert headline(one) == headline(two)
    assert one.posterior[Role.LOSS][SUMMED_GA] == pytest.approx(two.posterior[Role.LOSS][SUMMED_GA])


def _piece(**changes):
    piece = Evidence(
        kind="made-up", role=Role.LOSS, runs=("a",), log_likelihood={HEALTHY: 0.0, SUMMED_GA: 9.0, OTHER: 0.0},
        facts={}, source="test",
    )  # fmt: skip
    return dataclasses.replace(piece, **changes)


def single():
    return group([make_run("a", ga=8, loss=[8.0, 7.5, 7.0])])[0]


def test_one_weak_piece_never_convicts():
    diagnosis = diagnose_group(single(), [_piece(weak=True)])
    assert diagnosis.verdict is Verdict.INCONCLUSIVE
    assert diagnosis.undecided[Role.LOSS].reason is UndecidedReason.ONE_WEAK_EVIDENCE


def test_the_same_piece_convicts_when_it_is_strong():
    assert diagnose_group(single(), [_piece()]).verdict is Verdict.SCALED


def test_pieces_of_one_kind_count_once():
    half = {HEALTHY: 0.0, SUMMED_GA: 2.5, OTHER: -3.0}
    one = diagnose_group(single(), [_piece(log_likelihood=half)])
    many = diagnose_group(single(), [_piece(log_likelihood=half)] * 5)
    assert one.posterior == many.posterior


def test_healthy_needs_equivalence():
    likes = {HEALTHY: 0.0, SUMMED_GA: -20.0, OTHER: -20.0}
    assert diagnose_group(single(), [_piece(log_likelihood=likes)]).verdict is Verdict.HEALTHY
    wide = diagnose_group(single(), [_piece(log_likelihood=likes, equivalent=False)])
    assert wide.verdict is Verdict.INCONCLUSIVE


def test_nothing_to_go_by_is_inconclusive_and_says_what_to_do():
    diagnosis = diagnose_group(single(), [])
    assert diagnosis.verdict is Verdict.INCONCLUSIVE
    assert [step.action for step in diagnosis.next_steps] == [Action.ADD_OTHER_GA, Action.MEASURE_INSTEAD]


def test_a_known_factor_never_becomes_a_number_for_healthy_runs():
    diagnosis = diagnose(twins(0))
    assert all(diagnosis.log_factor(run, Role.LOSS) == 0 for run in diagnosis.runs)


def test_the_factor_of_a_finding_is_the_named_integer_power():
    diagnosis = diagnose(twins(1))
    by_name = {run.name: math.exp(diagnosis.log_factor(run, Role.LOSS)) for run in diagnosis.runs}
    assert by_name == pytest.approx({"ga1": 1, "ga8": 8})


def test_one_run_of_other_code_under_the_same_name_is_not_judged_with_the_rest():
    right = dataclasses.replace(twins(0.0, gas=(4,))[0], id="right", name="right")
    summed = dataclasses.replace(twins(1.0, gas=(2,))[0], id="summed", name="summed")
    for runs, name in (([*twins(1.0), right], "right"), ([*twins(0.0, gas=(1, 2, 4, 8)), summed], "summed")):
        (diagnosis,) = pipeline.diagnose(runs)
        assert diagnosis.verdict is Verdict.INCONCLUSIVE
        assert diagnosis.undecided[Role.LOSS].reason is UndecidedReason.ODD_RUNS
        assert diagnosis.undecided[Role.LOSS].runs == (name,)


def test_another_fault_of_the_same_factor_is_said_where_there_are_ranks():
    (diagnosis,) = pipeline.diagnose(twins(1.0, gas=(8,)) and [
        dataclasses.replace(run, settings=dataclasses.replace(run.settings, world_size=dataclasses.replace(
            run.settings.world_size, value=run.settings.ga))) for run in twins(1.0, gas=(1, 8))
    ])  # fmt: skip
    codes = {note.code for note in diagnosis.notes}
    assert diagnosis.verdict is not Verdict.SCALED or "same-factor" in codes
    (diagnosis,) = pipeline.diagnose(twins(1.0))
    assert "same-factor" not in {note.code for note in diagnosis.notes}
