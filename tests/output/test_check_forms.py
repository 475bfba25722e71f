"""A check as text and as JSON."""

import json
from importlib import resources

import jsonschema
import pytest
from checks import every_check

from ga_audit.output import _check
from ga_audit.output.wording.verdict import headline

SCHEMA = json.loads((resources.files("ga_audit.output") / "check_schema_v1.json").read_text("utf-8"))
CHECKS = every_check()


def test_the_schema_itself_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", CHECKS)
def test_json_follows_its_schema(name):
    text = _check.as_json(CHECKS[name])
    checker = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator(SCHEMA, format_checker=checker).validate(json.loads(text))
    text.encode("ascii")


@pytest.mark.parametrize("name", CHECKS)
def test_text_holds_no_control_character(name):
    text = _check.text(CHECKS[name])
    assert all(c == "\n" or c.isprintable() for c in text)


def test_text():
    assert _check.text(CHECKS["accepted"]).splitlines() == [
        "accepted   loss-summed-over-ga: ga8",
        *(f"           {line}" for line in _wrapped(CHECKS["accepted"])),
        "           accepted until 2026-11-27: known",
        "accepted   grad-norm-summed-over-ga: ga8",
        *(f"           {line}" for line in _wrapped(CHECKS["accepted"])),
        "           accepted until 2026-11-27: known",
        "policy met: 0 error, 0 warning, 0 undecided, 2 accepted",
        "default policy",
    ]
    assert _check.text(CHECKS["inconclusive"]).splitlines()[-2] == (
        "policy undecided: 0 error, 0 warning, 1 undecided, 0 accepted"
    )


def test_an_expired_exception_is_named():
    (first, *_) = json.loads(_check.as_json(CHECKS["hostile"]))["concerns"]
    assert first["message"].endswith(") expired on 2026-01-01.")
    assert (first["level"], first["accepted"], first["expired_exception"]["until"]) == ("error", None, "2026-01-01")


def _wrapped(check):
    import textwrap

    return textwrap.wrap(headline(check.audit.diagnoses[0]), 89)
