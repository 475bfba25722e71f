"""Every fact about a known bug has its sentence."""

from ga_audit.bugs import catalogue
from ga_audit.finding import RetrainRule
from ga_audit.output.wording import bugs


def test_every_retrain_rule_has_a_sentence_and_an_entry():
    assert set(bugs.RETRAIN) == set(RetrainRule)
    assert {bug.retrain for bug in catalogue.load()} == set(RetrainRule)


def test_a_row_is_named_by_releases_conditions_and_effect():
    row = next(bug for bug in catalogue.load() if bug.id == "GA014").affected[0]
    assert bugs.place(row) == "==4.47.0; average_tokens_across_devices = true, multi_rank = true"
    effect = "GA x world_size"
    assert bugs.signature(row) == f"logged loss x {effect}, logged grad_norm x {effect}, real gradient x {effect}"
