"""Workflow commands and the job summary."""

import re

import pytest
from checks import every_check
from factories import twins

from ga_audit import pipeline
from ga_audit.output import github
from ga_audit.output.wording.verdict import headline

CHECKS = every_check()
COMMAND = re.compile(r"::(error|warning|notice) ([^:\r\n]*)::([^\r\n]*)")


@pytest.mark.parametrize("name", CHECKS)
def test_every_line_is_one_command(name):
    check = CHECKS[name]
    lines = github.render(check.audit, check=check).split("\n")
    assert len(lines) == max(1, len(check.concerns))
    for line in lines:
        command = COMMAND.fullmatch(line)
        assert command, line
        keys = [pair.partition("=")[0] for pair in command[2].split(",")]
        assert keys in (["title"], ["file", "line", "title"])
        line.encode("utf-8")


def test_the_commands():
    check = CHECKS["scaled"]
    first = github.render(check.audit, check=check).split("\n")[0]
    sentence = headline(check.audit.diagnoses[0])
    assert first == f"::error file=ga8,line=1,title=ga-audit%3A loss-summed-over-ga::{sentence} Runs: ga8."
    accepted = CHECKS["accepted"]
    assert github.render(accepted.audit, check=accepted).startswith("::notice file=ga8")
    healthy = CHECKS["healthy"]
    assert github.render(healthy.audit, check=healthy) == "::notice title=ga-audit::No concern."


@pytest.mark.parametrize("name", CHECKS)
def test_the_summary_is_one_table(name):
    check = CHECKS[name]
    lines = github.summary(check.audit, check=check).splitlines()
    assert lines[0] in {"### ga-audit: policy met", "### ga-audit: policy violated", "### ga-audit: policy not decided"}
    for line in lines[2:]:
        assert line == "No concern." or len(re.findall(r"(?<!\\)\|", line)) == 5
        assert "<b>" not in line


def test_without_a_check_the_default_policy_holds():
    assert github.render(pipeline.audit_runs(twins(1))).startswith("::error ")
