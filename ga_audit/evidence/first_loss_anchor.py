"""The first logged loss against the value that its objective has before anything is learned.

What it looks at
    The first point of the loss, within the first steps of the training.
Why it is evidence
    Where policy and reference are still one, DPO costs ln 2 and KTO 1/2; guessing among k classes costs ln k, among V tokens of
    a model with random weights ln V. A sum over GA starts GA times as high.
When it does not apply
    Another objective, an unknown one, GA unknown. A log that does not show that it begins with the training: it begins late,
    its lines hold no step, or its rewards have margins already. KTO whose weights are not recorded.
Calibration
    24 real DPO runs (GA 1 to 32): 21 start at 0.68 to 0.73, the others use another loss or log late: scale 0.05 with the
    tails of Student's t, and one in eight anywhere within e^3. KTO, random weights: judgement, scale 0.12. Heads for classes:
    of 30 right public fine-tunings of encoders (23 projects, first point at step 1 to 20) 22 start within 0.1 of ln k in the
    logarithm, 29 within 0.36, the scale; easy data were at -1 after ten steps, a head that had learned before at -0.3. Five
    that summed over GA 12 start at 11 to 25 times ln 2. Weak: weighted and added losses start elsewhere. A first point far
    below is no evidence, and heads on models of next words start anywhere up to 16 ln 2. A loss that is averaged over a first
    window of many steps has moved: the scale grows with its window.

References
----------
    Rafailov et al. 2023, "Direct preference optimization"; Ethayarajh et al. 2024, "KTO".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ga_audit.bugs import stock_models
from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, objective
from ga_audit.finding import NAMED, Evidence, Fact, NotApplicable, Reason
from ga_audit.grouping import Group
from ga_audit.run import Counted, FloatArray, Role, Run, Series

KIND = "first_loss_anchor"
SCALE_DPO, SCALE, SCALE_CLASSES = 0.05, 0.12, 0.36
ANYWHERE, WIDTH = 0.125, 6.0  # share of healthy runs whose first loss is elsewhere, over e^-3 to e^3
LATEST_STEP = 20  # a first point beyond is no first loss
UNTRAINED = 0.05  # margin up to which policy and reference agree: it moves the loss of DPO by half of that
_WEIGHTS = ("desirable_weight", "undesirable_weight")


class Start(StrEnum):
    """Why an objective has a theoretical initial loss."""

    DPO = "dpo"  # policy and reference agree: ln 2
    KTO = "kto"  # policy and reference agree: 1/2
    RANDOM_WEIGHTS = "random-weights"  # ln of the vocabulary
    LABELS = "labels"  # several labels, each yes or no: ln 2
    CLASSES = "classes"  # ln of the number of classes


@dataclass(frozen=True, slots=True)
class Anchor:
    """The loss of an objective before anything is learned."""

    value: float
    scale: float  # of the natural log of a first loss over it
    start: Start
    size: int = 0  # of the vocabulary, or classes
    fresh: bool = (
        True  # whether nothing can have been learned before; the log does not record it of a classifier's head
    )


def gather(group: Group) -> Iterator[Evidence | NotApplicable]:
    """Evidence on the loss of each run whose objective has such a value."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, NotApplicable) else _evaluate(run)


def anchor(run: Run) -> Anchor | None:
    """The first loss where the objective has one."""
    known = objective(run).objective
    if known is Objective.DPO:
        return Anchor(math.log(2), SCALE_DPO, Start.DPO)
    if known is Objective.KTO:
        return Anchor(0.5, SCALE, Start.KTO) if _has_unit_weights(run) else None
    if known is Objective.CLASSIFICATION:
        return _of_classes(run)
    scratch = run.settings.other.get("init_from")
    if scratch is not None and str(scratch.value) == "scratch" and run.settings.vocab_size is not None:
        size = run.settings.vocab_size.value
        return Anchor(math.log(size), SCALE, Start.RANDOM_WEIGHTS, size)
    return None


def _has_unit_weights(run: Run) -> bool:
    """Whether the two weights of KTO are recorded as 1."""
    return all((weight := run.settings.other.get(name)) is not None and weight.value == 1 for name in _WEIGHTS)


def _of_classes(run: Run) -> Anchor | None:
    """Of a new head on an encoder; one on a causal LM begins with large logits, ten times ln k were seen."""
    other = run.settings.other
    model, classes, problem = (other.get(name) for name in ("architectures", "num_labels", "problem_type"))
    if model is None or not isinstance(model.value, list) or not stock_models.is_encoder(str(model.value[0])):
        return None
    # transformers writes the number of classes into config.json only where it is not 2; a wrapped timm model is not its own
    if classes is None and str(model.value[0]).startswith("Timm"):
        return None
    k = int(classes.value) if classes is not None else 2
    if problem is not None and problem.value == "multi_label_classification":
        return Anchor(math.log(2), SCALE_CLASSES, Start.LABELS, fresh=False)
    if k < 2 or (problem is not None and problem.value != "single_label_classification"):
        return None
    return Anchor(math.log(k), SCALE_CLASSES, Start.CLASSES, k, fresh=False)


def _evaluate(run: Run) -> Evidence | NotApplicable:
    series, found = run.get(Role.LOSS), anchor(run)
    inferred = objective(run)
    if series is None or found is None:
        weighted = inferred.objective is Objective.KTO
        reason = Reason.WEIGHTS_UNKNOWN if weighted else Reason.NO_KNOWN_START
        return _single.not_applicable(KIND, run, reason, inferred.facts)
    step, value = _single.constant_part(run, series)
    if (late := _why_no_start(run, series, step)) is not None:
        return _single.not_applicable(KIND, run, late)
    window = float(min(series.window or step[0], step[0]))
    scale = math.hypot(found.scale, 0.02 * (window - 1))
    first = float(value[0])
    z = math.log(first / found.value)
    start: dict[str, Fact] = {"loss": first, "start": found.start.value, "size": found.size}
    if not found.fresh and z < -2 * scale:
        return _single.not_applicable(KIND, run, Reason.LEARNED_BEFORE, start)
    # NaN, of an unknown setting, is no bound
    others = [abs(factor) for h in NAMED if (factor := h.log_factor(run))]
    near = abs(z) < 3 * scale and not any(abs(z) > factor / 2 for factor in others)
    return Evidence(
        kind=KIND,
        role=Role.LOSS,
        runs=(run.id,),
        log_likelihood=_single.likelihoods(run, lambda f: _log_density(z - f, scale)),
        facts={**start, "step": float(step[0]), "ratio": math.exp(z), "ga": run.settings.ga},
        source=series.source,
        weak=not found.fresh,
        equivalent=near or None,
        detail={"first": first, "anchor": found.value, "scale": round(scale, 3)},
    )


def _why_no_start(run: Run, series: Series, step: FloatArray) -> Reason | None:
    """Why the first usable point is not known to be the first of the training; None if it is."""
    if not len(step) or step[0] > LATEST_STEP:
        return Reason.LATE_START
    if series.counted is not Counted.ORDER and series.optimizer_steps(run.settings.ga) is None:
        return Reason.START_UNKNOWN
    margins = run.get(Role.MARGIN)
    margin = None
    if margins is not None:
        same = margins.value[margins.position == step[0]]
        margin = float(same[0]) if same.size else math.nan
    if margin is not None and not abs(margin) <= UNTRAINED:
        return Reason.LATE_START
    if margin is not None or not _is_numbered(run, series):
        return None
    return None if run.settings.logging_steps is not None and _begins_an_epoch(run) else Reason.START_UNKNOWN


def _is_numbered(run: Run, series: Series) -> bool:
    """Whether the points were numbered by the reader, as the log holds no step."""
    return series.counted is Counted.ORDER or any(note.code == "derived-step" for note in run.notes)


def _begins_an_epoch(run: Run) -> bool:
    """Whether the first line is at the end of the first logging window, by the epochs of the first two."""
    epochs = run.get(Role.EPOCH)
    if epochs is None or len(epochs) < 2:
        return False
    first, second = (float(x) for x in epochs.value[:2])
    return 0 <= first <= 1.5 * (second - first)


def _log_density(x: float, scale: float) -> float:
    body = (1 - ANYWHERE) * math.exp(_single.log_t4(x, scale))
    return math.log(body + (ANYWHERE / WIDTH if abs(x) < WIDTH / 2 else 1e-6))
