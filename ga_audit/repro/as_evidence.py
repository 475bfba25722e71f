"""An audit of the engine's logs, with what was measured in place of what logs leave open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ga_audit.bugs import matching
from ga_audit.diagnosis import MEASURED, Settled, diagnose_group
from ga_audit.finding import (
    HEALTHY,
    NAMED,
    OTHER,
    Audit,
    BugMatch,
    Diagnosis,
    Evidence,
    Reach,
    Verdict,
)
from ga_audit.grouping import group
from ga_audit.logs import settings
from ga_audit.repro import scenarios
from ga_audit.repro.measurement import deviates
from ga_audit.repro.tables import sentences
from ga_audit.repro.verdict import Judgement, Outcome, Scale, is_about
from ga_audit.run import Note, Role, Run, RunSettings, Setting, Trust

_IMPOSSIBLE = -60.0  # nats: what was measured to be otherwise
_REACH = {
    "healthy": Reach.NONE, "logging only": Reach.LOG_ONLY, "gradients": Reach.GRADIENTS,
    "gradients at some steps": Reach.GRADIENTS, "unequally weighted": Reach.GRADIENTS,
}  # fmt: skip


def with_truth(audit: Audit, found: Judgement, *, variant: str = "", command: str | None = None) -> Audit:
    """The audit with the measurement as its strongest evidence: verdict, reach, findings, releases, known bugs, advice.

    Where the logs alone say otherwise, or leave something open, a note says so.

    Parameters
    ----------
    audit : of the engine's logs.
    found : the measurement.
    variant : of the engine, or the stock model, that was trained.
    command : what measured it.
    """
    return replace(audit, diagnoses=tuple(_told(d, found, variant) for d in audit.diagnoses), command=command)


def comparison(diagnosis: Diagnosis, found: Judgement) -> tuple[Note, ...]:
    """Whether the reading of the logs and the measurement agree, quantity by quantity; nothing if nothing was measured."""
    if found.verdict == "not measured":
        return ()
    against = list(filter(None, (
        _against(role, diagnosis, scale)
        for role, scale in ((Role.LOSS, found.on_loss), (Role.GRAD_NORM, found.on_grad_norm))
    )))  # fmt: skip
    told = {Reach.LOG_ONLY: "only the log", Reach.GRADIENTS: "the gradients too", Reach.NONE: "nothing"}
    measured, some_steps = _REACH[found.verdict], any(note.code == "short-steps" for note in diagnosis.notes)
    scales = (found.on_loss, found.on_grad_norm, found.on_gradient)
    shared = any(scale.rest is not None and deviates(scale.rest) for scale in scales) and not some_steps
    unequal = found.verdict is Outcome.UNEQUAL_WEIGHTS
    invisible = some_steps or shared or unequal  # the reach does not show in logs
    if not against and not invisible and diagnosis.reach in told and diagnosis.reach is not measured:
        against = [f"affected by the logs: {told[diagnosis.reach]}, measured: {told[measured]}"]
    if against:
        message = f"measurement and logs contradict each other ({'; '.join(against)}); the measurement decides"
        return (Note("measurement-disagrees", message),)
    open_roles = [role for role in (Role.LOSS, Role.GRAD_NORM) if _is_open(role, diagnosis)]
    if open_roles:
        names = " and ".join(open_roles)
        return (Note("measurement-decides", f"the logs alone leave the {names} open; the measurement decides"),)
    if unequal:
        message = "logs do not show how micro-batches are weighted; the measurement decides"
        return (Note("measurement-decides", message),)
    if shared:
        message = "a factor that every run shares does not show in ratios of logs; the measurement decides"
        return (Note("measurement-decides", message),)
    return (Note("measurement-agrees", "measurement and logs agree"),)


def _against(role: Role, diagnosis: Diagnosis, measured: Scale) -> str:
    """In which exponents the logs' reading of a quantity is not the measured one; empty where it is, or is open."""
    if _is_open(role, diagnosis):
        return ""
    read = next((f.hypothesis for f in diagnosis.findings if f.role is role), HEALTHY)
    pairs = (("GA", read.ga, measured.ga), ("world size", read.world, measured.world))
    return "; ".join(
        f"{role} by the logs {driver}^{wanted:g}, measured {driver}^{exponent:.2f}"
        for driver, wanted, exponent in pairs
        if exponent is not None and not is_about(exponent, wanted)
    )


def _is_open(role: Role, diagnosis: Diagnosis) -> bool:
    return role in diagnosis.undecided or role not in diagnosis.posterior


def _told(diagnosis: Diagnosis, found: Judgement, variant: str) -> Diagnosis:
    if found.verdict == "not measured":
        note = Note("not-measured", "the real gradient was not measured in every cell: these are the logs alone")
        return replace(diagnosis, notes=(*diagnosis.notes, note))
    members = next(iter(group(diagnosis.runs)))
    verdict = Verdict.HEALTHY if found.verdict == "healthy" else Verdict.SCALED
    settled = Settled(verdict, _REACH[found.verdict], f"Measured: {_IN_WORDS[found.verdict]}.")
    told = diagnose_group(members, (*_measured(members.runs, found), *diagnosis.evidence, *diagnosis.silences), settled)
    bugs = _bugs(found, variant)
    # what `repro` would settle is settled; without a finding there is nothing to divide by
    steps = [
        step
        for step in told.next_steps
        if "ga-audit repro" not in step and (told.findings or "ga-audit fix" not in step)
    ]
    steps = [f"{bug.bug}: {bug.fix}" for bug in bugs if f"{bug.bug}: {bug.fix}" not in steps] + steps
    return replace(
        told,
        runs=tuple(_with_packages(run, found) for run in told.runs),
        reasons=(f"Measured: {found.verdict}.", *sentences(found), *diagnosis.reasons),
        bugs=bugs,
        next_steps=tuple(steps),
        notes=(*(note for note in diagnosis.notes if note.code != "common-factor"), *comparison(diagnosis, found)),
    )


_IN_WORDS = {
    "healthy": "nothing is mis-scaled", "logging only": "only what is logged is mis-scaled, the gradients are right",
    "gradients": "the gradients themselves are mis-scaled",
    "gradients at some steps": "the gradients are right but for some steps",
    "unequally weighted": "the gradients weight the micro-batches unequally",
}  # fmt: skip


def _measured(runs: Sequence[Run], found: Judgement) -> Iterator[Evidence]:
    """The logged loss and grad_norm against those of the whole batch, as evidence that decides."""
    for role, scale, name in ((Role.LOSS, found.on_loss, "loss"), (Role.GRAD_NORM, found.on_grad_norm, "grad_norm")):
        if not scale.ratios:
            continue
        on_ga, on_world = found.exponents(scale)
        pairs = {h: ((on_ga, h.ga), (on_world, h.world)) for h in NAMED}
        fitting = [h for h, p in pairs.items() if all(e is None or is_about(e, wanted) for e, wanted in p)]
        known = scale.rest is not None or not scale.is_off
        likelihood = {h: 0.0 if known and h in fitting else _IMPOSSIBLE for h in NAMED}
        likelihood[OTHER] = _IMPOSSIBLE if known and fitting else 0.0
        base = likelihood[HEALTHY]
        told = ", ".join(f"x{getattr(c, name):.3f} at {c.name}" for c in found.cells if getattr(c, name) is not None)
        yield Evidence(
            MEASURED, role, tuple(run.id for run in runs), {h: value - base for h, value in likelihood.items()},
            f"measured: the logged {name} is {told}, against that of the whole batch", "truth.json",
        )  # fmt: skip


def _bugs(found: Judgement, variant: str) -> tuple[BugMatch, ...]:
    seen = scenarios.Seen(
        found.exponents(found.on_loss),
        found.exponents(found.on_grad_norm),
        found.exponents(found.on_gradient),
        found.verdict,
        found.cosine,
        multi_rank=max(found.world_sizes) > 1,
        average_tokens=found.training.average_tokens,
        data_parallel=bool(found.data_parallel),
    )
    ids = scenarios.known_bugs(variant, found.training.packages, seen)
    return tuple(matching.match_measured(name, found.training.packages) for name in ids)


def _with_packages(run: Run, found: Judgement) -> Run:
    """The releases that trained, which the engine's own logs need not name."""
    packages = {
        name: Setting(release, "truth.json: packages", Trust.RECORDED)
        for name, release in found.training.packages.items()
    }
    return replace(run, settings=settings.merge(run.settings, RunSettings(packages=packages)))
