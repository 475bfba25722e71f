"""Whether runs have to be trained again: what clipping, optimizer and weight decay made of a scaled gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ga_audit.conclusion import ClippingEffect, EffectiveRate, OptimizerKind, Retrain, RetrainAnswer
from ga_audit.finding import ClipShare, Hypothesis, Impact, Verdict
from ga_audit.run import Role, Run

_INVARIANT = ("adam", "lion", "lamb", "adafactor", "adagrad", "rmsprop", "muon", "sophia")
# their weight decay does not pass through the gradient
_DECOUPLED = ("adamw", "lion", "adamw_torch", "sophia", "muon")
_CLIPPING_CHANGED = 0.05  # of all steps: a larger change of the share changed the training


def answer(
    runs: Sequence[Run],
    verdict: Verdict,
    impact: Impact,
    norm: Hypothesis | None,
    clipping: Sequence[ClipShare],
) -> Retrain:
    """Answer "do I have to retrain?", as far as it is known.

    Parameters
    ----------
    runs : the group.
    verdict, impact : on the group.
    norm : the hypothesis found for grad_norm.
    clipping : share of clipped steps of the runs, as logged and as corrected.
    """
    if verdict is Verdict.HEALTHY:
        return Retrain(answer=RetrainAnswer.NOT_SCALED)
    if verdict is Verdict.INCONCLUSIVE:
        return Retrain(answer=RetrainAnswer.UNSETTLED)
    if impact is Impact.LOG_ONLY:
        return Retrain(answer=RetrainAnswer.LOG_ONLY)
    if impact is Impact.UNKNOWN:
        logged = any(run.get(Role.GRAD_NORM) for run in runs)
        return Retrain(answer=RetrainAnswer.UNKNOWN, logs_grad_norm=logged)
    optimizers = {run.settings.optimizer.value.lower() for run in runs if run.settings.optimizer}
    kind = _kind(optimizers)
    effect, clipped = _effect_on_clipping(runs, clipping)
    return Retrain(
        answer=RetrainAnswer.GRADIENTS,
        clipping=effect,
        clipped=clipped,
        optimizer=kind,
        optimizers=tuple(sorted(optimizers)),
        effective_rate=_effective_rate(runs, norm) if kind is OptimizerKind.DEPENDENT else None,
        weight_decay=_weight_decay(runs, optimizers),
    )


def _kind(optimizers: set[str]) -> OptimizerKind:
    if not optimizers:
        return OptimizerKind.UNKNOWN
    return OptimizerKind.INVARIANT if _all_named(optimizers, _INVARIANT) else OptimizerKind.DEPENDENT


def _all_named(optimizers: set[str], names: Sequence[str]) -> bool:
    return all(any(name in optimizer for name in names) for optimizer in optimizers)


def _effect_on_clipping(runs: Sequence[Run], clipping: Sequence[ClipShare]) -> tuple[ClippingEffect, ClipShare | None]:
    changed = [c for c in clipping if abs(c.as_logged - c.as_corrected) > _CLIPPING_CHANGED]
    if not changed:
        return (ClippingEffect.UNCHANGED if clipping else ClippingEffect.UNKNOWN), None
    # of runs that are all clipped, the one whose gradient changed most: that of the largest GA
    gas = {run.name: run.settings.ga or 1 for run in runs}
    worst = max(changed, key=lambda c: (gas.get(c.run, 1), abs(c.as_logged - c.as_corrected)))
    return ClippingEffect.CHANGED, worst


def _effective_rate(runs: Sequence[Run], norm: Hypothesis | None) -> EffectiveRate | None:
    """The learning rate of the run that is furthest off, where it is known."""
    known = [(run, run.settings.learning_rate) for run in runs if run.settings.learning_rate is not None]
    if norm is None or not known:
        return None
    run, rate = max(known, key=lambda pair: abs(norm.log_factor(pair[0])))
    return EffectiveRate(run.name, rate.value, math.exp(norm.log_factor(run)))


def _weight_decay(runs: Sequence[Run], optimizers: set[str]) -> tuple[float, ...] | None:
    """Decay inside the gradient is weaker relative to a larger one; decoupled decay is not."""
    settings = [run.settings.other.get("weight_decay") for run in runs]
    known = {float(s.value) for s in settings if s is not None and isinstance(s.value, int | float)}
    if not optimizers or known == {0.0} or _all_named(optimizers, _DECOUPLED):
        return None
    return tuple(sorted(known))
