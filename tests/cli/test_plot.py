from pathlib import Path

from click.testing import CliRunner

from ga_audit import plots
from ga_audit.cli.plot import _KINDS, command

SAMPLES = Path(__file__).parents[2] / "sample_logs"


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_the_kinds_are_those_of_the_plots():
    assert _KINDS == plots.KINDS


def test_one_file_of_the_kind_asked_for(tmp_path):
    done = run(SAMPLES / "wandb-4.48.0", "-o", tmp_path / "p.svg", "--kind", "regression")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")
    assert run(SAMPLES / "wandb-4.48.0", "-o", tmp_path / "p.svg").exit_code == 3
    assert run(SAMPLES / "wandb-4.48.0", "-o", tmp_path / "p.txt").exit_code == 2
