"""Every kind of evidence and every reason has its sentence, and the sentence has the numbers."""

from __future__ import annotations

import ast
import dataclasses
import re
import string
from pathlib import Path

import pytest
from conftest import make_run, twins

import ga_audit
from ga_audit import evidence
from ga_audit.evidence import first_loss_anchor, ratio_regression
from ga_audit.evidence._objective import Sign
from ga_audit.finding import HEALTHY, Evidence, Method, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.output.wording import evidence as wording
from ga_audit.run import Role

PACKAGE = Path(ga_audit.__file__).parent
# what the templates of a kind may need, where no run of the tests makes that piece of evidence
FACTS = {
    "accuracy_bound": {"loss": 20.0, "place": "above", "low": 0.4, "high": 5.5, "accuracy": 0.4, "over_ga": 2.5},
    "entropy_ratio": {"quantity": "perplexity", "ratio": 8, "low": 6, "high": 9, "points": 3, "ga": 8},
    "eval_gap": {"ratio": 7.6, "low": 5.1, "high": 11, "used": 3, "evaluations": 6, "ga": 8},
    "first_loss_anchor": {"loss": 5.5, "start": "classes", "size": 4, "step": 1.0, "ratio": 4, "ga": 8},
    "ga_change": {"factor": 4, "step": 30, "from": 2, "to": 8, "exponent": 1, "low": 0.9, "high": 1.1},
    "known_release": {"stack": (("transformers", "4.48.0"),), "bugs": (("GA001", False),), "unusual": (), "common": False},
    "measurement": {"cells": (("ga8", 8.0),)},
    "short_accumulation": {"last": 2, "ga": 8, "shape": "open", "depth": 0.5, "spread": 0.3, "points": 4},
    "sink_disagreement": {"first": "console", "second": "wandb_file", "ratio": 8, "ga": 8},
    "summary_loss": {"ratio": 8, "ga": 8},
    "version_contrast": {"release": "trl 1.0.0", "exponent": -0.0001, "low": -0.01, "high": 0.01},
    "vocabulary_bound": {"loss": 15, "place": "above", "falling": True, "vocabulary": 32000, "bound": 10.4, "over_ga": 1.9},
}  # fmt: skip
EXPECTED = {
    "accuracy_bound": "loss of one is 20, above the 0.4 to 5.5 that a token accuracy of 0.4 allows; divided by GA 2.5",
    "entropy_ratio": "loss of one is 8 times its ln(perplexity) [6, 9] (3 points; GA is 8)",
    "eval_gap": "loss of one is 7.6 times its eval loss [5.1, 11] (median of the last 3 of 6 evaluations; GA is 8)",
    "first_loss_anchor": "first loss of one (step 1) is 5.5, 4 times ln 4, where 4 classes start; GA is 8",
    "ga_change": "loss of one changes by x4 at step 30, where GA goes from 2 to 8: exponent on GA 1.00 [0.90, 1.10]",
    "known_release": "transformers 4.48.0 is known to mis-scale the loss: GA001 (if its conditions hold)",
    "measurement": "measured: the logged loss is x8.000 at ga8, against that of the whole batch",
    "short_accumulation": "where epochs of one end with 2 of 8 micro-batches, its loss leaves it open "
    "(depth 0.50 +- 0.30, 4 points; 1 = a sum, 0 = none)",
    "sink_disagreement": "loss of one in console is 8 times that in wandb_file; one of the two is scaled (GA is 8)",
    "summary_loss": "logged losses of one are 8 times its train_loss in the mean; GA is 8",
    "version_contrast": "loss of trl 1.0.0 against the other releases: exponent on GA 0.000 [-0.010, 0.010]",
    "vocabulary_bound": "loss of one is 15 in its second half and falling, above ln(vocabulary 32000) = 10.4; "
    "divided by GA 1.9",
}  # fmt: skip


def piece(kind: str) -> Evidence:
    return Evidence(
        kind=kind, role=Role.LOSS, runs=("r1",), log_likelihood={HEALTHY: 0.0}, facts=FACTS[kind], source="memory"
    )


@pytest.mark.parametrize("kind", sorted(FACTS))
def test_sentence(kind: str):
    assert wording.sentence(piece(kind), [dataclasses.replace(make_run("r1"), name="one")]) == EXPECTED[kind]


def test_the_sentence_of_a_comparison_names_its_extreme_runs():
    runs = twins(1)
    (found,) = (p for p in ratio_regression.gather(Group(tuple(runs))) if p.role is Role.LOSS)
    start, _, rest = wording.sentence(found, runs).partition("; exponent on GA ")
    assert start == "loss of ga8 is 8 times that of ga1"
    assert rest.startswith(("1.000 [", "0.999 ["))
    assert rest.endswith("] over 2 runs, 80 points")


def test_every_kind_has_a_sentence():
    kinds = {*evidence.kinds(), "measurement"}
    assert set(wording.SENTENCES) == kinds
    assert {kind for kind, _ in wording.BY_KIND} <= kinds


@pytest.mark.parametrize(
    ("table", "codes"),
    [
        (wording.REASONS, Reason),
        (wording.METHODS, Method),
        (wording.SIGNS, Sign),
        (wording.STARTS, first_loss_anchor.Start),
    ],
)
def test_every_code_has_its_words(table, codes):
    assert set(table) == set(codes)


def test_every_reason_is_given_by_some_kind():
    used = {
        node.attr
        for file in [*PACKAGE.glob("evidence/*.py"), PACKAGE / "grouping.py"]
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert used == {reason.name for reason in Reason}


def test_a_reason_names_the_run_and_falls_back_to_its_id():
    item = NotApplicable(kind="eval_gap", reason=Reason.GA_UNKNOWN, role=Role.LOSS, runs=("r1",))
    expected = ("gradient_accumulation_steps is not known of r1", "Give it: --ga 'r1=N'.")
    assert wording.not_applicable(item, [make_run("r1")]) == expected
    assert wording.not_applicable(item, []) == expected


@pytest.mark.parametrize(
    "template", [*wording.SENTENCES.values(), *(t for pair in wording.REASONS.values() for t in pair)]
)
def test_templates_read_fields_only(template: str):
    """No attribute or item of a fact is looked up by a template."""
    for _, name, _, _ in string.Formatter().parse(template):
        assert name is None or name.isidentifier() or name == "from"


def test_a_kind_without_a_template_is_shown_as_its_facts():
    item = dataclasses.replace(piece("summary_loss"), kind="made-up")
    assert wording.sentence(item, [make_run("r1")]) == "made-up: role loss, run r1, ratio 8, ga 8"


def loss_of(runs):
    return next(p for p in ratio_regression.gather(Group(tuple(runs))) if p.role is Role.LOSS)


def test_the_textbook_slope_agrees_with_the_model():
    two, six = (wording.cross_check(loss_of(twins(1, gas=gas))) for gas in ((1, 8), (1, 2, 4, 8, 16)))
    assert re.fullmatch(
        r"Theil-Sen slope (1\.000|0\.999), no interval from 2 runs; the model's exponent \1 \[0\.\d{3}, 1\.\d{3}\]", two
    )
    assert re.fullmatch(
        r"Theil-Sen slope 1\.000, \[(0\.99\d|1\.000), 1\.00\d\]; the model's exponent 1\.000 \[0\.\d{3}, 1\.\d{3}\]",
        six,
    )


def test_there_is_no_textbook_slope_without_one_driver():
    assert wording.cross_check(piece("eval_gap")) == ""
    further = dataclasses.replace(loss_of(twins(1)), further=(loss_of(twins(1)).estimate,))
    assert wording.cross_check(further) == ""
