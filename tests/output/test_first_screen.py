"""The first screen: what a clear case shows, at several widths, with and without colour."""

import dataclasses
from pathlib import Path

import click
import pytest
from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.output import text
from ga_audit.run import Schedule, Setting, Trust

SAMPLES = Path(__file__).parent.parent.parent / "sample_logs"

SCALED_60 = """\
SCALED  The logged loss and grad_norm are 8x too high at GA
        8: summed over gradient_accumulation_steps instead
        of averaged. The gradients are affected too.

  run  GA          loss  factor       grad_norm  factor
  ga1   1  4.18 -> 3.22      1x  0.974 -> 0.912      1x
  ga2   2  8.35 -> 6.43      2x    1.95 -> 1.82      2x
  ga4   4  16.7 -> 12.9      4x    3.89 -> 3.66      4x
  ga8   8  33.4 -> 25.8      8x    7.72 -> 7.32      8x
"""


@pytest.fixture(scope="module")
def summed():
    return pipeline.audit([str(SAMPLES / "transformers-4.48.0")])


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_no_line_but_a_command_is_wider_than_the_terminal(summed, width):
    lines = text.render(summed, width=width).splitlines()
    wide = [line for line in lines if len(line) > width]
    assert [line for line in wide if " ga-audit " not in line] == []
    assert wide == [] or width < 100


def test_a_clear_case_fits_on_one_screen(summed):
    assert len(text.render(summed, width=80).splitlines()) <= 25


def test_at_60_columns_the_batch_is_left_out(summed):
    assert text.render(summed, width=60).startswith(SCALED_60)


def test_colour_is_on_the_verdict_and_the_factors_alone(summed):
    shown = text.render(summed, width=100, color=True)
    coloured = [piece.partition("\x1b[0m")[0].strip() for piece in shown.split("\x1b[31m\x1b[1m")[1:]]
    assert coloured == ["SCALED", "2x", "2x", "4x", "4x", "8x", "8x"]
    assert click.unstyle(shown) == text.render(summed, width=100)


def test_quiet_is_the_verdict_alone(summed):
    assert text.render(summed, quiet=True) == (
        "SCALED  The logged loss and grad_norm are 8x too high at GA 8: summed over\n"
        "        gradient_accumulation_steps instead of averaged. The gradients are affected too."
    )


def test_long_names_stay_apart():
    start = "sweep-2026-11-27-llama-3-8b-instruct-alpaca-cleaned"
    runs = [dataclasses.replace(r, name=f"{start}/{r.name}-lr1e-3-wd0.1-warmup100-seed1") for r in twins(1)]
    lines = text.render(pipeline.audit_runs(runs, ()), width=60).splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  …")]
    assert len(names) == len(set(names)) == len(runs)
    assert max(len(line) for line in lines if line.startswith("  …")) <= 60


def test_a_guessed_ga_is_marked():
    run = make_run("ga8", ga=8, loss=[4, 3, 2])
    guess = Setting(Schedule.constant(8), "the name of the run", Trust.GUESSED)
    run = dataclasses.replace(run, settings=dataclasses.replace(run.settings, gradient_accumulation_steps=guess))
    lines = text.render(pipeline.audit_runs([run], ())).splitlines()
    assert any(line.split()[:2] == ["ga8", "8?"] for line in lines)
    assert "  ? guessed from the name of the run" in lines


def test_of_many_runs_the_first_and_the_last_are_shown():
    runs = [r for i in range(6) for r in twins(1)]
    runs = [dataclasses.replace(r, id=f"{r.id}-{i}", name=f"{r.name}-{i:02}") for i, r in enumerate(runs)]
    lines = text.render(pipeline.audit_runs(runs, ())).splitlines()
    assert f"  ... {len(runs) - 8} more runs" in lines
