"""An audit of the engine's logs, with what was measured in place of what logs leave open."""

from __future__ import annotations

from dataclasses import replace

from ga_audit import settings
from ga_audit.bugs import catalogue
from ga_audit.finding import HEALTHY, Audit, BugMatch, Diagnosis, Reach
from ga_audit.repro import situations
from ga_audit.repro.judge import Judgement, Scale, is_about
from ga_audit.repro.tables import sentences
from ga_audit.run import Note, Role, Run, RunSettings, Setting, Trust

_REACH = {
    "healthy": Reach.NONE, "logging only": Reach.LOG_ONLY, "gradients": Reach.GRADIENTS,
    "gradients at some steps": Reach.GRADIENTS,
}  # fmt: skip


def with_truth(audit: Audit, found: Judgement, *, variant: str = "", command: str | None = None) -> Audit:
    """The audit whose reasons begin with the measurement, and whose reach, releases and known bugs are the measured ones.

    The verdict stays that of the logs: where the two do not agree, or the logs leave something open, a note says so.

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
    shared = found.verdict != "healthy" and not some_steps and not any(
        scale.grows for scale in (found.on_loss, found.on_grad_norm, found.on_gradient)
    )  # fmt: skip
    if not against and diagnosis.reach in told and diagnosis.reach is not measured and not some_steps and not shared:
        against = [f"affected by the logs: {told[diagnosis.reach]}, measured: {told[measured]}"]
    if against:
        message = f"measurement and logs contradict each other ({'; '.join(against)}); the measurement decides"
        return (Note("measurement-disagrees", message),)
    open_roles = [role for role in (Role.LOSS, Role.GRAD_NORM) if _is_open(role, diagnosis)]
    if open_roles:
        names = " and ".join(open_roles)
        return (Note("measurement-decides", f"the logs alone leave the {names} open; the measurement decides"),)
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
    bugs = _bugs(found, variant)
    # what `repro` would settle is settled
    steps = [step for step in diagnosis.next_steps if "ga-audit repro" not in step]
    steps = [f"{bug.bug}: {bug.fix}" for bug in bugs if f"{bug.bug}: {bug.fix}" not in steps] + steps
    return replace(
        diagnosis,
        runs=tuple(_with_packages(run, found) for run in diagnosis.runs),
        reach=_REACH[found.verdict],
        reasons=(f"Measured: {found.verdict}.", *sentences(found), *diagnosis.reasons),
        bugs=bugs,
        next_steps=tuple(steps),
        notes=(*diagnosis.notes, *comparison(diagnosis, found)),
    )


def _bugs(found: Judgement, variant: str) -> tuple[BugMatch, ...]:
    seen = situations.Seen(
        found.exponents(found.on_loss),
        found.exponents(found.on_grad_norm),
        found.exponents(found.on_gradient),
        found.verdict,
        found.cosine,
        multi_rank=max(found.world_sizes) > 1,
        average_tokens=found.training.average_tokens,
    )
    ids = situations.known_bugs(variant, found.training.packages, seen)
    why = "Measured: this stack does in this situation what the bug is known to do"
    return tuple(catalogue.confirmed(name, why) for name in ids)


def _with_packages(run: Run, found: Judgement) -> Run:
    """The releases that trained, which the engine's own logs need not name."""
    packages = {
        name: Setting(release, "truth.json: packages", Trust.RECORDED)
        for name, release in found.training.packages.items()
    }
    return replace(run, settings=settings.merge(run.settings, RunSettings(packages=packages)))
