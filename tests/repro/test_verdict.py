"""The verdict on cells: exponents, what they leave, and what keeps it from being spoken."""

import pytest

from ga_audit.errors import EngineFailed
from ga_audit.repro import tables
from ga_audit.repro import verdict as verdicts
from ga_audit.repro.measurement import Measured, OddStep, Training


def _at(ga, world, ratio):
    return Measured(ga, world, ratio, ratio, ratio, 1.0, None, None)


@pytest.mark.parametrize(("on_ga", "on_world"), [(0, 0), (1, 0), (0, 1), (1, 1), (0, -1)])
def test_ga_and_world_size_are_told_apart(on_ga, on_world):
    cells = [_at(ga, world, 0.9 * ga**on_ga * world**on_world) for ga in (1, 4) for world in (1, 2)]
    found = verdicts.judge(cells)
    assert (found.on_loss.ga, found.on_loss.world) == pytest.approx((on_ga, on_world), abs=1e-9)
    assert found.verdict == ("gradients" if on_ga or on_world else "healthy")


def _lost(ga, ratio, cosine):
    return Measured(ga, 1, 1.0, ratio, ratio, cosine, None, None)


@pytest.mark.parametrize("ratio", [1.0, 0.34])
def test_a_gradient_that_points_elsewhere_is_no_healthy_training(ratio):
    """Lost micro-batches may leave the norm as it was; the direction tells."""
    found = verdicts.judge([_lost(1, 1.0, 1.0), _lost(4, ratio, 0.71)])
    assert found.verdict == "gradients"
    assert "GA 4: the accumulated gradient is not parallel" in tables.table(found)
    assert "cosine 0.710" in tables.table(found)
    assert any("is not parallel" in line for line in tables.sentences(found))


def test_weighting_bias_is_not_called_a_lost_micro_batch():
    found = verdicts.judge([_lost(1, 1.0, 1.0), _lost(8, 1.02, 0.975)])
    assert found.verdict == "healthy"
    assert "parallel" not in tables.table(found) + "".join(tables.sentences(found))


def _exact(ga, ratio, cosine, *, dtype="float32", **more):
    return Measured(ga, 1, 1.0, ratio, ratio, cosine, None, None, training=Training(dtype=dtype), **more)


@pytest.mark.parametrize(("ratio", "cosine", "verdict", "error"), [
    (1.0, 1.0, "healthy", 0.0),
    (1.0, 0.999999, "healthy", 2**0.5 * 1e-3),
    (1.009, 1.0, "healthy", 0.009),
    (1.011, 1.0, "unequally weighted", 0.011),
    (1.02, 0.975, "unequally weighted", 0.22672),
    (1.0, 0.99994, "unequally weighted", 0.010954),
])  # fmt: skip
def test_weights_at_fixed_data_in_float32(ratio, cosine, verdict, error):
    """A factor that is there without accumulation, as of labels that are counted before the shift, is not a weight."""
    for common in (1.0, 0.934):
        found = verdicts.judge([_exact(1, common, 1.0), _exact(8, common * ratio, cosine)])
        assert (found.verdict, found.weighting[1]) == (verdict, pytest.approx(error, rel=1e-3, abs=1e-9))
    coarse = [_exact(1, 1.0, 1.0, dtype="bfloat16"), _exact(8, ratio, cosine, dtype="bfloat16")]
    assert verdicts.judge(coarse).verdict == "healthy"
    assert verdicts.judge([_exact(1, 1.0, 1.0), _exact(8, ratio, cosine, spans_steps=True)]).verdict == "healthy"


def test_at_one_ga_only_the_direction_tells_weights():
    assert verdicts.judge([_exact(8, 1.15, 1.0)]).verdict == "healthy"
    assert verdicts.judge([_exact(8, 1.0, 0.999)]).verdict == "unequally weighted"


def test_unequal_weights_are_named_with_their_size_and_smaller_errors_are_stated():
    found = verdicts.judge([_exact(1, 1.0, 1.0), _exact(16, 1.02, 0.985)])
    line = (
        "GA 16: micro-batches are unequally weighted: the accumulated gradient differs from that of the full batch by 17.6 % "
        "of its norm (cosine 0.9850), which no scale factor corrects"
    )
    assert line in tables.table(found).splitlines()
    assert f"{line}." in tables.sentences(found)
    assert f"one: {line}" in tables.summary({"one": found}).splitlines()
    found = verdicts.judge([_exact(1, 1.0, 1.0), _exact(16, 1.003, 1.0)])
    said = "gradient against the full batch, in float32: relative error 3e-03 at most, at GA 16"
    assert said in tables.table(found).splitlines()


def test_a_scaled_gradient_stays_scaled_whatever_its_weights():
    found = verdicts.judge([_exact(1, 1.0, 1.0), _exact(4, 4.02, 0.9989)])
    assert found.verdict == "gradients"
    assert "unequally" not in tables.table(found)


def test_ga_and_ranks_that_change_together_are_not_told_apart():
    found = verdicts.judge([_at(1, 1, 1.0), _at(2, 2, 2.0)])
    assert (found.on_loss.ga, found.on_loss.world, found.on_loss.rest) == (None, None, None)
    assert found.verdict == "gradients"  # whose cause is open, not that it is twice too large


@pytest.mark.parametrize(("cells", "verdict", "said"), [
    ([_at(8, 1, 8.0)], "gradients", "at GA 8 alone: loss x8.000"),
    ([_at(8, 1, 8.0)], "gradients", "if GA is the cause, its exponents are loss 1.000, grad_norm 1.000"),
    ([_at(8, 1, 1.0)], "healthy", None), ([_at(1, 1, 1.0)], "not measured", "nothing was accumulated"),
    ([_at(1, 2, 2.0), _at(4, 2, 2.0)], "gradients",
     "additional factor, independent of GA: loss x2.000, grad_norm x2.000, gradient x2.000; --world-size 1,2 tells"),
    ([_at(1, 2, 2.0)], "gradients", "at GA 1: loss x2.000"), ([_at(4, 2, 8.0)], "gradients", "--ga 1,4 tells; --world-size 1,2"),
    # labels counted before the shift: said, and no verdict
    ([_at(1, 1, 0.934), _at(4, 1, 0.934)], "healthy", "additional factor, independent of GA: loss x0.934"),
    ([_at(1, 1, 0.5), _at(4, 1, 2.0)], "gradients", "additional factor, independent of GA: loss x0.500"),
    ([_at(1, 1, 1.0), _at(4, 1, 4.0)], "gradients", None), ([_at(1, 1, 1.004), _at(4, 1, 0.99)], "healthy", None),
])  # fmt: skip
def test_a_factor_that_no_power_of_ga_explains_is_said_and_judged(cells, verdict, said):
    found = verdicts.judge(cells)
    assert found.verdict == verdict
    text = tables.table(found)
    assert said in text if said else "independent of GA" not in text and "alone" not in text
    assert bool(tables.common_factor(found)) == (said is not None)
    assert said is None or any(said[1:] in line for line in tables.sentences(found))


def test_only_the_log_at_one_ga():
    cell = Measured(4, 1, 4.0, 1.0, 1.0, 1.0, None, None)
    assert verdicts.judge([cell]).verdict == "logging only"


def test_a_cell_that_left_no_measurement_keeps_the_matrix_from_being_healthy():
    empty = Measured(1, 1, None, None, None, None, None, None)
    assert verdicts.judge([empty, _at(4, 1, 1.0)]).verdict == "not measured"
    assert verdicts.judge([empty, _at(4, 1, 4.0)]).verdict == "gradients"


def test_a_loss_without_a_ratio_leaves_the_gradients_judged():
    cells = [Measured(ga, 1, None, 1.0, 1.0, 1.0, None, None) for ga in (1, 4)]
    assert verdicts.judge(cells).verdict == "healthy"
    nothing_logged = [Measured(ga, 1, None, None, 1.0, 1.0, None, None) for ga in (1, 4)]
    assert verdicts.judge(nothing_logged).verdict == "not measured"


def test_a_gradient_that_was_not_measured_is_no_verdict():
    cells = [Measured(ga, 1, float(ga), float(ga), None, None, None, None) for ga in (1, 4)]
    assert verdicts.judge(cells).verdict == "not measured"


def test_a_gradient_of_nothing_is_not_healthy():
    """A logarithm would leave it out."""
    for wrong in (0.0, -1.0):
        cells = [_at(1, 1, 1.0), Measured(4, 1, 1.0, 1.0, wrong, None, None, None)]
        assert verdicts.judge(cells).verdict == "gradients"
        cells = [_at(1, 1, 1.0), Measured(4, 1, wrong, 1.0, 1.0, 1.0, None, None)]
        assert verdicts.judge(cells).verdict == "logging only"


def test_what_no_powers_describe_has_no_exponents():
    cells = [_at(1, 1, 1.0), _at(4, 1, 1.0), _at(1, 2, 1.0), _at(4, 2, 4.0)]
    found = verdicts.judge(cells)
    assert (found.on_loss.ga, found.on_loss.world, found.on_loss.rest) == (None, None, None)
    assert found.verdict == "gradients"
    text = tables.table(found)
    assert "no power of GA and of world size describes the factors of loss and grad_norm and gradient" in text
    assert "independent of GA" not in text


@pytest.mark.parametrize("missing", ["loss", "grad_norm", "gradient"])
def test_a_value_that_one_cell_lacks_keeps_the_verdict_open(missing):
    import dataclasses

    whole = _at(1, 1, 1.0)
    for ratio in (1.0, 4.0):
        gap = dataclasses.replace(Measured(4, 1, ratio, 1.0, 1.0, 1.0, None, None), **{missing: None})
        assert verdicts.judge([whole, gap]).verdict == "not measured"
        # unless it says why
        if missing == "loss":
            noted = [dataclasses.replace(cell, note="near zero") for cell in (whole, gap)]
            assert verdicts.judge(noted).verdict == "healthy"


def test_a_step_that_is_no_number_or_points_elsewhere_is_not_healthy():
    for odd in (OddStep(3, float("nan")), OddStep(3, 1.0, 0.3)):
        cells = [_at(1, 1, 1.0), Measured(4, 1, 1.0, 1.0, 1.0, 1.0, None, None, odd_steps=(odd,))]
        found = verdicts.judge(cells)
        assert found.verdict == "gradients at some steps"
        assert "GA 4: real gradient at step 3 " in tables.table(found)
    nothing_else = [_at(1, 1, 1.0), Measured(4, 1, None, None, None, None, None, None, odd_steps=(odd,))]
    assert verdicts.judge(nothing_else).verdict == "gradients at some steps"


def test_cells_of_different_releases_are_not_one_matrix():
    cells = [
        Measured(ga, 1, 1.0, 1.0, 1.0, 1.0, None, None, training=Training(packages={"transformers": release}))
        for ga, release in ((1, "4.47.0"), (4, "4.48.0"))
    ]
    with pytest.raises(EngineFailed, match=r"GA 1 was trained with transformers 4.47.0, GA 4 with transformers 4.48.0"):
        verdicts.judge(cells)


@pytest.mark.parametrize(("cells", "exponents"), [
    ([(1, 1, 1.0), (4, 1, 4.0)], (1, None)), ([(8, 1, 8.0)], (1, None)), ([(1, 2, 2.0), (4, 2, 8.0)], (1, 1)),
    ([(4, 1, 4.0), (4, 2, 8.0)], (1, 1)), ([(4, 2, 8.0)], (None, None)), ([(1, 2, 2.0)], (None, 1)),
])  # fmt: skip
def test_an_exponent_in_which_cells_do_not_vary_is_what_the_rest_would_be(cells, exponents):
    found = verdicts.judge([_at(*cell) for cell in cells])
    measured = found.exponents(found.on_gradient)
    assert measured == tuple(None if e is None else pytest.approx(e) for e in exponents)


def test_ranks_are_named_where_there_are_several():
    found = verdicts.judge([_at(4, 1, 1.0), _lost(4, 1.0, 1.0), Measured(4, 2, 1.0, 1.0, 2.0, 0.3, None, None)])
    assert "GA 4 on 2 ranks: the accumulated gradient is not parallel" in tables.table(found)
    assert "at GA 4 on 2 ranks is x2.000 that of the whole batch (at GA 4 x1.000)" in tables.sentences(found)[0]
