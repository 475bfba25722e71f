"""Colour and width by the conventions of terminals; the options that all commands share."""

import pytest
from click.testing import CliRunner

from ga_audit.cli import _terminal, cli


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),  # no terminal
        ({"FORCE_COLOR": "1", "TERM": "xterm"}, True),
        ({"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False),
    ],
)
def test_colour_follows_the_environment(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _terminal.colour() is expected
    assert _terminal.colour(True) is True
    assert _terminal.colour(False) is False


@pytest.mark.parametrize(("columns", "expected"), [("20", 40), ("60", 60), ("300", 100)])
def test_width_follows_the_terminal(monkeypatch, columns, expected):
    monkeypatch.setenv("COLUMNS", columns)
    assert _terminal.width() == expected


def test_a_mistyped_command_is_status_2_and_names_what_there_is():
    done = CliRunner().invoke(cli, ["inspct"])
    assert done.exit_code == 2
    assert done.stderr.endswith("Error: No such command 'inspct'. Did you mean 'inspect'?\n")
    done = CliRunner().invoke(cli, ["xyz"])
    commands = ", ".join(cli.list_commands(None))
    assert done.stderr.endswith(f"Error: No such command 'xyz'. Commands: {commands}.\n")


WITH_OUTPUT = ("report", "plot", "fix", "scan", "repro", "bisect")


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_output_and_quiet_have_one_name(name):
    options = {o for p in cli.get_command(None, name).params for o in p.opts}
    assert {"-o", "--output", "-q", "--quiet"} <= options


@pytest.mark.parametrize("name", ["inspect", "scan", "fix", "bugs", "bisect"])
def test_the_form_of_the_output_has_one_name(name):
    options = {o for p in cli.get_command(None, name).params for o in p.opts}
    assert "--format" in options
    assert options.isdisjoint({"--json", "--markdown"})


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["bugs", "GA3"], "error: no bug GA3\n  -> Did you mean GA003?\n"),
        (["bugs", "ga-017"], "error: no bug ga-017\n  -> Did you mean GA017?\n"),
        (["bugs", "xyz"], "error: no bug xyz\n  -> `ga-audit bugs` lists them.\n"),
    ],
)
def test_a_mistyped_bug_is_status_2_and_names_the_nearest(command, said):
    done = CliRunner().invoke(cli, command)
    assert (done.exit_code, done.stderr) == (2, said)


@pytest.mark.parametrize(
    ("words", "typed", "expected"),
    [
        (["bugs"], "GA00", [f"plain,GA00{i}" for i in range(1, 10)]),
        (["inspect"], "runs", ["file,runs"]),
        (["repro", "--variant"], "B2", ["plain,B2", "plain,B2-flagged"]),
        ([], "ins", ["plain,inspect"]),
    ],
)
def test_the_shell_completes(words, typed, expected):
    from click.shell_completion import BashComplete

    shell = BashComplete(cli, {}, "ga-audit", "_GA_AUDIT_COMPLETE")
    found = [shell.format_completion(item) for item in shell.get_completions(words, typed)]
    assert found == expected
