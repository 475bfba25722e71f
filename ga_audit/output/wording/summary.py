"""The sentences of the first screen: the verdict with its factor, the bug, what a command is for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ga_audit.conclusion import Action, Diagnosis, NextStep, OptimizerKind, Retrain, UndecidedReason
from ga_audit.finding import HEALTHY, NAMED, BugMatch, Finding, Fit, Impact, Verdict
from ga_audit.output.wording import advice, verdict
from ga_audit.output.wording._numbers import factor, named, percent
from ga_audit.output.wording._sentence import Sentence
from ga_audit.run import Role, Run
from ga_audit.stats.constants import DECIDE_AT

_LIKELY = 0.8  # below it a hypothesis is not named before the reason why the verdict is open
_MAX_POSSIBLE = 3
_BOTH = "The logged loss and grad_norm are"
_SUBJECT = {Role.LOSS: "The logged loss is", Role.GRAD_NORM: "grad_norm is"}

PURPOSE: Mapping[Action, str] = {
    Action.WRITE_CORRECTED: "corrected curves",
    Action.WRITE_REPORT: "plots and an issue to file",
    Action.MEASURE: "measures the gradient on your stack",
    Action.MEASURE_INSTEAD: "measures it on your stack",
    Action.MEASURE_GRADIENTS: "checks the gradients too",
    Action.GIVE_GA: "with gradient_accumulation_steps for N",
    Action.ADD_TO_TELL_APART: "settles it",
}


def headline(d: Diagnosis) -> str:
    """The verdict behind its label: by what factor, and what it means for the gradients."""
    if d.only_measured or d.verdict is Verdict.HEALTHY:
        return verdict.after_label(d)
    if d.verdict is Verdict.INCONCLUSIVE:
        return _likely(d) or verdict.after_label(d)
    parts = [part for role in (Role.LOSS, Role.GRAD_NORM) if (part := _scaled(d, role))]
    if len(parts) != len({f.role for f in d.findings}):  # a factor of 1 everywhere: nothing to show
        return verdict.after_label(d)
    loss, norm = d.hypothesis(Role.LOSS), d.hypothesis(Role.GRAD_NORM)
    if loss is not None and norm is not None and (loss.ga, loss.world) == (norm.ga, norm.world):
        return f"{_scaled(d, Role.LOSS, _BOTH)}. The gradients are affected too."
    return f"{'; '.join(parts)}. {_gradients(d)}"


def _scaled(d: Diagnosis, role: Role, subject: str = "") -> str:
    """`loss is logged 8x too high at GA 8: summed over ...`; empty without a finding or factor."""
    found = [finding for finding in d.findings if finding.role is role]
    worst = max(d.runs, key=lambda run: _size(d, run, role))
    if not found or not _size(d, worst, role):
        return ""
    log_factor = d.log_factor(worst, role)
    amount = f"{factor(math.exp(abs(log_factor)))} too {'high' if log_factor > 0 else 'low'}"
    return f"{subject or _SUBJECT[role]} {amount}{_where(worst, found)}: {verdict.scaling(found[0].hypothesis)}{_some(d, found)}"


def _size(d: Diagnosis, run: Run, role: Role) -> float:
    size = abs(d.log_factor(run, role))
    return 0.0 if math.isnan(size) else size


def _where(run: Run, found: Sequence[Finding]) -> str:
    """The settings of the run on which the factor depends."""
    parts = []
    if found[0].hypothesis.ga:
        parts.append(f"GA {run.settings.ga}")
    if found[0].hypothesis.world and run.settings.world_size is not None:
        parts.append(f"{run.settings.world_size.value} ranks")
    return f" at {' on '.join(parts)}" if parts else ""


def _some(d: Diagnosis, found: Sequence[Finding]) -> str:
    """The runs that it is about, where these are not all."""
    about = {run for finding in found for run in finding.runs}
    names = [run.name for run in d.runs if run.id in about]
    return "" if len(names) == len(d.runs) else f", in {named(names)}"


def _gradients(d: Diagnosis) -> str:
    """What the findings mean for the gradients."""
    loss, norm = d.hypothesis(Role.LOSS), d.hypothesis(Role.GRAD_NORM)
    if loss is not None and norm is not None:
        return "The gradients are affected too."
    if norm is not None:
        judged = any(p.role is Role.LOSS for p in d.evidence) and Role.LOSS not in d.undecided
        hidden = "The loss looks right and hides it." if judged else "These logs are inconclusive about the loss."
        return f"The gradients are affected. {hidden}"
    if d.impact is Impact.LOG_ONLY:
        return "grad_norm is right: only the log is affected."
    return "These logs do not show whether the gradients are affected."


def _likely(d: Diagnosis) -> str:
    """The leading hypothesis, where nothing but its probability keeps the verdict open; else empty."""
    if [why.reason for why in d.why_inconclusive] != [UndecidedReason.BELOW_THRESHOLD]:
        return ""
    why = d.why_inconclusive[0]
    role, (name, probability) = why.role, why.hypotheses[0]
    leading = next((h for h in NAMED if h.name == name), None)
    if role is None or leading in {None, HEALTHY} or probability < _LIKELY:
        return ""
    assert leading is not None
    needed = percent(DECIDE_AT)
    held = percent(probability) if percent(probability) != needed else f"{probability:.1%}"
    return f"{_SUBJECT[role]} probably {verdict.scaling(leading)}: {held}; a verdict needs {needed}."


def training(answer: Retrain) -> Sentence:
    """Whether the training was affected, and whether to retrain."""
    share = answer.clipped
    if share is None or answer.optimizer is not OptimizerKind.INVARIANT:
        return advice.retrain(answer)
    clipped = f"{percent(share.as_logged)} of the steps instead of {percent(share.as_corrected)}"
    return (
        f"Affected: gradients were clipped in {clipped} ({share.run}). Updates of an Adam-like "
        f"optimizer are otherwise nearly scale-invariant. Retrain only if the runs must be comparable.",
    )


def purpose(step: NextStep) -> str:
    """What the command of a step is for."""
    said = PURPOSE.get(step.action, "")
    return f"{said}: edit the command between the quotes" if "--script" in step.argv else said


def bug(bugs: Sequence[BugMatch]) -> str:
    """The known bug that fits and what to do about it; else those that may fit; empty without either."""
    for match in bugs:
        if match.fit is Fit.MATCHES:
            release = " ".join((match.package, ", ".join(match.releases_held))).strip()
            return f"{match.bug}, {release}: {match.title}. {match.fix}"
    possible = [match.bug for match in bugs if match.fit is Fit.POSSIBLE]
    if not possible:
        return ""
    return f"possibly {named(possible, _MAX_POSSIBLE)}, under conditions that the logs do not record"


def hidden(d: Diagnosis, notes: int) -> str:
    """What the first screen leaves out."""
    matching = [b.bug for b in d.bugs if b.fit is Fit.MATCHES]
    others = [b.bug for b in d.bugs if b.fit in {Fit.MATCHES, Fit.POSSIBLE}][1:] if matching else []
    parts = ["all evidence"]
    if others:
        parts.append(f"{len(others)} further possible {'bug' if len(others) == 1 else 'bugs'}")
    if notes:
        parts.append(f"{notes} {'note' if notes == 1 else 'notes'}")
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"-v shows {listed}; --explain shows the arithmetic."
