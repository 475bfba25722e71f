import dataclasses

import numpy as np
import pytest
from conftest import make_run, twins

from ga_audit.evidence import version_contrast
from ga_audit.finding import HEALTHY, SUMMED_GA, Evidence, Reason
from ga_audit.grouping import Group
from ga_audit.run import Role


def renamed(runs, prefix):
    return [dataclasses.replace(r, id=f"{prefix}{r.id}", name=f"{prefix}{r.id}") for r in runs]


def two_releases(gas=(4,), bad=1):
    good = renamed(twins(0, gas=gas, packages={"transformers": "4.47.1"}), "new-")
    other = renamed(twins(bad, gas=gas, packages={"transformers": "4.47.0"}), "old-")
    return good + other


def evidence(runs, role=Role.LOSS):
    found = [p for p in version_contrast.gather(Group(tuple(runs))) if isinstance(p, Evidence) and p.role is role]
    assert len(found) == 1
    return found[0]


def likelihood(piece, name, only):
    return next(x for h, x in piece.log_likelihood.items() if h.name == name and h.only == frozenset(only))


@pytest.mark.parametrize("role", [Role.LOSS, Role.GRAD_NORM])
def test_one_ga_on_two_releases_shows_the_release_that_sums(role):
    got = evidence(two_releases(), role)
    assert likelihood(got, "summed-over-ga", ["old-ga4"]) > 10
    assert likelihood(got, "summed-over-ga", ["new-ga4"]) < 0
    assert got.log_likelihood[SUMMED_GA] == pytest.approx(0, abs=1e-6)  # in both: a common factor, invisible
    assert got.equivalent is False


def test_summed_in_the_one_and_divided_in_the_other_are_tied_and_said_so():
    got = evidence(two_releases())
    tie = next(t for t in got.ties if any(h.name == "summed-over-ga" and h.only == frozenset(["old-ga4"]) for h in t))
    assert any(h.name == "divided-by-ga" and h.only == frozenset(["new-ga4"]) for h in tie)


def test_equal_releases_are_equivalent():
    got = evidence(two_releases(bad=0))
    assert got.equivalent is True
    assert max(got.log_likelihood.values()) == pytest.approx(got.log_likelihood[HEALTHY], abs=1e-6)


def test_several_runs_per_release_count_through_their_mean():
    got = evidence(two_releases(gas=(2, 4)))
    assert likelihood(got, "summed-over-ga", ["old-ga2", "old-ga4"]) > 10
    assert len(got.detail["releases"]) == 2


@pytest.mark.parametrize(
    ("runs", "reasons"),
    [
        (twins(0), {Reason.SAME_RELEASE}),
        ([make_run("a", ga=4, loss=[1, 2], packages={"transformers": "1"}),
          make_run("b", ga=4, packages={"transformers": "2"})], {Reason.RELEASES_NOT_COMPARABLE}),
        ([make_run("a", ga=1, loss=np.ones(9), packages={"transformers": "1"}),
          make_run("b", ga=1, loss=np.ones(9), packages={"transformers": "2"})],
         {Reason.GA_IS_ONE, Reason.RELEASES_NOT_COMPARABLE}),
        ([make_run("a", ga=4, loss=[1, 2], packages={"numpy": "1"}),
          make_run("b", ga=4, loss=[1, 2], packages={"numpy": "2"})], {Reason.SAME_RELEASE}),
    ],
)  # fmt: skip
def test_where_it_does_not_apply_there_is_a_reason(runs, reasons):
    got = list(version_contrast.gather(Group(tuple(runs))))
    assert {item.reason for item in got} == reasons
