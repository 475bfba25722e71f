import math

import pytest
from factories import make_run

from ga_audit.finding import (
    DIVIDED_GA2,
    HEALTHY,
    NAMED,
    SUMMED_GA,
    SUMMED_GA_WORLD,
    SUMMED_WORLD,
    Hypothesis,
)


@pytest.mark.parametrize(
    ("hypothesis", "factor"),
    [(HEALTHY, 1), (SUMMED_GA, 8), (DIVIDED_GA2, 1 / 64), (SUMMED_WORLD, 2), (SUMMED_GA_WORLD, 16)],
)
def test_log_factor(hypothesis, factor):
    assert hypothesis.log_factor(make_run(ga=8, world_size=2)) == pytest.approx(math.log(factor))


def test_a_hypothesis_about_some_runs_leaves_the_others_alone():
    about = Hypothesis("summed@a", 1, 0, frozenset({"a"}))
    assert about.log_factor(make_run("b", ga=8)) == 0
    assert about.log_factor(make_run("a", ga=8)) == pytest.approx(math.log(8))


def test_an_unknown_setting_gives_no_number():
    assert math.isnan(SUMMED_WORLD.log_factor(make_run(ga=8)))
    assert SUMMED_GA.log_factor(make_run(ga=8)) == pytest.approx(math.log(8))


def test_names_are_unique():
    assert len({h.name for h in NAMED}) == len(NAMED)
