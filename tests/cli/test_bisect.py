from click.testing import CliRunner

from ga_audit.cli.bisect import command


def test_help_and_wrong_use():
    done = CliRunner().invoke(command, ["--help"])
    assert done.exit_code == 0
    assert "releases" in done.output.lower()
    assert CliRunner().invoke(command, []).exit_code == 2


def test_an_unknown_variant_or_pin_is_a_message():
    bad = CliRunner().invoke(command, ["transformers", "--from", "4.45.2", "--to", "4.46.0", "--variants", "Z"])
    assert bad.exit_code == 2
    assert "no variant 'Z'" in bad.output
    one = CliRunner().invoke(command, ["transformers", "--from", "4.45.2", "--to", "4.46.0", "--data-parallel"])
    assert one.exit_code == 2
    assert "Give --world-size 1,2 too" in one.output
    assert CliRunner().invoke(command, ["transformers", "--from", "new", "--to", "4.46.0"]).exit_code == 2
