"""The sentences of a diagnosis: headline, reasons, why it is open, and the known bugs."""

from __future__ import annotations

from collections.abc import Sequence

from ga_audit.conclusion import Diagnosis, Outcome, SetAside, Undecided, UndecidedReason
from ga_audit.finding import BugMatch, Fit, Hypothesis, Impact, Verdict
from ga_audit.output.wording import evidence
from ga_audit.output.wording._numbers import capitalised, named, percent
from ga_audit.run import Role, Run
from ga_audit.stats.constants import DECIDE_AT

_QUANTITY = {Role.LOSS: "logged loss", Role.GRAD_NORM: "grad_norm"}
_SCALING: dict[tuple[float, float], str] = {
    (1, 0): "summed over gradient_accumulation_steps instead of averaged",
    (-1, 0): "divided by gradient_accumulation_steps one time too many",
    (-2, 0): "divided by gradient_accumulation_steps two times too many",
    (0, 1): "summed over world_size instead of averaged",
    (0, -1): "divided by world_size one time too many",
    (1, 1): "summed over gradient_accumulation_steps and world_size instead of averaged",
}
_OUTCOME = {
    Outcome.HEALTHY: "nothing is mis-scaled",
    Outcome.LOG_ONLY: "only the logged values are mis-scaled; the gradients are correct",
    Outcome.GRADIENTS: "the gradients are mis-scaled",
    Outcome.SOME_STEPS: "the gradients are correct except at some steps",
    Outcome.UNEQUAL_WEIGHTS: "the gradients weight the micro-batches unequally",
}
_NORM = {
    UndecidedReason.NORM_UNDECIDED: "is undecided",
    UndecidedReason.NORM_WITHOUT_EVIDENCE: "gives no evidence",
    UndecidedReason.NORM_NOT_LOGGED: "is not in the logs",
}
_BEFORE_STATEMENT = {
    Verdict.HEALTHY: "Healthy: ", Verdict.INCONCLUSIVE: "Inconclusive, because ", Verdict.SCALED: "",
}  # fmt: skip


# --- headline ---------------------------------------------------------------------------------


def headline(d: Diagnosis) -> str:
    """The verdict in one sentence."""
    before = "" if d.only_measured else _BEFORE_STATEMENT[d.verdict]
    return f"{before}{statement(d)}"


def after_label(d: Diagnosis) -> str:
    """The headline behind a label that names the verdict."""
    said = statement(d)
    return f"because {said}" if d.verdict is Verdict.INCONCLUSIVE else capitalised(said)


def statement(d: Diagnosis) -> str:
    """The headline without the word for the verdict."""
    if d.only_measured and d.measured is not None:
        return f"Measured: {_OUTCOME[d.measured.outcome]}."
    if d.verdict is Verdict.HEALTHY:
        return _healthy(d)
    if d.verdict is Verdict.INCONCLUSIVE:
        return f"{'; '.join(undecided(why, d.runs) for why in d.why_inconclusive)}."
    return _scaled(d)


def _scaled(d: Diagnosis) -> str:
    loss, norm, about = d.hypothesis(Role.LOSS), d.hypothesis(Role.GRAD_NORM), _about_some(d)
    if loss is not None and norm is not None:
        if (loss.ga, loss.world) == (norm.ga, norm.world):
            both = f"The logged loss and grad_norm are {scaling(loss)}{about}"
            return f"{both}: the gradients themselves are affected."
        return f"The logged loss is {scaling(loss)} and grad_norm is {scaling(norm)}{about}."
    if norm is not None:
        if Role.LOSS in d.undecided or not any(p.role is Role.LOSS for p in d.evidence):
            return f"grad_norm is {scaling(norm)}{about}; these logs are inconclusive about the loss."
        return f"The loss looks correct, but grad_norm is {scaling(norm)}{about}: the loss curve hides it."
    assert loss is not None
    if d.impact is Impact.LOG_ONLY:
        return f"Only the logged loss is {scaling(loss)}{about}; grad_norm is correct."
    return f"The logged loss is {scaling(loss)}{about}; these logs do not show whether the gradients are too."


def scaling(h: Hypothesis) -> str:
    """`summed over gradient_accumulation_steps instead of averaged`."""
    return _SCALING.get((h.ga, h.world), f"scaled by GA^{h.ga:g} x world_size^{h.world:g}")


def _about_some(d: Diagnosis) -> str:
    if all(len(finding.runs) == len(d.runs) for finding in d.findings):
        return ""
    return f" in {named(sorted({run for finding in d.findings for run in finding.runs}))}"


def _healthy(d: Diagnosis) -> str:
    gas = sorted({run.settings.ga for run in d.runs if run.settings.ga})
    known = {piece.role for piece in d.evidence if not piece.weak or piece.equivalent}
    quantities = [_QUANTITY[role] for role in _QUANTITY if role in known and role not in d.undecided]
    over = f" (GA {', '.join(map(str, gas))})" if gas else ""
    verb = "do" if len(quantities) > 1 else "does"
    sentence = f"{' and '.join(quantities) or 'the log'} {verb} not scale with GA{over}."
    if Role.GRAD_NORM not in known:
        sentence += " These logs say nothing about the gradients."
    elif Role.GRAD_NORM in d.undecided:
        sentence += " The logs are inconclusive about grad_norm."
    return sentence


# --- reasons ----------------------------------------------------------------------------------


def reasons(d: Diagnosis) -> tuple[str, ...]:
    """The evidence that decided, the strongest first."""
    if d.measured is not None:
        from ga_audit.repro.as_evidence import Measurement
        from ga_audit.repro.tables import sentences

        assert isinstance(d.measured, Measurement)
        outcome = f"Measured: {d.measured.outcome}."
        return (outcome, *sentences(d.measured.judgement), *reasons(d.measured.logs_alone))
    open_ones = d.undecided.values() if d.findings else ()
    return (
        *(evidence.sentence(p, d.runs) for p in d.deciding),
        *(f"{_upper(undecided(why, d.runs))}." for why in open_ones),
    )


def set_aside(item: SetAside) -> str:
    """Why a run is not judged."""
    return {UndecidedReason.UNKNOWN_GA: "gradient_accumulation_steps is unknown"}[item.reason]


# --- undecided --------------------------------------------------------------------------------


def undecided(why: Undecided, runs: Sequence[Run]) -> str:
    """Why nothing is concluded on runs, as a clause."""
    role = why.role
    match why.reason:
        case UndecidedReason.UNEXPLAINED_FACTOR:
            return f"the {role} is mis-scaled, but not by a power of GA or world size"
        case UndecidedReason.UNEXPLAINED_DIFFERENCE:
            return f"the {role} differs between the runs, but not by a power of GA or world size"
        case UndecidedReason.WIDE_INTERVAL if why.leaning is not None:
            return f"the {role} is {likely(why)}, but the interval is too wide to call the runs equivalent"
        case UndecidedReason.WIDE_INTERVAL:
            return f"the interval for the {role} is too wide to call the runs equivalent"
        case UndecidedReason.ONLY_WEAK_EVIDENCE:
            return f"all evidence on the {role} is weak"
        case UndecidedReason.ONE_WEAK_EVIDENCE:
            return f"one weak indicator is not enough for a verdict on the {role}"
        case UndecidedReason.LOOK_ALIKE:
            return f"{why.setting} is also {why.value}, and a sum over it would look the same"
        case UndecidedReason.TIED if why.leaning is not None:
            tied = " and ".join(name for name, _ in why.hypotheses)
            return f"the {role} is {likely(why)}, but these runs do not distinguish {tied}"
        case UndecidedReason.TIED:
            return f"the {role} of these runs does not distinguish {' and '.join(n for n, _ in why.hypotheses)}"
        case UndecidedReason.BELOW_THRESHOLD:
            source = "from one run, " if why.single_run else ""
            leading = ", ".join(f"{name} {percent(p, DECIDE_AT)}" for name, p in why.hypotheses)
            if why.leaning is not None:
                return f"{source}the {role} is {likely(why)}; a verdict needs {percent(DECIDE_AT)} ({leading})"
            return f"{source}no hypothesis on the {role} reaches {percent(DECIDE_AT)} ({leading})"
        case UndecidedReason.NOTHING_SCALES:
            ga = "gradient_accumulation_steps is 1, so a sum equals a mean"
            return f"{ga}, and one run shows no other factor"
        case UndecidedReason.NOT_APPLICABLE:
            assert why.not_applicable is not None
            return evidence.not_applicable(why.not_applicable, runs)[0]
        case reason if reason in _NORM:
            return f"the loss does not scale, but {role} {_NORM[reason]} and the gradients were not measured"
        case UndecidedReason.NOTHING_TO_COMPARE:
            return "there is nothing to compare"
        case _:
            return _about_runs(why)


def likely(why: Undecided) -> str:
    """`likely scaled (93%)`."""
    assert why.confidence is not None
    limit = None if why.reason is UndecidedReason.WIDE_INTERVAL else DECIDE_AT
    return f"likely {why.leaning} ({percent(why.confidence, limit)})"


def _about_runs(why: Undecided) -> str:
    """A reason that names the runs which keep a quantity open."""
    runs, role = named(why.runs), why.role
    misfit = f"the {role} of {runs} is inconsistent with the other runs"
    match why.reason:
        case UndecidedReason.UNKNOWN_GA:
            return f"gradient_accumulation_steps of {runs} is unknown"
        case UndecidedReason.CONTRADICTED if why.right:
            right = ", ".join(map(percent, why.right[:4]))
            return f"{misfit}: from single-run evidence, the probability of correct scaling is {right}"
        case UndecidedReason.CONTRADICTED:
            return f"{misfit}: there is no single-run evidence and no common range of steps"
        case UndecidedReason.RUNS_DIFFER:
            differs = f"the {role} of {runs} differs by more than GA and chance explain"
            return f"{differs}: exclude runs of other code, or give the release that trained each (--stack)"
        case _:
            assert why.reason is UndecidedReason.ODD_RUNS
            if why.factors:
                times = named([f"{x:.3g}" for x in why.factors])
                misfit = f"the {role} of {runs} is {times} times the level of the other runs"
            return f"{misfit}: exclude it, or give the release that trained it (--stack)"


# --- known bugs -------------------------------------------------------------------------------


def bug_match(bug: BugMatch, verdict: Verdict) -> str:
    """How a known bug fits a group of this verdict."""
    return f"{_fit(bug, verdict)}."


def _fit(bug: BugMatch, verdict: Verdict) -> str:
    if bug.measured:
        return "Measured: this stack shows the effect of the bug"
    release = f"{bug.package} {', '.join(bug.releases_held)}"
    wanted = ", ".join(f"{name} = {value}" for name, value in bug.open)
    match bug.fit:
        case Fit.HEALTHY:
            return f"{release} is affected, but these logs are healthy"
        case Fit.OUTSIDE_RANGE:
            return f"The signature fits, but {release} is outside {bug.affected}"
        case Fit.POSSIBLE if verdict is Verdict.INCONCLUSIVE:
            return f"{release} has this bug{f' if {wanted}' if wanted else ''}; the logs are inconclusive"
        case _:
            tail = f"; not recorded: {wanted}" if wanted else ""
            return f"{release} is affected ({bug.affected}) and the signature fits{tail}"


def _upper(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}"
