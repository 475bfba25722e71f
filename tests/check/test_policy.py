"""The table of a policy: what it may hold, and what is said of what it may not."""

from datetime import date

import pytest

from ga_audit.check.policy import FINDINGS, Level, Policy, parse
from ga_audit.errors import WrongUsage
from ga_audit.run import Role, Schedule


def test_a_whole_policy_is_read():
    policy = parse(
        {
            "paths": ["runs"],
            "baseline": "known.json",
            "run": "make train",
            "repro": "--engine torch",
            "ga": {"a": 8, "b": "2,8@500"},
            "world_size": 4,
            "levels": {"inconclusive": "warning", "loss-*": "warning", "GA004": "off"},
            "expected": {"loss": 1, "grad_norm": {"world_size": 1}},
            "exceptions": [{"finding": "loss-*", "runs": "old/*", "reason": "kept", "until": date(2027, 1, 31)}],
            "stack": {"model": "X", "world_size": 2, "deepspeed": False},
        },
        "f.toml",
        bugs=["GA004"],
    )
    assert policy.levels == {"inconclusive": Level.WARNING, "loss-*": Level.WARNING, "GA004": Level.OFF}
    assert policy.expected == {Role.LOSS: (1, 0), Role.GRAD_NORM: (0, 1)}
    (waiver,) = policy.exceptions
    assert (waiver.finding, waiver.runs, waiver.reason, waiver.until) == (
        "loss-*", ("old/*",), "kept", date(2027, 1, 31),
    )  # fmt: skip
    assert policy.ga == {"a": Schedule.constant(8), "b": Schedule.parse("2,8@500")}
    assert policy.world_size == {"*": 4}
    assert (policy.paths, policy.baseline, policy.run, policy.repro) == (
        ("runs",), "known.json", "make train", "--engine torch",
    )  # fmt: skip
    assert policy.stack == {"model": "X", "world_size": 2, "deepspeed": False}


WHOLE = {"finding": "loss-*", "reason": "r", "until": "2027-01-31"}


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        ({"level": {}}, "level is no setting of a policy", "Did you mean levels?"),
        ({"levels": {"incoclusive": "off"}}, "levels: there is no rule incoclusive", "Did you mean inconclusive?"),
        ({"levels": {"xyz-*": "off"}}, "levels: there is no rule xyz-*", "The rules are: scaled,"),
        ({"levels": {"scaled": "eror"}}, "levels: scaled = 'eror' is no level of this rule", "Did you mean error?"),
        (
            {"levels": {"scaled": "undecided"}},
            "levels: scaled = 'undecided' is no level of this rule",
            "The levels are: error, warning, off.",
        ),
        ({"levels": {"*": "undecided"}}, "levels: * = 'undecided' is no level of this rule", "The levels are: error,"),
        ({"levels": {"scaled": True}}, "levels: scaled = True is no level of this rule", "The levels are:"),
        ({"levels": []}, "levels is not a table", "Write [levels]"),
        ({"expected": {"los": 1}}, "expected.los is no setting of a policy", "Did you mean loss?"),
        ({"expected": {"loss": "one"}}, "expected.loss: 'one' is not an exponent", "Write 0 for right"),
        ({"expected": {"loss": {"gas": 1}}}, "expected.loss.gas is no setting", "Did you mean ga?"),
        ({"exceptions": {}}, "exceptions is not a list of tables", "Write [[exceptions]]"),
        ({"exceptions": [{**WHOLE, "until": "soon"}]}, "until = soon is not a date", "until = 2027-01-31"),
        ({"exceptions": [{k: v for k, v in WHOLE.items() if k != "until"}]}, "has no until", "last day"),
        ({"exceptions": [{k: v for k, v in WHOLE.items() if k != "reason"}]}, "has no reason", "Each needs"),
        ({"exceptions": [{**WHOLE, "finding": "los"}]}, "there is no finding los", "The findings are"),
        ({"exceptions": [{**WHOLE, "untill": 1}]}, "exceptions.untill is no setting", "Did you mean until?"),
        ({"paths": [1]}, "paths is not a list of texts", "Write paths ="),
        ({"baseline": 1}, "baseline is not a text", "Write baseline ="),
        ({"ga": {"a": 0}}, "ga: 0 is not a number of micro-batches", "ga = 8"),
        ({"ga": True}, "ga: True is not a number of micro-batches", "ga = 8"),
        ({"world_size": 0}, "world_size: 0 is not a number of ranks", "world_size = 8"),
        ({"stack": {"modl": "X"}}, "stack.modl is no setting", "Did you mean model?"),
        ({"stack": {"world_size": True}}, "stack.world_size = True is not a positive whole number", "Write"),
        ({"stack": {"deepspeed": "no"}}, "stack.deepspeed = 'no' is not true or false", "Write"),
    ],
)
def test_what_is_wrong_is_named(content, message, remedy):
    with pytest.raises(WrongUsage) as error:
        parse(content, "f.toml")
    assert message in error.value.message
    assert remedy in error.value.remedy
    assert error.value.where == "f.toml"


def test_an_id_goes_before_a_glob_and_a_special_rule_before_a_general_one():
    levels = {"loss-*": Level.OFF, "loss-summed-over-ga": Level.WARNING, "scaled": Level.ERROR}
    policy = Policy(levels=levels)
    assert policy.level("loss-summed-over-ga", "scaled") is Level.WARNING
    assert policy.level("loss-divided-by-ga", "scaled") is Level.OFF
    assert policy.level("grad-norm-summed-over-ga", "scaled") is Level.ERROR
    assert Policy().level("inconclusive") is Level.UNDECIDED


def test_the_findings_have_the_ids_of_the_detector():
    from factories import twins

    from ga_audit import pipeline

    (diagnosis,) = pipeline.diagnose(twins(1))
    assert {finding.id for finding in diagnosis.findings} <= set(FINDINGS)
    assert len(FINDINGS) == 12
