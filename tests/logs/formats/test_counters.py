"""Where rows lie: which counter counts, what it counts, and what is never invented."""

import pytest

from ga_audit.logs.formats import _counters
from ga_audit.logs.formats._counters import Counter, kind_of, micro_batches_per_step, place
from ga_audit.run import Counted, Trust

VALUES = [3.0, 2.5, 2.0]


def named(name, values=(10, 20, 30)):
    return [{name: value, "loss": loss} for value, loss in zip(values, VALUES, strict=True)]


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("step", Counted.OPTIMIZER_STEP),
        ("update", Counted.OPTIMIZER_STEP),
        ("Step", Counted.OPTIMIZER_STEP),
        ("Global Step", Counted.OPTIMIZER_STEP),
        ("train/global_step", Counted.OPTIMIZER_STEP),
        ("it", Counted.OPTIMIZER_STEP),
        ("training_iteration", Counted.OPTIMIZER_STEP),
        ("batch", Counted.MICRO_BATCH),
        ("tokens", Counted.TOKENS),
        ("consumed_samples", Counted.SAMPLES),
        ("epoch", Counted.EPOCH),
        ("_step", Counted.OPTIMIZER_STEP),
    ],
)
def test_a_counter_of_any_name_places_the_rows(name, counted):
    placed = place(named(name), "log")
    assert (placed.positions, placed.counted, placed.derived, placed.key) == ([10, 20, 30], counted, False, name)


def test_rows_without_a_counter_are_numbered_together():
    placed = place([{"loss": 3.0}, {"note": "x"}, {"loss": 2.0, "val_loss": 2.1}], "log")
    assert (placed.positions, placed.counted, placed.key) == ([1, None, 2], Counted.ORDER, None)


def test_a_row_without_a_step_leaves_the_others_where_they_are():
    placed = place([*named("step")[:2], {"loss": 2.2}, {"step": 30, "loss": 2.0}], "log")
    assert placed.positions == [10, 20, None, 30]
    assert [(n.code, n.count, n.where) for n in placed.notes] == [("no-step", 1, "log")]


def test_a_row_of_other_values_belongs_to_the_step_before():
    placed = place([{"step": 10, "loss": 3.0}, {"eval_loss": 3.1}, {"step": 20, "loss": 2.0}], "log")
    assert (placed.positions, placed.notes) == ([10, 10, 20], ())


def test_a_size_is_no_counter():
    placed = place([{"batch": 32, "loss": x} for x in VALUES], "log")
    assert (placed.positions, placed.counted) == ([1, 2, 3], Counted.ORDER)


def test_fractions_of_epochs_and_epochs_of_several_rows_number_nothing():
    for epochs in ((0.1, 0.2, 0.3), (1, 1, 2)):
        assert place(named("epoch", epochs), "log").counted is Counted.ORDER


def test_optimizer_steps_win_over_iterations_which_give_ga():
    found = [{"iter": 8 * s, "step": s, "loss": 3.0 - s / 10} for s in (5, 10, 15)]
    placed = place(found, "log")
    ga = placed.settings.gradient_accumulation_steps
    assert (placed.key, placed.positions, ga.value.first, ga.trust) == ("step", [5, 10, 15], 8, Trust.DERIVED)
    assert ga.source == "derived: iter / step"


def test_two_names_of_one_counter_are_no_ga_of_one():
    assert place([{"iter": s, "step": s, "loss": 2.0} for s in (5, 10)], "log").settings.ga is None
    assert place([{"micro_step": s, "step": s, "loss": 2.0} for s in (5, 10)], "log").settings.ga == 1


@pytest.mark.parametrize(("first", "length"), [(10, 30), (0, 21)])
def test_a_counter_that_restarts_with_each_epoch_is_made_cumulative(first, length):
    found = [{"epoch": e, "iter": first + 10 * i, "loss": 1.0} for e in (1, 2) for i in range(3)]
    placed = place(found, "log")
    one = [first, first + 10, first + 20]
    assert placed.positions == [*one, *(length + x for x in one)]
    assert (placed.derived, [n.code for n in placed.notes]) == (True, ["counter-restarts"])


def test_a_counter_that_goes_back_within_an_epoch_is_a_resume():
    found = [{"epoch": 1, "step": s, "loss": 1.0} for s in (10, 20, 10, 20)]
    placed = place(found, "log")
    assert (placed.positions, placed.derived) == ([10, 20, 10, 20], False)


def test_openmmlab_counts_forward_passes():
    found = [{"mode": "train", "epoch": 1, "iter": i, "data_time": 0.1, "loss": 2.0} for i in (10, 20)]
    assert place(found, "log").counted is Counted.MICRO_BATCH


def test_evaluation_rows_end_their_epoch_and_have_names_of_their_own():
    found = [{"mode": "train", "epoch": e, "iter": i, "loss": 2.0} for e in (1, 2) for i in (10, 20)]
    found.insert(2, {"mode": "val", "epoch": 1, "iter": 7, "loss": 2.5})
    assert place(found, "log").positions == [10, 20, 20, 30, 40]
    assert _counters.is_evaluation(found[2])
    assert _counters.series_name("loss", True) == "val/loss"


@pytest.mark.parametrize(
    ("steps", "counted"),
    [((0, 1, 2), Counted.ORDER), ((1, 2, 3), Counted.ORDER), ((10, 20, 30), Counted.OPTIMIZER_STEP)],
)
def test_calls_of_log_are_no_steps(steps, counted):
    assert place(named("_step", steps), "log").counted is counted


@pytest.mark.parametrize(
    ("pairs", "ga"),
    [
        ([(1760, 220), (1770, 221), (1830, 228)], 8),
        ([(10, 10), (20, 20)], 1),
        ([(10, 10), (20, 17)], None),
        ([(8, 1)], None),
        ([(8, 1), (8, 1)], None),
        ([(3, 1), (5, 2)], None),
        ([], None),
    ],
)
def test_ga_from_two_counters(pairs, ga):
    assert micro_batches_per_step(pairs) == ga


def test_names_that_count_nothing():
    assert [kind_of(n) for n in ("loss", "eval/step_time", "steps_per_second", "gpu/step", "epoch")] == [
        *[None] * 4,
        Counter.EPOCH,
    ]
