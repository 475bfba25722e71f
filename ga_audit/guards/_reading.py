"""From the numbers of a measurement to the fault that they show. No torch: plain arithmetic."""

from __future__ import annotations

import itertools
import statistics

from ga_audit.guards._result import Fault, Measurement, Reading

EXPONENTS = (0, 1, -1, 2, -2)
EXACT = 0.02  # relative distance from a power of GA within which a factor is taken for it
ROUGH = 0.2  # where it is not known how the micro-batches are weighted
NOTHING = 0.02  # weight, relative to the largest, of a micro-batch that is lost


def read(m: Measurement) -> Reading:
    """What a measurement shows."""
    loss = None if m.loss_factor is None else _power(m.loss_factor, m, _near(m))
    if m.grad_factor is None or m.relative_error is None:
        return _read_logs(m, None, loss)
    if m.stale and m.relative_error > m.tolerance:
        return Reading(fault=Fault.STALE, loss=loss)
    if not m.ranks_agree:
        return Reading(fault=Fault.RANKS_APART, loss=loss)
    if m.relative_error > m.tolerance:
        return _read_weights(m, loss)
    gradient = _power(m.grad_factor, m, _near(m))
    if gradient is None:
        return Reading(fault=Fault.FACTOR, loss=loss)
    if gradient == (0, 0):
        return _read_logs(m, gradient, loss)
    return Reading(fault=_named(gradient), gradient=gradient, loss=loss, miscounted=_is_miscounted(m, gradient))


def _near(m: Measurement) -> float:
    return EXACT if m.verified else ROUGH


def _power(factor: float, m: Measurement, near: float) -> tuple[int, int] | None:
    """The exponents on GA and the number of ranks whose product is the factor, the simplest first.

    The factor may hold the harmless ratio of predicted tokens to labels besides.
    """
    pairs = sorted(itertools.product(EXPONENTS, EXPONENTS), key=lambda e: (abs(e[0]) + abs(e[1]), abs(e[1]), -e[0]))
    possible = [(ga, w) for ga, w in pairs if not (ga and m.micro_batches == 1) and not (w and m.world_size == 1)]
    for ratio, tolerance in ((1.0, max(near, m.tolerance)), (m.count_ratio, max(2e-3, m.tolerance))):
        for ga, world in possible:
            if abs(factor / (ratio * m.micro_batches**ga * m.world_size**world) - 1) <= tolerance:
                return ga, world
    return None


def _is_miscounted(m: Measurement, exponents: tuple[int, int]) -> bool:
    """Whether all labels are counted, where one of each sequence is not predicted."""
    rest = (m.grad_factor or 0.0) / (m.micro_batches ** exponents[0] * m.world_size ** exponents[1])
    return (
        m.count_ratio != 1 and abs(rest / m.count_ratio - 1) <= max(2e-3, m.tolerance) and abs(rest - 1) > m.tolerance
    )


def _named(exponents: tuple[int, int]) -> Fault | None:
    ga, world = exponents
    if ga:
        return Fault.SUMMED if ga > 0 else Fault.DIVIDED_TWICE
    return Fault.WORLD_SIZE if world else None


def _read_logs(m: Measurement, gradient: tuple[int, int] | None, loss: tuple[int, int] | None) -> Reading:
    """The gradient is right, or was not read: what is logged?"""
    if m.loss_factor is not None and loss != (0, 0):
        if loss is not None or m.verified:
            return Reading(fault=Fault.LOGGED_LOSS, gradient=gradient, loss=loss)
        return Reading(fault=None, gradient=gradient, loss=loss, undecided=True)
    if gradient is not None and m.grad_norm_factor is not None and abs(m.grad_norm_factor - 1) > 0.05:
        return Reading(fault=Fault.LOGGED_GRAD_NORM, gradient=gradient, loss=loss)
    return Reading(
        fault=None, gradient=gradient, loss=loss, miscounted=gradient is not None and _is_miscounted(m, gradient)
    )


def _read_weights(m: Measurement, loss: tuple[int, int] | None) -> Reading:
    """The gradient has another direction than the whole batch's: which weights do the micro-batches have?"""
    if m.weights is None or m.span_error is None:
        return Reading(fault=None, loss=loss, undecided=True)
    if m.span_error > max(10 * m.tolerance, 0.03):
        return Reading(fault=Fault.ROTATED, loss=loss)
    largest = max(abs(w) for w in m.weights)
    lost = tuple(i for i, w in enumerate(m.weights) if abs(w) < NOTHING * largest)
    own = m.micro_batches
    if lost and m.world_size > 1 and {i // own for i in lost} and _whole_ranks(lost, own, m.world_size):
        return Reading(fault=Fault.RANKS_APART, loss=loss, micro_batches=lost)
    if lost:
        return Reading(fault=Fault.LOST_MICRO_BATCHES, loss=loss, micro_batches=lost)
    if not m.verified:
        return Reading(fault=None, loss=loss, undecided=True)
    return Reading(fault=Fault.UNEQUAL_WEIGHTS, gradient=_power(_scale(m), m, EXACT), loss=loss)


def _whole_ranks(lost: tuple[int, ...], own: int, world: int) -> bool:
    gone = set(lost)
    return any(set(range(r * own, (r + 1) * own)) <= gone for r in range(world))


def _scale(m: Measurement) -> float:
    """The factor besides the weights: the sum of all weights of the whole batch, which should be 1."""
    assert m.weights is not None
    total = sum(m.counts)
    return sum(w * c / total for w, c in zip(m.weights, m.counts, strict=True))


def weight_of_each(m: Measurement) -> tuple[float, ...] | None:
    """The absolute weight of each micro-batch, as a share of 1 / (micro-batches of all ranks)."""
    if m.weights is None:
        return None
    total, n = sum(m.counts), len(m.counts)
    return tuple(w * c / total * n for w, c in zip(m.weights, m.counts, strict=True))


def equal_weights(m: Measurement) -> bool:
    """Whether all micro-batches count alike, up to the noise of the fit."""
    found = weight_of_each(m)
    return found is not None and statistics.pstdev(found) < 0.03 * abs(statistics.fmean(found))
