import copy
import math
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
from conftest import make_run

from ga_audit.finding import (
    DIVIDED_GA2,
    HEALTHY,
    NAMED,
    OTHER,
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


ABOUT_SOME = Hypothesis("summed-over-ga", 1, 0, frozenset({"a"}))


@pytest.mark.parametrize("hypothesis", [*NAMED, OTHER, ABOUT_SOME], ids=str)
def test_a_hypothesis_equals_its_copy(hypothesis):
    for same in (pickle.loads(pickle.dumps(hypothesis)), copy.deepcopy(hypothesis)):
        assert same == hypothesis
        assert hash(same) == hash(hypothesis)


def test_hypotheses_with_other_fields_differ():
    assert len({*NAMED, OTHER, ABOUT_SOME, Hypothesis("other", 1, 0)}) == len(NAMED) + 3


def test_a_posterior_from_another_process_has_the_same_keys():
    posterior = {h: i / 8 for i, h in enumerate((*NAMED, OTHER))}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        there = pool.submit(copy.copy, posterior).result()
    assert there == posterior
    assert there[OTHER] == posterior[OTHER]
