import dataclasses
import time

import numpy as np
import pytest
from factories import make_run, make_series, twins

from ga_audit.finding import Axis, NotApplicable, Reason, Relation
from ga_audit.grouping import Group, batch_sizes, group, relatedness, version_families, version_label
from ga_audit.run import Role, Schedule, Setting, Trust

CURVE = 2 + np.exp(-np.arange(60) / 20)


def pair(**second):
    first = {
        "ga": 1,
        "micro_batch_size": 8,
        "world_size": 1,
        "seed": 1,
        "learning_rate": 1e-3,
        "model": "m",
        "dataset": "d",
    }
    return [
        make_run("a", loss=CURVE, **first),
        make_run("b", loss=CURVE, **{**first, "ga": 4, "micro_batch_size": 2, **second}),
    ]


def test_models_and_data_sets_known_to_differ_are_not_compared():
    assert len(group(pair(dataset="other"))) == 2
    assert len(group(pair(model="other"))) == 2
    assert len(group(pair(seed=2, learning_rate=1.0))) == 1


def test_the_same_model_under_another_path_is_the_same():
    assert len(group(pair(model="/data/models/m"))) == 1


def test_a_run_that_names_nothing_joins_the_only_group_and_no_one_of_two():
    unknown = make_run("u", ga=2, loss=CURVE)
    assert [len(g.runs) for g in group([*pair(), unknown])] == [3]
    assert sorted(len(g.runs) for g in group([*pair(dataset="other"), unknown])) == [1, 1, 1]


def test_grouping_does_not_depend_on_order():
    runs = [*pair(), make_run("u", ga=2, loss=CURVE), make_run("x", ga=2, loss=CURVE, model="x", dataset="d")]
    want = [[r.name for r in g.runs] for g in group(runs)]
    got = [[r.name for r in g.runs] for g in group(runs[::-1])]
    assert sorted(want) == sorted(got)


@pytest.mark.parametrize(
    ("second", "relation"),
    [
        ({}, Relation.MATCHED),
        ({"seed": None}, Relation.MATCHED_OR_OTHER_SEED),
        ({"seed": 2}, "same data"),
        ({"micro_batch_size": 8}, "same data"),
        ({"learning_rate": 1.0}, "same data"),
        ({"learning_rate": None}, "not recorded"),
        ({"dataset": None}, "not recorded"),
        ({"dataset": "other"}, "different data or model"),
    ],
)
def test_relation_from_what_is_recorded(second, relation):
    assert relatedness(pair(**second)).relation == relation


def test_measured_relatedness_overrules_what_is_not_recorded_and_a_seed_that_did_not_help():
    unknown = pair(dataset=None, seed=None)
    assert relatedness(unknown, shared_noise=True).relation is Relation.MATCHED
    assert relatedness(pair(), shared_noise=False).relation == "same data"


def test_a_batch_is_unknown_where_only_some_record_the_world_size():
    assert batch_sizes(pair()) == [8, 8]
    assert batch_sizes(pair(world_size=None)) is None
    assert relatedness(pair(micro_batch_size=None)).batch is None


def test_settings_that_differ_are_named_packages_too():
    runs = pair(packages={"transformers": "4.47.0", "numpy": "2"})
    first = dataclasses.replace(runs[0].settings, packages={"transformers": Setting("4.47.1", "t", Trust.RECORDED)})
    (one,) = group([dataclasses.replace(runs[0], settings=first), runs[1]])
    assert {"gradient_accumulation_steps", "micro_batch_size", "transformers"} <= set(one.settings_that_differ)
    assert "seed" not in one.settings_that_differ


def test_families_by_release_of_the_trainer_not_of_numpy():
    a, b = pair(packages={"transformers": "4.47.0", "numpy": "1"})
    settings = dataclasses.replace(a.settings, packages={"numpy": Setting("2", "t", Trust.RECORDED)})
    assert len(version_families([dataclasses.replace(a, settings=settings), b])) == 1
    settings = dataclasses.replace(a.settings, packages={"transformers": Setting("4.47.1", "t", Trust.RECORDED)})
    runs = [dataclasses.replace(a, settings=settings), b]
    families = version_families(runs)
    assert [len(f) for f in families] == [1, 1]
    assert version_label(families[1], runs) == "transformers 4.47.0"


def test_equal_batches_are_compared_by_step():
    panel = group(pair())[0].panel(Role.LOSS)
    assert panel.axis is Axis.STEP
    assert panel.level.shape == (2, 60)
    np.testing.assert_allclose(panel.level[0], np.log(CURVE))


def test_the_axis_is_the_one_on_which_the_ratio_stays_put():
    """Loss is a function of samples seen; the batch of b is four times that of a."""

    def loss(batch):
        return 1 + 3 / (1 + np.arange(1, 401) * batch / 400)

    known = {"micro_batch_size": 8, "world_size": 1}
    runs = [make_run("a", ga=1, loss=loss(8), **known), make_run("b", ga=4, loss=loss(32), **known)]
    panel = Group(tuple(runs)).panel(Role.LOSS)
    assert panel.axis is Axis.SAMPLES
    assert np.abs(panel.level[0] - panel.level[1]).max() < 0.05
    assert panel.axis_gap > 0


def test_only_the_part_before_ga_changes_is_compared():
    runs = pair()
    changing = Setting(Schedule(np.array([0, 21]), np.array([4, 8])), "t", Trust.RECORDED)
    settings = dataclasses.replace(runs[1].settings, gradient_accumulation_steps=changing)
    panel = Group((runs[0], dataclasses.replace(runs[1], settings=settings))).panel(Role.LOSS)
    assert panel.count.sum(axis=1).tolist() == [20, 20]


A = make_run("a", ga=1, loss=CURVE)


@pytest.mark.parametrize(
    ("runs", "reason", "about"),
    [
        ([A], Reason.TOO_FEW_RUNS, ("a",)),
        ([A, make_run("b", ga=2, loss=CURVE, steps=np.arange(1000, 1060))], Reason.NO_COMMON_RANGE, ("a", "b")),
        ([A, make_run("b", ga=2, loss=np.full(60, np.nan))], Reason.NO_POSITIVE_VALUE, ("b",)),
        ([A, make_run("b", ga=2, series=[make_series(Role.LOSS, [])])], Reason.NO_POSITIVE_VALUE, ("b",)),
        ([make_run("a", ga=1), make_run("b", ga=2)], Reason.TOO_FEW_RUNS, ()),
    ],
)
def test_runs_that_cannot_be_compared_have_a_reason(runs, reason, about):
    got = Group(tuple(runs)).panel(Role.LOSS)
    assert got == NotApplicable(kind="", reason=reason, role=Role.LOSS, runs=about)


def test_nan_and_spikes_are_counted():
    runs = twins(0, gas=(1, 4))
    value = runs[0].get(Role.LOSS).value
    value[3], value[20] = np.nan, 900.0
    panel = Group(tuple(runs)).panel(Role.LOSS)
    assert panel.masked == 1
    assert panel.winsorised >= 1


def test_objectives_are_not_mixed():
    margins = make_series(Role.MARGIN, [0.0, 0.1], [1, 2], name="rewards/margins")
    sft, dpo = make_run("sft", ga=1, loss=[2.0, 1.9]), make_run("dpo", ga=8, loss=[0.69, 0.68], series=(margins,))
    assert [[run.name for run in g.runs] for g in group([sft, dpo])] == [["sft"], ["dpo"]]


def test_the_cost_of_grouping_is_linear_in_the_runs():
    runs = [make_run(f"r{i}", ga=1, loss=[2.0, 1.9], model=f"model{i}") for i in range(2000)]
    start = time.process_time()
    assert len(group(runs)) == 2000
    assert time.process_time() - start < 1.0
