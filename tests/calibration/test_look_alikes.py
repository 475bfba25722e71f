"""The fast, fixed-seed part: agreement of curves decides for matched runs and for no others."""

import numpy as np
import pytest

from . import look_alikes

SEED = 5


def test_no_look_alike_gets_a_wrong_verdict():
    wrong = list(look_alikes.false_verdicts(SEED, 6))
    assert (sum(wrong), len(wrong)) == (0, 144)


def test_simulated_pairs_with_nothing_recorded_get_no_wrong_verdict():
    wrong = list(look_alikes.unrecorded(SEED, 1))
    assert (sum(wrong), len(wrong)) == (0, 120)


@pytest.mark.parametrize("record", [True, False])
def test_matched_runs_are_decided_whatever_the_log_leaves_out(record):
    right = list(look_alikes.decided(SEED, 2, record=record))
    assert np.mean(right) > 0.95
