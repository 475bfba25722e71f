import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.stats.epochs import Epochs, dip, first_of_window, fit

LOGS = Path(__file__).parents[1] / "golden" / "short-epochs"


def logged(release, every, ga=8):
    rows = json.loads((LOGS / f"{release}-every{every}-ga{ga}.json").read_text())["log_history"]
    rows = [row for row in rows if "loss" in row]
    return [np.array([row[key] for row in rows]) for key in ("step", "epoch", "loss")]


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("decimals", [None, 2])
@pytest.mark.parametrize("release", ["4.48.0", "4.57.6"])
def test_real_trainers_that_give_the_remainder_a_step_of_its_own(release, every, decimals):
    step, epoch, _ = logged(release, every)
    epoch = epoch if decimals is None else np.round(epoch, decimals)
    assert fit(step, epoch, 8) == Epochs(8, steps=7, last=2)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("release", ["4.45.2", "4.46.0"])
def test_real_trainers_that_carry_it_over(release, every):
    step, epoch, _ = logged(release, every)
    assert fit(step, epoch, 8) is None


def epochs_of(length, ga, way, last_epoch=4):
    """(steps, epochs) as a trainer counts them, one micro-batch after another."""
    step, epoch = [], []
    seen = 0
    for number in range(last_epoch):
        if way != "carried":
            seen = 0
        for i in range(1, length + 1):
            seen += 1
            if seen == ga or (way == "step" and i == length):
                step.append(len(step) + 1)
                epoch.append(number + i / length)
                seen = 0
    return np.array(step), np.array(epoch)


# round lengths, of which another epoch length fits as well: these are left open
OPEN = {(6, 200), (9, 300), (12, 200), (14, 200), (15, 250), (16, 200)}


@pytest.mark.parametrize("ga", range(2, 17))
def test_short_steps_are_found_but_for_a_few_lengths(ga):
    for length in range(2, 301):
        found = fit(*epochs_of(length, ga, "step"), ga)
        if length % ga == 0 or (ga, length) in OPEN:
            assert found is None
        elif length > ga:
            assert found == Epochs(ga, -(-length // ga), length % ga)


@given(st.integers(2, 16), st.integers(2, 300), st.sampled_from(["dropped", "carried"]))
def test_no_other_way_is_taken_for_short_steps(ga, length, way):
    step, epoch = epochs_of(length, ga, way)
    assert fit(step, epoch, ga) is None


@given(st.integers(2, 16), st.integers(20, 300), st.integers(1, 9))
def test_mean_count_of_a_window_is_the_mean_of_its_steps(ga, length, window):
    if length % ga == 0:
        return
    epochs = Epochs(ga, -(-length // ga), length % ga)
    end = np.arange(window, 200, window)
    each = epochs.count(np.arange(1, 201))
    expected = [each[e - window : e].mean() for e in end]
    assert epochs.mean_count(end - window, end) == pytest.approx(expected)


def test_a_log_within_one_epoch_says_nothing():
    step, epoch = epochs_of(50, 8, "step", last_epoch=1)
    assert fit(step[:4], epoch[:4], 8) is None
    assert fit([], [], 8) is None
    assert fit([1, 2], [float("nan")] * 2, 8) is None


@pytest.mark.parametrize("every", [1, 4])
def test_a_sum_dips_and_a_mean_does_not(every):
    step, epoch, loss = logged("4.48.0", every)
    summed = dip(step, loss, fit(step, epoch, 8), every)
    assert summed.seen
    assert summed.depth == pytest.approx(1, abs=0.05)
    step, epoch, loss = logged("4.57.6", every)
    mean = dip(step, loss, fit(step, epoch, 8), every)
    assert not mean.seen
    assert mean.refuted


def test_windows_begin_at_the_point_before():
    assert first_of_window([10, 20, 25], 10).tolist() == [0, 10, 20]
    assert first_of_window([1, 10, 20], None).tolist() == [0, 1, 10]
