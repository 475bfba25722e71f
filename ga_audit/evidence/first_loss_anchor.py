"""The first logged loss against the value that its objective has before anything is learned.

What it looks at
    The first point of the loss, within the first steps of the training.
Why it speaks
    Where policy and reference are still one, DPO costs ln 2 and KTO 1/2; guessing among k classes costs ln k, among V tokens of
    a model with random weights ln V. A sum over GA starts GA times as high.
When it is silent
    Another objective, an unknown one, a log that begins late (a resumed run), GA unknown.
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

from ga_audit.bugs import stock_models
from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, objective
from ga_audit.finding import NAMED, Evidence, Silence
from ga_audit.grouping import Group
from ga_audit.run import Counted, Role, Run, Series

KIND = "first_loss_anchor"
SCALE_DPO, SCALE, SCALE_CLASSES = 0.05, 0.12, 0.36
ANYWHERE, WIDTH = 0.125, 6.0  # share of healthy runs whose first loss is elsewhere, over e^-3 to e^3
EARLIEST_EPOCH = 0.1  # of a first line without a step; a later one does not begin the training
LATEST_STEP = 20  # a first point beyond is no first loss


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Evidence on the loss of each run whose objective has such a value."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, Silence) else _speak(run)


@dataclass(frozen=True, slots=True)
class Anchor:
    """The loss of an objective before anything is learned."""

    value: float
    scale: float  # of the natural log of a first loss over it
    name: str
    fresh: bool = True  # whether nothing can have been learned before; of a head for classes the log does not say it


def anchor(run: Run) -> Anchor | None:
    """The first loss where the objective has one."""
    kind, _ = objective(run)
    other = run.settings.other
    if kind is Objective.DPO:
        return Anchor(math.log(2), SCALE_DPO, "ln 2, where DPO starts")
    if kind is Objective.KTO:
        return Anchor(0.5, SCALE, "1/2, where KTO starts")
    if kind is Objective.CLASSIFICATION:
        return _of_classes(run)
    scratch = other.get("init_from")
    if scratch is not None and str(scratch.value) == "scratch" and run.settings.vocab_size is not None:
        v = run.settings.vocab_size.value
        return Anchor(math.log(v), SCALE, f"ln {v}, where a model with random weights starts")
    return None


def _of_classes(run: Run) -> Anchor | None:
    """Of a new head on an encoder; one on a model of next words begins with large logits, ten times ln k were seen."""
    other = run.settings.other
    model, classes, problem = (other.get(name) for name in ("architectures", "num_labels", "problem_type"))
    if model is None or not isinstance(model.value, list) or not stock_models.is_encoder(str(model.value[0])):
        return None
    # transformers writes the number of classes into config.json only where it is not 2; a wrapped timm model is not its own
    if classes is None and str(model.value[0]).startswith("Timm"):
        return None
    k = int(classes.value) if classes is not None else 2
    if problem is not None and problem.value == "multi_label_classification":
        return Anchor(math.log(2), SCALE_CLASSES, "ln 2, where yes and no of several labels start", fresh=False)
    if k < 2 or (problem is not None and problem.value != "single_label_classification"):
        return None
    return Anchor(math.log(k), SCALE_CLASSES, f"ln {k}, where {k} classes start", fresh=False)


def _speak(run: Run) -> Evidence | Silence:
    series, found = run.get(Role.LOSS), anchor(run)
    if series is None or found is None:
        return Silence(
            KIND, f"the objective of {run.name} ({objective(run)[1]}) has no first loss that is known beforehand", "", Role.LOSS
        )  # fmt: skip
    step, value = _single.constant_part(run, series)
    if not _begins_at_start(run, series) or not len(step) or step[0] > LATEST_STEP:
        return Silence(
            KIND, f"the log of {run.name} does not begin with the training", "Log from the first step.", Role.LOSS
        )
    window = float(min(series.window or step[0], step[0]))
    scale = math.hypot(found.scale, 0.02 * (window - 1))
    z = math.log(float(value[0]) / found.value)
    if not found.fresh and z < -2 * scale:
        return Silence(
            KIND, f"first loss of {run.name} ({value[0]:.4g}) is below {found.name}: its head had learned before, or the loss is "
            "divided", "", Role.LOSS,
        )  # fmt: skip
    others = [abs(factor) for h in NAMED if (factor := h.log_factor(run))]  # NaN, of an unknown setting, is no bound
    near = abs(z) < 3 * scale and not any(abs(z) > factor / 2 for factor in others)
    return Evidence(
        KIND, Role.LOSS, (run.id,), _single.likelihoods(run, lambda factor: _log_density(z - factor, scale)),
        f"first loss of {run.name} (step {step[0]:.0f}) is {value[0]:.4g}, {math.exp(z):.3g} times {found.name}; "
        f"GA is {run.settings.ga}",
        series.source, weak=not found.fresh, equivalent=near or None,
        detail={"first": float(value[0]), "anchor": found.value, "scale": round(scale, 3)},
    )  # fmt: skip


def _begins_at_start(run: Run, series: Series) -> bool:
    """Whether the steps are those of the training; where lines were only numbered, the epoch beside them decides."""
    if series.counted is not Counted.ORDER:
        return series.optimizer_steps(run.settings.ga) is not None
    epoch = run.get(Role.EPOCH)
    return epoch is not None and len(epoch) > 0 and 0 <= epoch.value[0] <= EARLIEST_EPOCH


def _log_density(x: float, scale: float) -> float:
    body = (1 - ANYWHERE) * math.exp(_single.log_t4(x, scale))
    return math.log(body + (ANYWHERE / WIDTH if abs(x) < WIDTH / 2 else 1e-6))
