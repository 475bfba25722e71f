from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ga_audit.cli import inspect as command
from ga_audit.errors import ExitCode
from ga_audit.finding import Verdict


def audit(*verdicts, failures=(), set_aside=()):
    return SimpleNamespace(
        diagnoses=[SimpleNamespace(verdict=v) for v in verdicts], failures=failures, set_aside=set_aside
    )


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (audit(Verdict.HEALTHY), ExitCode.HEALTHY),
        (audit(Verdict.HEALTHY, Verdict.SCALED), ExitCode.SCALED),
        (audit(Verdict.INCONCLUSIVE, Verdict.SCALED, failures=[1]), ExitCode.SCALED),
        (audit(Verdict.HEALTHY, Verdict.INCONCLUSIVE), ExitCode.UNDECIDED),
        (audit(Verdict.HEALTHY, failures=[1]), ExitCode.UNDECIDED),
        (audit(), ExitCode.UNDECIDED),
        (audit(Verdict.HEALTHY, set_aside=[1]), ExitCode.UNDECIDED),
        (audit(Verdict.HEALTHY, Verdict.SCALED, set_aside=[1]), ExitCode.SCALED),
    ],
)
def test_status_worst_first(result, code):
    assert command.status(result) == code


def test_formats_are_the_leaves_of_render_by_their_plain_names():
    assert {"text", "json", "markdown"} <= set(command._formats())


@pytest.mark.parametrize("value", ["0", "a=0", "a=x", "-3", "a="])
def test_wrong_ga_is_a_usage_error(value):
    done = CliRunner().invoke(command.command, ["x", "--ga", value])
    assert done.exit_code == 2
    assert "positive whole number" in done.output
