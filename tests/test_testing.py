"""`assert_ga_invariant`: every form of a result, what fails, and the table that says why."""

from __future__ import annotations

import doctest
import json
import math

import numpy as np
import pytest

import ga_audit.testing
from ga_audit.errors import WrongUsage
from ga_audit.testing import Trained, assert_ga_invariant, measure_invariance, read

LOSS = (4.0, 3.8, 3.5)
NORM = (1.0, 0.9, 0.8)
GRADIENT = (0.3, -0.2, 0.1, 0.7)


def scaled(loss=0, norm=0, gradient=0):
    def train(ga):
        return {
            "loss": [x * ga**loss for x in LOSS],
            "grad_norm": [x * ga**norm for x in NORM],
            "gradient": [x * ga**gradient for x in GRADIENT],
        }

    return train


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(ga_audit.testing).failed == 0


def test_a_right_trainer_passes_and_gives_the_factors():
    found = assert_ga_invariant(scaled())
    assert found.holds
    assert [(one.quantity, one.exponent) for one in found.compared] == [
        ("loss", 0.0), ("grad_norm", 0.0), ("gradient", 0.0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("exponents", "quantities", "words"),
    [
        ((1, 0, 0), ["loss"], "summed over micro-batches"),
        ((0, 1, 1), ["grad_norm", "gradient"], "summed over micro-batches"),
        ((0, -1, -1), ["grad_norm", "gradient"], "divided by GA once too often"),
        ((-2, 0, 0), ["loss"], "divided by GA twice too often"),
    ],
)
def test_what_depends_on_ga_fails_with_the_table(exponents, quantities, words):
    with pytest.raises(AssertionError) as failure:
        assert_ga_invariant(scaled(*exponents), ga=[1, 2, 4])
    found = measure_invariance(scaled(*exponents), ga=[1, 2, 4])
    assert [one.quantity for one in found.compared if one.wrong] == quantities
    assert str(failure.value) == f"the training depends on gradient accumulation:\n{found.table()}"
    assert str(failure.value).count(words) == len(quantities)


def test_the_table():
    assert measure_invariance(scaled(1, 0, 0), ga=[1, 4]).table() == (
        "quantity   GA 1  GA 4  exponent  reading\n"
        "loss       x1    x4    +1.00     summed over micro-batches\n"
        "grad_norm  x1    x1    +0.00     the same at every GA\n"
        "gradient   x1    x1    +0.00     the same at every GA"
    )


def test_a_turned_gradient_fails():
    def train(ga):
        return {"gradient": GRADIENT if ga == 1 else (0.3, -0.2, 0.5, 0.7)}

    with pytest.raises(AssertionError, match=r"another direction: cosine 0\.9050 at GA 2"):
        assert_ga_invariant(train, ga=[1, 2])


def test_what_is_no_number_fails():
    with pytest.raises(AssertionError, match="not a number, or zero"):
        assert_ga_invariant(lambda ga: [math.nan if ga == 2 else 1.0], ga=[1, 2])


def test_small_differences_are_no_fault():
    assert_ga_invariant(lambda ga: [4.0 * (1 + 0.01 * ga / 4)], ga=[1, 4])
    with pytest.raises(AssertionError):
        assert_ga_invariant(lambda ga: [4.0 * (1 + 0.01 * ga / 4)], ga=[1, 4], tolerance=0.001)


class Trainer:
    class state:
        log_history = ({"loss": 4.0, "grad_norm": 1.0, "step": 1}, {"eval_loss": 9.0}, {"loss": 3.8, "train_loss": 3.9})


EXPECTED = Trained(loss=(4.0, 3.8), grad_norm=(1.0,))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([4.0, 3.8], Trained(loss=(4.0, 3.8))),
        (np.array([4.0, 3.5]), Trained(loss=(4.0, 3.5))),
        ({"loss": 4.0, "grad_norm": 1}, Trained(loss=(4.0,), grad_norm=(1.0,))),
        ({"losses": [4.0]}, Trained(loss=(4.0,))),
        ({"grads": {"b": np.array([[1.0, 2.0]]), "a": [3.0]}}, Trained(gradient=(3.0, 1.0, 2.0))),
        (Trainer(), EXPECTED),
        (Trainer.state, EXPECTED),
        (Trainer.state.log_history, EXPECTED),
    ],
)
def test_forms_of_a_result(result, expected):
    assert read(result) == expected


def test_a_model_holds_the_gradient():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    assert read(model) == Trained(gradient=(1.0, 1.0, 1.0))


def test_a_path_of_logs(tmp_path):
    (tmp_path / "trainer_state.json").write_text(
        json.dumps({
            "global_step": 3,
            "log_history": [{"step": i + 1, "loss": x, "grad_norm": 1.0} for i, x in enumerate(LOSS)],
        })
    )  # fmt: skip
    assert read(tmp_path) == Trained(loss=LOSS, grad_norm=(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("train", "ga", "words"),
    [
        (lambda ga: [1.0], [2], "two different positive numbers"),
        (lambda ga: [1.0], [1, 0], "two different positive numbers"),
        (lambda ga: [], [1, 2], "neither losses nor gradients"),
        (lambda ga: 3.0, [1, 2], "returned a float"),
        (lambda ga: None, [1, 2], "returned a NoneType"),
        (lambda ga: {"loss": 1.0, "gradient": [1.0] * ga}, [1, 2], "gradient has unequal numbers of values"),
    ],
)
def test_what_cannot_be_compared_is_refused(train, ga, words):
    with pytest.raises(WrongUsage, match=words):
        assert_ga_invariant(train, ga)
