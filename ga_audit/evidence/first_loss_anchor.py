"""The first logged loss against the value that its objective has before anything is learned.

What it looks at
    The first point of the loss, within the first steps of the training.
Why it speaks
    Where policy and reference are still one, DPO costs ln 2 and KTO 1/2; guessing among k classes costs ln k, among V tokens of
    a model with random weights ln V. A sum over GA starts GA times as high.
When it is silent
    Another objective, an unknown one, a log that begins late (a resumed run), GA unknown.
Calibration
    24 real DPO runs (GA 1 to 32): 21 start at 0.68 to 0.73, the others use another loss or log late: scale 0.05 with the tails
    of Student's t, and one in eight anywhere within e^3. KTO, classes, random weights: judgement, scale 0.12. A loss that is
    averaged over a first window of many steps has moved: the scale grows with its window.

References
----------
    Rafailov et al. 2023, "Direct preference optimization"; Ethayarajh et al. 2024, "KTO".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ga_audit.evidence import _single
from ga_audit.evidence._objective import Objective, objective
from ga_audit.finding import Evidence, Silence
from ga_audit.grouping import Group
from ga_audit.run import Role, Run

KIND = "first_loss_anchor"
SCALE_DPO, SCALE = 0.05, 0.12
ANYWHERE, WIDTH = 0.125, 6.0  # share of healthy runs whose first loss is elsewhere, over e^-3 to e^3
LATEST_STEP = 20  # a first point beyond is no first loss


def gather(group: Group) -> Iterator[Evidence | Silence]:
    """Evidence on the loss of each run whose objective has such a value."""
    for run in _single.runs_with_ga(group, KIND):
        yield run if isinstance(run, Silence) else _speak(run)


def anchor(run: Run) -> tuple[float, float, str] | None:
    """(value, scale, name) of the first loss where the objective has one."""
    kind, _ = objective(run)
    other = run.settings.other
    if kind is Objective.DPO:
        return math.log(2), SCALE_DPO, "ln 2, where DPO starts"
    if kind is Objective.KTO:
        return 0.5, SCALE, "1/2, where KTO starts"
    classes = other.get("num_labels")
    if kind is Objective.CLASSIFICATION and classes is not None and int(classes.value) > 1:
        k = int(classes.value)
        return math.log(k), 3 * SCALE, f"ln {k}, where {k} classes start"
    scratch = other.get("init_from")
    if scratch is not None and str(scratch.value) == "scratch" and run.settings.vocab_size is not None:
        v = run.settings.vocab_size.value
        return math.log(v), SCALE, f"ln {v}, where a model with random weights starts"
    return None


def _speak(run: Run) -> Evidence | Silence:
    series, found = run.get(Role.LOSS), anchor(run)
    if series is None or found is None:
        return Silence(
            KIND, f"the objective of {run.name} ({objective(run)[1]}) has no first loss that is known beforehand", "", Role.LOSS
        )  # fmt: skip
    step, value = _single.constant_part(run, series)
    if not len(step) or step[0] > LATEST_STEP:
        return Silence(
            KIND, f"the log of {run.name} does not begin with the training", "Log from the first step.", Role.LOSS
        )
    level, scale, name = found
    window = float(min(series.window or step[0], step[0]))
    scale = math.hypot(scale, 0.02 * (window - 1))
    z = math.log(float(value[0]) / level)
    return Evidence(
        KIND, Role.LOSS, (run.id,), _single.likelihoods(run, lambda factor: _log_density(z - factor, scale)),
        f"first loss of {run.name} (step {step[0]:.0f}) is {value[0]:.4g}, {math.exp(z):.3g} times {name}; "
        f"GA is {run.settings.ga}",
        series.source, equivalent=True if abs(z) < 3 * scale else None,
        detail={"first": float(value[0]), "anchor": level, "scale": round(scale, 3)},
    )  # fmt: skip


def _log_density(x: float, scale: float) -> float:
    body = (1 - ANYWHERE) * math.exp(_single.log_t4(x, scale))
    return math.log(body + (ANYWHERE / WIDTH if abs(x) < WIDTH / 2 else 1e-6))
