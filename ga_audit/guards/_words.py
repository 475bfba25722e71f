"""Sentences of the guards, made from facts."""

from __future__ import annotations

from collections.abc import Sequence

from ga_audit.guards import _reading
from ga_audit.guards._known import KnownBug
from ga_audit.guards._result import CannotMeasure, Fault, Measurement, Reading, Reason, Unit

REASONS = {
    Reason.NO_TRAINER: "the trainer that runs this callback was not found",
    Reason.NOTHING_ACCUMULATED: "nothing is accumulated: one micro-batch on one rank is the whole batch",
    Reason.NO_LOSS: "running a micro-batch again gave no loss with a gradient",
    Reason.NO_MICRO_BATCH: "the micro-batches of the step were not all seen",
    Reason.NOT_REPEATABLE: "a micro-batch that was run twice with the same random numbers gave two losses",
    Reason.WEIGHTS_CHANGE: "the forward pass changes parameters",
    Reason.OPTIMIZER_IN_BACKWARD: "the optimizer runs inside the backward pass, so no gradient is ever whole",
    Reason.SEVERAL_LOSSES: "the loss of a micro-batch is not computed exactly once",
    Reason.OWN_NORMALISATION: "this trainer normalises its loss over several micro-batches itself",
    Reason.DATA_PARALLEL: "one process drives several devices (DataParallel)",
    Reason.SHARDED: "the parameters are sharded over devices",
    Reason.DEEPSPEED: "DeepSpeed keeps the gradient inside its engine",
    Reason.NOT_FINITE: "the gradient or the loss is not a finite number, or zero",
    Reason.CLIPPED: "the gradient was changed after the last backward pass, before it could be read",
    Reason.OUT_OF_MEMORY: "there is not enough memory for a second gradient",
    Reason.OTHER_RANK: "another rank cannot measure",
    Reason.ERROR: "the guard failed",
}


def cannot(error: CannotMeasure) -> str:
    """Why there is no measurement."""
    detail = f" ({error.detail})" if error.detail else ""
    return f"ga-audit does not check gradient accumulation here: {REASONS[error.reason]}{detail}. Training goes on."


def finding(m: Measurement, reading: Reading, bugs: Sequence[KnownBug] = ()) -> str:
    """A fault, its size, the known bug and what to do: a few lines."""
    parts = [f"ga-audit: step {m.step}: {headline(m, reading)}"]
    parts += _effects(m, reading)
    for bug in bugs[:1]:
        parts.append(f"Known bug {bug.id} ({bug.package} {bug.release}): {bug.title}. {bug.fix}")
    if not bugs:
        parts.append(_ADVICE.get(reading.fault, "") if reading.fault else "")
    parts.append(f"Measured against {reference(m)}.")
    return "\n  ".join(part for part in parts if part)


def headline(m: Measurement, reading: Reading) -> str:
    """The fault in one sentence."""
    grad, ga, world = m.grad_factor or 0.0, m.micro_batches, m.world_size
    lost = ", ".join(str(i + 1) for i in reading.micro_batches)
    match reading.fault:
        case None:
            return _healthy(m, reading)
        case Fault.SUMMED | Fault.DIVIDED_TWICE | Fault.WORLD_SIZE:
            assert reading.gradient is not None
            return f"the gradient is {grad:.4g} times that of the whole batch, {_powers(reading.gradient, ga, world)}."
        case Fault.UNEQUAL_WEIGHTS:
            alike = _reading.equal_weights(m)
            how = "each micro-batch counts alike" if alike else "the micro-batches have wrong weights"
            counts = f"{min(m.counts):.0f} to {max(m.counts):.0f} {m.unit}"
            scaled = reading.gradient not in (None, (0, 0))
            also = f" It is also {_powers(reading.gradient, ga, world)}." if scaled and reading.gradient else ""
            return (
                f"{how}, although they hold {counts}: the gradient is off by {m.relative_error:.1%} in direction.{also}"
            )
        case Fault.LOST_MICRO_BATCHES:
            return f"micro-batch {lost} of {len(m.counts)} is not in the gradient that the optimizer receives."
        case Fault.RANKS_APART:
            return "the ranks do not share one gradient: it is not averaged over them before the optimizer step."
        case Fault.STALE:
            return "gradients of an earlier step are in the gradient: they were not set to zero."
        case Fault.ROTATED:
            return f"the gradient (cosine {m.cosine:.3f}) is no weighted sum of the gradients of this step's micro-batches."
        case Fault.LOGGED_LOSS:
            return f"the loss is logged {m.loss_factor:.4g} times too {_high(m.loss_factor)}{_right(m)}"
        case Fault.LOGGED_GRAD_NORM:
            return f"the grad_norm is logged {m.grad_norm_factor:.4g} times its value; the gradient is right."
        case Fault.FACTOR:
            return (
                f"the gradient is {grad:.4g} times that of the whole batch; no power of gradient accumulation ({ga})"
                f"{f' or of the number of ranks ({world})' if world > 1 else ''} is that."
            )


def _healthy(m: Measurement, reading: Reading) -> str:
    if reading.undecided:
        return "the weights of the micro-batches cannot be judged: it is not known what the loss is a mean over."
    if m.grad_factor is None:
        return "the logged loss is right; the gradient was not read."
    tail = f" ({m.count_ratio:.3f}: labels that are not predicted are counted too)" if reading.miscounted else ""
    return f"the gradient is that of the whole batch: factor {m.grad_factor:.4g}{tail}, cosine {m.cosine:.5f}."


def _high(factor: float | None) -> str:
    return "high" if (factor or 0) > 1 else "low"


def _right(m: Measurement) -> str:
    return "." if m.grad_factor is None else "; the gradient is right."


def _powers(exponents: tuple[int, int], ga: int, world: int) -> str:
    """What a factor of these exponents comes from."""
    names = [(exponents[0], f"gradient accumulation ({ga})"), (exponents[1], f"the number of ranks ({world})")]
    if ga == world and 0 in exponents:  # either of the two
        names = [(sum(exponents), f"gradient accumulation ({ga}) or the number of ranks, which is {world} too")]
    found = []
    for exponent, name in names:
        if exponent:
            how = "not divided by" if exponent == 1 else "divided twice by" if exponent == -1 else "off by a square of"
            found.append(f"{how} {name}")
    return " and ".join(found) or "of the right size"


def _effects(m: Measurement, reading: Reading) -> list[str]:
    found = []
    if reading.fault is not Fault.LOGGED_LOSS and m.loss_factor is not None and reading.loss != (0, 0):
        if abs(m.loss_factor - 1) > m.tolerance:
            found.append(f"The loss is logged at {m.loss_factor:.4g} times its value.")
    elif reading.fault in {Fault.SUMMED, Fault.DIVIDED_TWICE} and m.loss_factor is not None:
        found.append("The logged loss is right, so it does not show.")
    if (
        m.max_grad_norm
        and m.accumulated_norm is not None
        and m.reference_norm is not None
        and m.clipped != m.would_be_clipped
    ):
        does, should = ("is", "is not") if m.clipped else ("is not", "is")
        found.append(
            f"With max_grad_norm = {m.max_grad_norm:g} this step {does} clipped (norm {m.accumulated_norm:.4g}); "
            f"the right gradient (norm {m.reference_norm:.4g}) {should}."
        )
    return found


def reference(m: Measurement) -> str:
    """What the gradient was held against."""
    share = "" if m.share == 1 else f", on {m.share:.1%} of the parameters, because memory is short"
    sure = "" if m.verified or m.unit is Unit.SAMPLES else " (by the model's class)"
    return f"the gradient of the whole batch, a mean over {sum(m.counts):.0f} {m.unit}{sure}{share}"


_ADVICE = {
    Fault.SUMMED: "Divide the loss of each micro-batch by the number of micro-batches, or by the items of the whole batch.",
    Fault.DIVIDED_TWICE: "Remove one of the divisions: accelerate, DeepSpeed and Lightning divide by themselves.",
    Fault.UNEQUAL_WEIGHTS: "Divide the summed loss of each micro-batch by the number of items in the whole batch.",
    Fault.LOST_MICRO_BATCHES: "Look for a zero_grad() between the micro-batches of one step.",
    Fault.RANKS_APART: "The last micro-batch of a step must be outside no_sync().",
    Fault.STALE: "Call optimizer.zero_grad() after each optimizer step.",
    Fault.ROTATED: "Look for hooks that change gradients, and for a loss that differs from the one the guard runs.",
}
