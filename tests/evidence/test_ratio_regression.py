import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
from factories import make_run, twins
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ga_audit.evidence import ratio_regression, version_contrast
from ga_audit.finding import (
    DIVIDED_GA,
    DIVIDED_GA2,
    HEALTHY,
    OTHER,
    SUMMED_GA,
    SUMMED_GA_WORLD,
    SUMMED_WORLD,
    Axis,
    AxisReason,
    Evidence,
    NotApplicable,
    Reason,
    Relation,
    Window,
)
from ga_audit.grouping import Group, group
from ga_audit.output.wording import evidence as wording
from ga_audit.run import Role, Setting, Trust


def evidence(runs, role=Role.LOSS):
    found = [p for p in ratio_regression.gather(group(runs)[0]) if isinstance(p, Evidence) and p.role is role]
    assert len(found) == 1
    return found[0]


def reasons(runs, role=Role.LOSS):
    got = list(ratio_regression.gather(Group(tuple(runs))))
    assert not any(isinstance(p, Evidence) and p.role is role for p in got)
    return [p.reason for p in got if isinstance(p, NotApplicable) and p.role is role]


@pytest.mark.parametrize(
    ("exponent", "named"), [(0, HEALTHY), (1, SUMMED_GA), (-1, DIVIDED_GA), (-2, DIVIDED_GA2), (0.5, OTHER)]
)
@pytest.mark.parametrize("role", [Role.LOSS, Role.GRAD_NORM])
def test_the_true_hypothesis_is_the_likeliest_on_twins(exponent, named, role):
    got = evidence(twins(exponent, gas=(1, 2, 8)), role)
    assert max(got.log_likelihood, key=got.log_likelihood.get) == named
    assert got.estimate.interval.low < exponent < got.estimate.interval.high
    assert got.equivalent is (exponent == 0)
    assert got.log_likelihood[HEALTHY] == 0
    assert all(math.isfinite(x) for x in got.log_likelihood.values())


def test_loss_and_norm_are_judged_apart():
    runs = twins(1, 0)
    assert evidence(runs).log_likelihood[SUMMED_GA] > 10
    assert evidence(runs, Role.GRAD_NORM).log_likelihood[SUMMED_GA] < -10


def test_the_facts_are_the_ratio_and_the_exponents():
    facts = dict(evidence(twins(1)).facts)
    assert facts.pop("ratio") == pytest.approx(8, rel=0.01)
    ((driver, median, low, high),) = facts.pop("exponents")
    assert (driver, round(median, 2)) == ("gradient_accumulation_steps", 1.0)
    assert low < median < high
    assert facts == {"first": "ga1", "last": "ga8", "runs": 2, "points": 80}


def test_the_comparison_holds_the_levels_that_the_exponent_was_estimated_from():
    comparison = evidence(twins(1, gas=(1, 2, 8))).comparison
    assert comparison.runs == ("ga1", "ga2", "ga8")
    assert comparison.level - comparison.level[0] == pytest.approx(np.log([1, 2, 8]), abs=0.01)
    assert comparison.log_ga == pytest.approx(np.log([1, 2, 8]))
    assert comparison.log_world == pytest.approx([0, 0, 0])
    assert comparison.covariance.shape == (3, 3)
    assert comparison.axis is Axis.STEP
    assert comparison.axis_reason is AxisReason.SAME_BATCH
    assert comparison.relatedness.relation is Relation.MATCHED
    assert comparison.window == Window(40, 40)


def test_the_arithmetic_can_be_written_as_json():
    got = evidence(twins(1))
    again = json.loads(json.dumps(got.detail))
    assert again["relation"] == "matched runs"
    contrast = again["level"][1] - again["level"][0]
    assert contrast == pytest.approx(math.log(8), abs=0.01)
    assert len(again["covariance"]) == 2
    assert again["log_likelihood"]["summed-over-ga"] == got.log_likelihood[SUMMED_GA]


def test_names_and_order_of_runs_do_not_matter():
    runs = twins(1, gas=(1, 2, 4, 8))
    renamed = [dataclasses.replace(r, id=f"x{9 - i}", name=f"x{9 - i}") for i, r in enumerate(runs)][::-1]
    a, b = evidence(runs), evidence(renamed)
    assert list(a.log_likelihood.values()) == pytest.approx(list(b.log_likelihood.values()), abs=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 0.2, 5.0, 1e6])
def test_a_factor_common_to_all_runs_is_invisible(factor):
    runs = twins(1)
    scaled = [
        dataclasses.replace(r, series=tuple(dataclasses.replace(s, value=s.value * factor) for s in r.series))
        for r in runs
    ]
    assert evidence(scaled).log_likelihood[SUMMED_GA] == pytest.approx(
        evidence(runs).log_likelihood[SUMMED_GA], abs=1e-6
    )


def test_more_points_of_two_runs_are_still_two_runs():
    def width(n):
        rng = np.random.default_rng(0)
        known = {"world_size": 1, "learning_rate": 1e-3, "model": "m", "dataset": "d"}
        runs = [
            make_run(f"r{g}", ga=g, micro_batch_size=8 // g, seed=g, loss=2 * np.exp(rng.normal(0, 0.05, n)), **known)
            for g in (1, 4)
        ]
        interval = evidence(runs).estimate.interval
        return interval.high - interval.low

    assert width(50_000) > 0.6 * width(500)


def test_relatedness_is_measured_where_nothing_is_recorded():
    known = {"seed": None, "learning_rate": None, "model": None, "dataset": None}
    got = evidence(twins(0, gas=(1, 2), **known))
    assert got.comparison.relatedness.shared_noise is True
    assert got.comparison.relatedness.relation is Relation.MATCHED
    assert got.equivalent


def test_confounded_designs_state_their_ties():
    rng = np.random.default_rng(0)
    runs = [
        make_run(f"g{g}w{w}", ga=g, world_size=w, micro_batch_size=2, seed=1, learning_rate=1.0, model="m", dataset="d",
                 loss=2 + rng.normal(0, 0.05, 40)) for g, w in ((8, 1), (1, 8))
    ]  # fmt: skip
    got = evidence(runs)
    assert {HEALTHY, SUMMED_GA_WORLD} in [set(t) for t in got.ties]
    settling = got.comparison.settling[0]
    assert settling.ga * settling.world_size != 8
    doubled = [dataclasses.replace(r, settings=dataclasses.replace(
        r.settings, world_size=Setting(r.settings.ga, "t", Trust.RECORDED))) for r in runs]  # fmt: skip
    assert {SUMMED_GA, SUMMED_WORLD} <= set().union(*(set(t) for t in evidence(doubled).ties))


def test_an_unscaled_term_is_found_and_said():
    runs = twins(0, gas=(1, 4))
    changed = []
    for run in runs:
        series = tuple(
            dataclasses.replace(s, value=s.value * run.settings.ga + 0.5) if s.role is Role.LOSS else s
            for s in run.series
        )
        changed.append(dataclasses.replace(run, series=series))
    got = evidence(changed)
    assert max(got.log_likelihood, key=got.log_likelihood.get) == SUMMED_GA
    assert "unscaled-term" in [n.code for n in got.notes]


def test_losses_that_cross_zero_have_no_ratio():
    runs = twins(1)
    low = [
        dataclasses.replace(r, series=tuple(
            dataclasses.replace(s, value=s.value - 3) if s.role is Role.LOSS else s for s in r.series))
        for r in runs
    ]  # fmt: skip
    assert Reason.NOT_POSITIVE in reasons(low)
    assert evidence(low, Role.GRAD_NORM)


def test_norms_logged_after_clipping_say_nothing():
    def clip(s):
        return dataclasses.replace(s, value=np.minimum(s.value, 2.5)) if s.role is Role.GRAD_NORM else s

    clipped = [dataclasses.replace(r, series=tuple(clip(s) for s in r.series)) for r in twins(1)]
    assert set(reasons(clipped, Role.GRAD_NORM)) == {Reason.LOGGED_AFTER_CLIPPING, Reason.TOO_FEW_RUNS}
    assert evidence(clipped).log_likelihood[SUMMED_GA] > 10


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (twins(0, gas=(4,)), [Reason.TOO_FEW_RUNS]),
        (
            [make_run("a", loss=[1, 2]), make_run("b", loss=[1, 2])],
            [Reason.GA_UNKNOWN, Reason.GA_UNKNOWN, Reason.TOO_FEW_RUNS],
        ),
        ([make_run("a", ga=4, loss=[1, 2]), make_run("b", ga=4, loss=[1, 2])], [Reason.NO_VARIATION]),
        ([make_run("a", ga=4), make_run("b", ga=2)], [Reason.NOT_LOGGED]),
    ],
)
def test_where_it_does_not_apply_there_is_a_reason(runs, expected):
    assert reasons(runs) == expected


def test_one_clipped_logger_discards_the_norms_of_all_runs():
    """The reason decides, not its sentence."""
    one, two = twins(1)
    clipped = tuple(
        dataclasses.replace(s, value=np.minimum(s.value, 2.5)) if s.role is Role.GRAD_NORM else s for s in one.series
    )
    found = reasons([dataclasses.replace(one, series=clipped), two], Role.GRAD_NORM)
    assert found == [Reason.LOGGED_AFTER_CLIPPING, Reason.TOO_FEW_RUNS]


def test_releases_are_judged_apart():
    """Healthy on the one, summed on the other: pooled, the exponent would be in between."""
    good = twins(0, packages={"transformers": "4.47.1"})
    bad = [
        dataclasses.replace(r, id=f"bad-{r.id}", name=f"bad-{r.id}")
        for r in twins(1, seed=5, packages={"transformers": "4.47.0"})
    ]
    found = [
        p for p in ratio_regression.gather(group(good + bad)[0]) if isinstance(p, Evidence) and p.role is Role.LOSS
    ]
    assert sorted(round(p.estimate.value) for p in found) == [0, 1]
    for piece in found:
        own = [h for h in piece.log_likelihood if h.name == SUMMED_GA.name and h.only == frozenset(piece.runs)]
        assert len(own) == 1


VALUES = st.lists(
    st.one_of(
        st.floats(1e-4, 1e4), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-300, 1e300, 1.0, 1.0])
    ),
    max_size=30,
)


@st.composite
def any_run(draw, name):
    values = draw(VALUES)
    steps = np.cumsum(draw(st.lists(st.integers(1, 50), min_size=len(values), max_size=len(values)))).astype(int)
    few = st.one_of(st.none(), st.integers(1, 64))
    return make_run(
        name, ga=draw(few), micro_batch_size=draw(few), world_size=draw(few), seed=draw(few), loss=values,
        grad_norm=values[::-1], steps=steps, learning_rate=draw(st.sampled_from([None, 0.0, 1e-5, 1.0])),
        max_grad_norm=draw(st.sampled_from([None, 0.0, 1.0])), model=draw(st.sampled_from([None, "m", "x"])),
        dataset=draw(st.sampled_from([None, "d"])),
        packages=draw(st.sampled_from([{}, {"transformers": "1"}, {"transformers": "2"}])),
    )  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(), min_size=1, max_size=4).flatmap(
    lambda xs: st.tuples(*(any_run(f"r{i}") for i in range(len(xs))))
))  # fmt: skip
@pytest.mark.parametrize("leaf", [ratio_regression, version_contrast])
def test_whatever_was_logged_it_is_finite_or_does_not_apply(leaf, runs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = list(leaf.gather(Group(tuple(runs))))
    assert got
    for piece in got:
        if isinstance(piece, NotApplicable):
            assert all(wording.not_applicable(piece, runs))
            continue
        assert wording.sentence(piece, runs)
        assert all(math.isfinite(x) for x in piece.log_likelihood.values())
        assert piece.estimate.interval.low <= piece.estimate.value <= piece.estimate.interval.high
        json.dumps(piece.detail, allow_nan=False)


@pytest.mark.parametrize(("exponent", "healthy"), [(0.0, True), (0.6, False)])
def test_health_needs_the_exponent_on_ranks_near_zero_too(exponent, healthy):
    runs = []
    for world in (1, 2):
        for run in twins(0, gas=(1, 4), n=60):
            known = dataclasses.replace(
                run.settings,
                world_size=Setting(world, "t", Trust.GIVEN),
                micro_batch_size=Setting(16 // run.settings.ga // world, "t", Trust.GIVEN),
            )
            series = tuple(dataclasses.replace(s, value=s.value * world**exponent) for s in run.series)
            name = f"{run.id}-{world}"
            runs.append(dataclasses.replace(run, id=name, name=name, training=name, settings=known, series=series))
    piece = next(p for p in ratio_regression.gather(Group(tuple(runs))) if getattr(p, "estimate", None))
    assert piece.equivalent is healthy
    assert [e.driver for e in (piece.estimate, *piece.further)] == ["gradient_accumulation_steps", "world_size"]
    assert piece.further[0].value == pytest.approx(exponent, abs=0.05)
