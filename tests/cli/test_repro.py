import sys

from click.testing import CliRunner

from ga_audit.cli import cli


def test_help_of_both_commands():
    for name in ("repro", "bisect"):
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def test_a_batch_that_does_not_divide_is_a_message(tmp_path):
    result = CliRunner().invoke(cli, ["repro", "--ga", "1,3", "--out", str(tmp_path)])
    assert result.exit_code == 3
    assert "no multiple of GA 3" in result.output


def test_ga_must_be_whole_numbers():
    assert CliRunner().invoke(cli, ["repro", "--ga", "1,x"]).exit_code == 2


def test_a_users_script_is_trained_and_its_logs_are_read(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import json, sys, pathlib\nga = int(sys.argv[1])\n"
        "rows = [{'step': s, 'loss': (2 + 1 / s) * ga, 'grad_norm': (1 + .1 / s) * ga} for s in range(1, 31)]\n"
        "pathlib.Path(sys.argv[2], 'log.jsonl').write_text("
        "'\\n'.join(json.dumps({**r, 'gradient_accumulation_steps': ga}) for r in rows))\n"
    )
    words = f"{sys.executable} {script} {{gradient_accumulation_steps}} {{output_dir}}"
    arguments = ["repro", "--engine", "script", "--script", words, "--out", str(tmp_path / "out"), "--ga", "1,8"]
    result = CliRunner().invoke(cli, arguments)
    assert "the logs, as inspect reads them" in result.output, result.output
