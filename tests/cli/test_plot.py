from pathlib import Path

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

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


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".SVG"])
def test_force_replaces_a_plot_of_ours_and_nothing_else(tmp_path, suffix):
    out = tmp_path / f"p{suffix}"
    for _ in range(2):
        done = run(SAMPLES / "transformers-4.48.0", "-o", out, "--force")
        assert done.exit_code == 0, done.output
    figure = Figure()
    figure.add_subplot().plot([1, 2])
    figure.savefig(out)
    before = out.read_bytes()
    done = run(SAMPLES / "transformers-4.48.0", "-o", out, "--force")
    assert done.exit_code == 3
    assert done.stderr == (
        f"error: {out}: exists already, and ga-audit did not write it\n"
        "  -> Give another place for the output; what is there stays as it is.\n"
    )
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
