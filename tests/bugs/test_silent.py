"""What a perfect loss curve hides is looked up: a note for each bug of the stack that may be about the run."""

import numpy as np
import pytest
from factories import make_run

from ga_audit.bugs import silent


def notes(ga, packages, world_size=1, **other):
    run = make_run(
        "r",
        ga=ga,
        world_size=world_size,
        loss=np.linspace(3, 2, 30),
        grad_norm=np.full(30, 8.0),
        packages=packages,
        other=other,
    )
    return [note.message for note in silent.notes([run])]


def test_a_gradient_that_is_a_sum_is_told_with_what_its_norm_would_be():
    (note,) = notes(8, {"transformers": "4.46.3"}, architectures=["GPT2LMHeadModel"], deepspeed=False)
    assert "GA003: transformers 4.46.3 is known to make the gradient x8 with a perfect loss curve" in note
    assert "the logged grad_norm (median 8) would be 1 as a mean" in note


def test_a_gradient_that_points_elsewhere_has_no_factor():
    (note,) = notes(8, {"deepspeed": "0.18.0"}, deepspeed=True, zero_stage=2)
    assert "GA024: deepspeed 0.18.0 is known to turn the gradient away from that of the whole batch" in note
    assert "as a mean" not in note


@pytest.mark.parametrize(("world_size", "hidden"), [(1, 0), (2, 1)])
def test_ranks_that_do_not_synchronise_are_told_at_ga_1_too(world_size, hidden):
    found = notes(
        1, {"transformers": "4.46.2"}, world_size=world_size, deepspeed=False, architectures=["LlamaForCausalLM"]
    )
    assert len(found) == hidden
    assert all("GA027: transformers 4.46.2 is known to turn the gradient away" in note for note in found)


@pytest.mark.parametrize("packages", [{"deepspeed": "0.18.0"}, {"transformers": "4.46.3"}, {"transformers": "4.57.6"}])
def test_at_ga_1_nothing_is_hidden(packages):
    assert notes(1, packages, deepspeed="deepspeed" in packages, zero_stage=2) == []


def test_ranks_that_divide_the_gradient_are_told():
    (note,) = notes(4, {"torchtune": "0.4.0"}, world_size=4)
    assert "GA020: torchtune 0.4.0 is known to make the gradient x0.25" in note
