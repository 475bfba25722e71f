from click.testing import CliRunner

from ga_audit.cli.bisect import command


def test_help_and_wrong_use():
    done = CliRunner().invoke(command, ["--help"])
    assert done.exit_code == 0
    assert "releases" in done.output.lower()
    assert CliRunner().invoke(command, []).exit_code == 2
