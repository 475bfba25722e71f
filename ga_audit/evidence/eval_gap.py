"""Train loss against eval loss at the same steps, within one run.

What it looks at
    ln(train / eval) at each evaluation, the train loss taken at the evaluation's step by interpolation between the centres
    of its logging windows; the median over the second half of the evaluations.
Why it is evidence
    In every measured release the eval loss is a mean whatever the train loss is, so a sum over GA stands GA times above it,
    steadily from the first evaluation on.
When it does not apply
    No eval loss, or none at steps where the train loss is logged; GA unknown or 1; a loss below 0.01 (an overfit run).
Calibration
    3,247 model cards and 55 other runs of real trainers, nearly all healthy: of 128 language models with GA > 1 none had a ratio
    within x1.25 of its own GA (95 % upper bound 2.3 %), of 476 other tasks 21 (augmentation and dropout act in training
    only). So it is weak (never alone) unless the objective is a language model's and GA is 8 or more, and the density of a
    healthy run has a tail of 8 %, falling by e per 0.8, on the high side, and of 40 %, falling by e per 1.2, on the low side
    (overfitting: a quarter of the language models lie below 0.6 to 0.84, 5 % of all cards near 1/GA).
    Encoder-decoders stay weak at any GA: speech is augmented in training only, and 20 % of such cards have twice the eval loss.
    Scale 0.2 for language models, 0.5 else, widened by the drift from the first evaluation.

References
----------
    `tests/calibration/RESULTS.md` for measured shares; a known exception is an eval loss multiplied by the world size
    (transformers 4.46.2 to 4.48.3 with `average_tokens_across_devices`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, is_encoder_decoder, objective
from ga_audit.finding import Evidence, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import FloatArray, Role, Run
from ga_audit.stats.arrays import median

KIND = "eval_gap"
SCALE = {Objective.LANGUAGE_MODEL: 0.2}
OTHER_SCALE = 0.5
ONE_EVALUATION = 0.35  # scale added where a single evaluation has to do
SURE_GA = 8  # from here on a language model's gap may decide alone
LOWEST_LOSS = 0.01
_HIGH_TAIL, _HIGH_DECAY = 0.08, 0.8
_LOW_TAIL, _LOW_DECAY = 0.4, 1.2


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on the loss of each run that logs an eval loss."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, NotApplicable) else _evaluate(run)


def _evaluate(run: Run) -> Evidence | NotApplicable:
    train, held_out = run.get(Role.LOSS), run.get(Role.EVAL_LOSS)
    if train is None or held_out is None:
        missing = Role.LOSS if train is None else Role.EVAL_LOSS
        return _single.not_applicable(KIND, run, Reason.NO_EVAL_LOSS, {"missing": missing.value})
    gaps = ratios(run)
    if not len(gaps):
        return _single.not_applicable(KIND, run, Reason.NO_COMMON_STEP)
    late = gaps[len(gaps) // 2 :]
    z = median(late)
    inferred = objective(run)
    known = inferred.objective
    drift = abs(float(gaps[0]) - z) / 2
    single = ONE_EVALUATION if len(gaps) == 1 else 0.0
    scale = math.hypot(SCALE.get(known, OTHER_SCALE), drift, single)
    ga = run.settings.ga or 1
    sure = known is Objective.LANGUAGE_MODEL and ga >= SURE_GA and len(gaps) > 1
    return Evidence(
        kind=KIND,
        role=Role.LOSS,
        runs=(run.id,),
        log_likelihood=_single.likelihoods(run, lambda f: _log_density(z, f, scale)),
        facts={
            "ratio": math.exp(z),
            "low": math.exp(z - 1.96 * scale),
            "high": math.exp(z + 1.96 * scale),
            "used": len(late),
            "evaluations": len(gaps),
            "ga": ga,
        },
        source=f"{train.source}; {held_out.source}",
        weak=not sure or is_encoder_decoder(run),
        equivalent=True if z + 1.645 * scale < math.log(ga) else None,
        detail={
            "ratios": [round(math.exp(g), 4) for g in gaps],
            "objective": inferred.facts,
            "scale": round(scale, 3),
        },
    )


def ratios(run: Run) -> FloatArray:
    """(n,) ln(train / eval) at each evaluation that the logged train loss reaches."""
    train, held_out = run.get(Role.LOSS), run.get(Role.EVAL_LOSS)
    if train is None or held_out is None:
        return np.zeros(0)
    step, value = _single.constant_part(run, train)
    when, level = _single.constant_part(run, held_out)
    good = level >= LOWEST_LOSS
    when, level = when[good], level[good]
    if not len(step) or not len(when):
        return np.zeros(0)
    x = _single.centre(step, train.window)
    gap = median(np.diff(step)) if len(step) > 1 else 0.0
    reach = max(10.0, 0.03 * float(step[-1]), gap)
    near = (when >= step[0] - reach) & (when <= step[-1] + reach)
    out: FloatArray = _single.at(when[near], x, np.log(value)) - np.log(level[near])
    return out


def _log_density(z: float, factor: float, scale: float) -> float:
    """Log density of the gap z under a factor (natural log): t4 around it, with the tails that real healthy runs have."""
    x = z - factor
    body = (1 - _HIGH_TAIL - _LOW_TAIL) * math.exp(_single.log_t4(x, scale))
    share, decay = (_HIGH_TAIL, _HIGH_DECAY) if x > 0 else (_LOW_TAIL, _LOW_DECAY)
    return math.log(body + share / decay * math.exp(-abs(x) / decay))
