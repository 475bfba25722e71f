"""An audit of the engine's logs, with what was measured in place of what logs leave open."""

from __future__ import annotations

from dataclasses import replace

from ga_audit import settings
from ga_audit.bugs import catalogue
from ga_audit.finding import Audit, BugMatch, Diagnosis, Reach, Verdict
from ga_audit.repro import situations
from ga_audit.repro.judge import Judgement
from ga_audit.repro.tables import sentences
from ga_audit.run import Note, Run, RunSettings, Setting, Trust

_REACH = {
    "healthy": Reach.NONE, "logging only": Reach.LOG_ONLY, "gradients": Reach.GRADIENTS,
    "gradients at some steps": Reach.GRADIENTS,
}  # fmt: skip


def with_truth(audit: Audit, found: Judgement, *, variant: str = "", command: str | None = None) -> Audit:
    """The audit whose reasons begin with the measurement, and whose reach, releases and known bugs are the measured ones.

    The verdict stays that of the logs: where the two do not agree, a note says so.

    Parameters
    ----------
    audit : of the engine's logs.
    found : the measurement.
    variant : of the engine, or the stock model, that was trained.
    command : what measured it.
    """
    return replace(audit, diagnoses=tuple(_told(d, found, variant) for d in audit.diagnoses), command=command)


def _told(diagnosis: Diagnosis, found: Judgement, variant: str) -> Diagnosis:
    scaled = found.verdict not in ("healthy", "not measured")
    notes = diagnosis.notes
    some_steps = found.verdict == "gradients at some steps" and any(n.code == "short-steps" for n in notes)
    if diagnosis.verdict is Verdict.INCONCLUSIVE and found.verdict != "not measured":
        message = f"measured: {found.verdict}; the logs alone leave it open; the measurement decides"
        notes = (*notes, Note("measurement-decides", message))
    elif found.verdict != "not measured" and scaled != (diagnosis.verdict is Verdict.SCALED) and not some_steps:
        message = f"measured: {found.verdict}; the logs alone: {diagnosis.verdict.value}; the measurement decides"
        notes = (*notes, Note("measurement-disagrees", message))
    bugs = _bugs(found, variant)
    # what `repro` would settle is settled
    steps = [step for step in diagnosis.next_steps if "ga-audit repro" not in step]
    steps = [f"{bug.bug}: {bug.fix}" for bug in bugs if f"{bug.bug}: {bug.fix}" not in steps] + steps
    return replace(
        diagnosis,
        runs=tuple(_with_packages(run, found) for run in diagnosis.runs),
        reach=_REACH.get(found.verdict, diagnosis.reach),
        reasons=(f"Measured: {found.verdict}.", *sentences(found), *diagnosis.reasons),
        bugs=bugs,
        next_steps=tuple(steps),
        notes=notes,
    )


def _bugs(found: Judgement, variant: str) -> tuple[BugMatch, ...]:
    measured = (found.loss, found.grad_norm, found.gradient)
    ids = situations.known_bugs(variant, found.packages, measured, verdict=found.verdict, cosine=found.cosine)
    why = "Measured: this stack does in this situation what the bug is known to do"
    return tuple(catalogue.confirmed(name, why) for name in ids)


def _with_packages(run: Run, found: Judgement) -> Run:
    """The releases that trained, which the engine's own logs need not name."""
    packages = {
        name: Setting(release, "truth.json: packages", Trust.RECORDED) for name, release in found.packages.items()
    }
    return replace(run, settings=settings.merge(run.settings, RunSettings(packages=packages)))
