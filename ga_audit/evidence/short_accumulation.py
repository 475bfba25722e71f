"""The last optimizer step of each epoch, where fewer than GA micro-batches were left.

What it looks at
    How far the loss stands below its neighbours at the steps that, by the logged epochs, took r < GA micro-batches: depth 1 is
    ln(r / GA), depth 0 nothing.
Why it speaks
    A sum over r micro-batches is r / GA of the sum over GA, whatever else is wrong. A loss that does not dip is no sum.
When it is silent
    No epochs beside the loss, epochs that end with a full step or carry the remainder over, GA unknown or 1.
Calibration
    Real trainings of transformers 4.45.2, 4.46.0, 4.48.0 and 4.57.6 with 2 of 8 micro-batches left (`tests/golden/short-epochs`):
    depth 0.99 to 1.01 where summed, -0.02 to 0.02 where right. A right trainer that divides by a fixed GA dips too, so that a dip
    says little (2 : 1) and weak; no dip speaks against a sum, by no more than 1 : 50.

References
----------
    `ga_audit.stats.epochs`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ga_audit.evidence import _single
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Silence
from ga_audit.grouping import Group
from ga_audit.run import Counted, Note, Role, Run
from ga_audit.stats.epochs import dip, fit

KIND = "short_accumulation"
FLOOR = 0.15  # of the depth's scale: few micro-batches have a loss of their own
AT_MOST = math.log(50)
BLIND = 2.0  # a scale of the depth beyond which it tells nothing


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Evidence on the loss of each run whose epochs end with a short step."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, Silence) else _speak(run)


def _speak(run: Run) -> Evidence | Silence:
    loss, epoch, ga = run.get(Role.LOSS), run.get(Role.EPOCH), run.settings.gradient_accumulation_steps
    assert ga is not None
    if loss is None or epoch is None or not ga.value.is_constant:
        return Silence(KIND, f"{run.name} logs no epochs beside its loss", "", Role.LOSS)
    if Counted.OPTIMIZER_STEP not in (loss.counted, epoch.counted) or loss.counted is not epoch.counted:
        why = f"the log of {run.name} does not say at which optimizer steps its losses are"
        return Silence(KIND, why, "Log the optimizer step beside the loss.", Role.LOSS)
    epochs = fit(epoch.position, epoch.value, ga.value.first)
    found = None if epochs is None else dip(loss.position, loss.value, epochs, loss.window)
    if epochs is None or found is None:
        return Silence(KIND, f"no epoch of {run.name} is known to end with fewer than GA micro-batches", "", Role.LOSS)
    scale = math.hypot(found.error, FLOOR)
    if scale > BLIND:
        why = f"the loss of {run.name} moves too much for a short step at the end of an epoch to be seen"
        return Silence(KIND, why, "Log more often (logging_steps=1).", Role.LOSS)
    at_one, at_none = (_single.log_t4(found.depth - d, scale) for d in (1.0, 0.0))
    either = math.log((math.exp(at_one) + math.exp(at_none)) / 2)
    summed = max(at_one - either, -AT_MOST)
    likelihood = {h: summed if h.ga > 0 else 0.0 for h in NAMED} | {HEALTHY: 0.0, OTHER: 0.0}
    shape = "does not dip as a sum would" if found.refuted else "leaves it open"
    r, shape = epochs.last, "dips as a sum would" if found.seen else shape
    ga_value = epochs.gradient_accumulation_steps
    short = Note(
        "short-steps",
        f"{run.name}: every {epochs.steps}th optimizer step takes {epochs.last} of {ga_value} micro-batches and is divided by "
        f"{ga_value} all the same, so its loss, and most likely its gradient, is {epochs.last}/{ga_value} of the right one",
    )
    return Evidence(
        KIND, Role.LOSS, (run.id,), likelihood,
        f"where epochs of {run.name} end with {r} of {epochs.gradient_accumulation_steps} micro-batches, its loss {shape} "
        f"(depth {found.depth:.2f} +- {1.96 * scale:.2f}, {found.points} points; 1 = a sum, 0 = none)",
        f"{loss.source}; {epoch.source}", weak=True, notes=(short,) if found.seen else (),
        detail={"depth": round(found.depth, 3), "steps_per_epoch": epochs.steps, "last": r},
    )  # fmt: skip
