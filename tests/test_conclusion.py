import pytest
from factories import twins

from ga_audit import pipeline
from ga_audit.conclusion import Outcome
from ga_audit.finding import Impact, Verdict


@pytest.mark.parametrize(
    ("outcome", "verdict", "impact"),
    [
        (Outcome.HEALTHY, Verdict.HEALTHY, Impact.NONE),
        (Outcome.LOG_ONLY, Verdict.SCALED, Impact.LOG_ONLY),
        (Outcome.GRADIENTS, Verdict.SCALED, Impact.GRADIENTS),
        (Outcome.SOME_STEPS, Verdict.SCALED, Impact.GRADIENTS),
    ],
)
def test_what_follows_from_a_measured_outcome(outcome, verdict, impact):
    assert (outcome.verdict, outcome.impact) == (verdict, impact)


def test_a_diagnosis_keeps_its_group():
    runs = twins(1)
    (diagnosis,) = pipeline.diagnose(runs)
    assert diagnosis.runs is diagnosis.group.runs
    assert {run.name for run in diagnosis.runs} == {"ga1", "ga8"}
