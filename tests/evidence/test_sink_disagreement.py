import numpy as np
import pytest
from conftest import make_series
from evidence.single_runs import curve, evidence, language_model, one, ratio

from ga_audit.evidence import sink_disagreement
from ga_audit.finding import Reason
from ga_audit.run import Role


def run(factor, other_factor):
    console = make_series(Role.LOSS, (curve() * other_factor)[:50], 10 * np.arange(1, 51), format="console")
    return language_model(factor=factor, series=[console])


def test_two_sinks_that_differ_by_ga():
    piece = evidence(sink_disagreement, run(8, 1))
    assert ratio(piece) > 0
    assert piece.weak
    assert piece.facts["second"] == "console"
    assert piece.facts["ratio"] == pytest.approx(8, rel=1e-6)


def test_sinks_that_agree_and_one_sink_say_nothing():
    assert one(sink_disagreement, run(8, 8)).reason is Reason.LOGS_AGREE
    assert one(sink_disagreement, language_model()).reason is Reason.ONE_LOG


def test_another_factor_is_no_power_of_ga():
    assert ratio(evidence(sink_disagreement, run(3, 1))) == 0
