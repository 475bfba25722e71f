from conftest import make_series
from evidence.single_runs import curve, evidence, language_model, one, ratio

from ga_audit.evidence import summary_loss
from ga_audit.finding import Reason
from ga_audit.run import Role


def run(train_loss, factor=1.0):
    return language_model(factor=factor, series=[make_series(Role.SUMMARY_LOSS, [train_loss], [600])])


def test_a_summary_that_is_ga_times_less_than_its_log():
    piece = evidence(summary_loss, run(curve().mean(), factor=8))
    assert 0.5 < ratio(piece) < 1.2
    assert piece.weak


def test_agreement_shows_nothing_and_a_zero_is_not_believed():
    assert one(summary_loss, run(8 * curve().mean(), factor=8)).reason is Reason.SUMMARY_AGREES
    assert one(summary_loss, run(0.0)).reason is Reason.SUMMARY_AFTER_RESUME
    assert one(summary_loss, language_model()).reason is Reason.NO_SUMMARY_LOSS


def test_a_difference_that_is_no_power_of_ga_decides_nothing():
    assert ratio(evidence(summary_loss, run(curve().mean() * 3))) <= 0
