"""The rule that makes a verdict of evidence, on runs in memory through the whole pipeline."""

import dataclasses
import math

import numpy as np
import pytest
from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.bugs import silent
from ga_audit.conclusion import Action, UndecidedReason
from ga_audit.diagnosis import MEASURED, diagnose_group
from ga_audit.finding import HEALTHY, NAMED, OTHER, SUMMED_GA, SUMMED_WORLD, Evidence, Hypothesis, Impact, Verdict
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
    runs = [
        dataclasses.replace(
            run,
            settings=dataclasses.replace(
                run.settings, world_size=dataclasses.replace(run.settings.world_size, value=run.settings.ga)
            ),
        )
        for run in twins(1.0, gas=(1, 8))
    ]
    (diagnosis,) = pipeline.diagnose(runs)
    assert diagnosis.verdict is Verdict.SCALED
    assert [note.code for note in diagnosis.notes] == ["same-factor", "same-factor", "common-factor"]
    (diagnosis,) = pipeline.diagnose(twins(1.0))
    assert [note.code for note in diagnosis.notes] == ["common-factor"]


RIGHT = {HEALTHY: 0.0, SUMMED_GA: -20.0, OTHER: -20.0}


def norm_leaning(nats: float) -> Evidence:
    """Evidence for a summed grad_norm of some nats; given a healthy loss, 0 nats leave it healthy."""
    return _piece(role=Role.GRAD_NORM, log_likelihood={HEALTHY: 0.0, SUMMED_GA: nats, OTHER: -20.0})


def test_weak_evidence_alone_is_not_healthy():
    assert diagnose_group(single(), [_piece(log_likelihood=RIGHT, weak=True)]).verdict is Verdict.INCONCLUSIVE
    equivalent = _piece(log_likelihood=RIGHT, weak=True, equivalent=True)
    assert diagnose_group(single(), [equivalent]).verdict is Verdict.HEALTHY


def test_hypotheses_that_cannot_be_told_apart_reach_a_verdict_together():
    (runs,) = group([make_run("a", ga=8, world_size=4, loss=[8.0, 7.5, 7.0])])
    tied = _piece(log_likelihood={HEALTHY: 0.0, SUMMED_GA: 9.0, SUMMED_WORLD: 9.0, OTHER: -20.0})
    diagnosis = diagnose_group(runs, [tied])
    posterior = diagnosis.posterior[Role.LOSS]
    assert max(posterior.values()) < 0.95 < posterior[SUMMED_GA] + posterior[SUMMED_WORLD]
    assert diagnosis.verdict is Verdict.SCALED
    (finding,) = diagnosis.findings
    assert finding.probability == pytest.approx(posterior[SUMMED_GA] + posterior[SUMMED_WORLD])


def test_a_measured_factor_that_no_power_explains_is_inconclusive():
    measured = _piece(kind=MEASURED, log_likelihood=dict.fromkeys(NAMED, 0.0) | {OTHER: 30.0})
    assert diagnose_group(single(), [measured]).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("nats", "probability", "verdict", "impact"),
    [
        (-1.0, 0.98, Verdict.HEALTHY, Impact.NONE),
        (0.5, 0.92, Verdict.HEALTHY, Impact.UNKNOWN),
        (1.9, 0.73, Verdict.INCONCLUSIVE, Impact.UNKNOWN),
    ],
)
def test_an_undecided_grad_norm_that_leans_to_healthy_leaves_the_loss_its_verdict(nats, probability, verdict, impact):
    diagnosis = diagnose_group(single(), [_piece(log_likelihood=RIGHT), norm_leaning(nats)])
    assert diagnosis.posterior[Role.GRAD_NORM][HEALTHY] == pytest.approx(probability, abs=0.005)
    assert (diagnosis.verdict, diagnosis.impact) == (verdict, impact)


def test_a_healthy_grad_norm_without_a_loss_is_healthy():
    norm = _piece(role=Role.GRAD_NORM, log_likelihood=RIGHT)
    (runs,) = group([make_run("a", ga=8, grad_norm=[1.0, 0.9, 0.8])])
    diagnosis = diagnose_group(runs, [norm])
    assert (diagnosis.verdict, diagnosis.impact) == (Verdict.HEALTHY, Impact.NONE)


def test_only_a_healthy_grad_norm_confines_a_summed_loss_to_the_log():
    summed = _piece()
    assert diagnose_group(single(), [summed]).impact is Impact.UNKNOWN
    healthy = _piece(role=Role.GRAD_NORM, log_likelihood=RIGHT | {SUMMED_GA: -30.0})
    assert diagnose_group(single(), [summed, healthy]).impact is Impact.LOG_ONLY


def test_a_measurement_needs_no_ga_and_no_other_run():
    (runs,) = group([make_run("a", loss=[8.0, 7.5, 7.0])])
    assert diagnose_group(runs, [_piece(log_likelihood=RIGHT)]).verdict is Verdict.INCONCLUSIVE
    assert diagnose_group(runs, [_piece(log_likelihood=RIGHT, kind=MEASURED)]).verdict is Verdict.HEALTHY


def test_a_finding_is_about_the_runs_of_its_hypothesis():
    (runs,) = group([make_run("a", ga=8, loss=[8.0, 7.5, 7.0]), make_run("b", ga=8, loss=[1.0, 0.9, 0.9])])
    of_a = Hypothesis("summed-over-ga", 1, 0, frozenset({"a"}))
    piece = _piece(kind=MEASURED, runs=("a", "b"), log_likelihood=dict.fromkeys((*NAMED, OTHER), 0.0) | {of_a: 30.0})
    (finding,) = diagnose_group(runs, [piece]).findings
    assert (finding.hypothesis, finding.runs) == (of_a, ("a",))


def test_what_ratios_cannot_show_is_noted():
    runs = [dataclasses.replace(run, settings=dataclasses.replace(run.settings, world_size=None)) for run in twins(0.0)]
    assert [note.code for note in diagnose(runs).notes] == ["common-factor", "world-size-assumed"]
    assert [note.code for note in diagnose_group(single(), [_piece()]).notes] == []


def test_bugs_that_no_loss_shows_are_noted_unless_the_grad_norm_is_healthy():
    (runs,) = group(
        [make_run("a", ga=8, loss=[3.0, 2.5, 2.0], grad_norm=[1.0] * 3, packages={"transformers": "5.3.0"})]
    )
    silent_bugs = [note.code for note in silent.notes(runs.runs)]
    assert silent_bugs
    loss = _piece(log_likelihood=RIGHT)
    assert [note.code for note in diagnose_group(runs, [loss]).notes] == silent_bugs
    norm = _piece(role=Role.GRAD_NORM, log_likelihood=RIGHT)
    assert diagnose_group(runs, [loss, norm]).notes == ()


def test_an_undecided_group_says_what_it_likely_is():
    steps = np.arange(1, 5)
    loss = np.array([2.1, 1.6, 1.5, 1.4])
    (diagnosis,) = pipeline.diagnose([make_run("a", ga=1, loss=loss, steps=steps), make_run("b", ga=2, loss=2 * loss)])
    assert diagnosis.verdict is Verdict.INCONCLUSIVE
    (why,) = diagnosis.why_inconclusive
    assert diagnosis.likely == (why.leaning, why.confidence) == (Verdict.SCALED, pytest.approx(0.87, abs=0.03))
    assert diagnosis.confidence == why.confidence


def test_a_release_alone_makes_nothing_likely():
    (diagnosis,) = pipeline.diagnose([make_run("a", ga=8, loss=[2.1, 2.0, 1.9], packages={"transformers": "4.57.6"})])
    assert (diagnosis.verdict, diagnosis.likely, diagnosis.confidence) == (Verdict.INCONCLUSIVE, None, None)


def test_a_tie_of_faults_names_the_other_fault():
    loss = np.linspace(2.5, 1.5, 20) + np.random.default_rng(0).normal(0, 0.05, 20)
    runs = [make_run(f"w{w}", ga=2, world_size=w, loss=w * loss) for w in (1, 4)]
    (diagnosis,) = pipeline.diagnose(runs)
    assert diagnosis.verdict is Verdict.SCALED
    assert [note.message for note in diagnosis.notes if note.code == "also-possible"] == [
        "the loss may also be summed-over-ga-and-world-size: these runs do not exclude it, since all runs have GA 2"
    ]
