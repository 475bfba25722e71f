"""The look-up of a stack against a policy."""

import pytest

from ga_audit.check.before_train import check_stack
from ga_audit.check.policy import Level, Policy


def rules(check):
    return {c.rule: c.level.value for c in check.concerns}


def test_what_the_model_meets_is_an_error_and_what_is_not_known_is_open():
    stack = [("transformers", "4.46.1")]
    known = check_stack(Policy(stack={"model": "GPT2LMHeadModel"}), stack)
    assert rules(known)["GA002"] == "error"
    assert rules(known)["GA008"] == "undecided"
    assert known.status == 1
    off = Policy(stack={"model": "GPT2LMHeadModel"}, levels={"GA002": Level.OFF, "possible-bug": Level.WARNING})
    assert check_stack(off, stack).status == 0


def test_a_release_newer_than_all_that_were_measured_is_open():
    check = check_stack(Policy(levels={"possible-bug": Level.OFF}), [("transformers", "99.0")])
    assert rules(check) == {"unmeasured-release": "undecided"}
    assert check.status == 3


@pytest.mark.parametrize("release", ["4.45.2"])
def test_a_release_without_a_bug_is_met(release):
    check = check_stack(Policy(levels={"possible-bug": Level.OFF}), [("transformers", release)])
    assert (rules(check), check.status) == ({}, 0)


def test_a_bug_of_earlier_releases_is_open_in_one_of_which_nothing_is_known():
    stack = [("transformers", "5.24.0"), ("llamafactory", "99.0")]
    found = rules(check_stack(Policy(stack={"model": "BertForSequenceClassification"}), stack))
    assert (found["GA004"], found["GA017"], found["unmeasured-release"]) == ("error", "undecided", "undecided")
