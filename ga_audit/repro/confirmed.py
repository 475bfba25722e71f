"""An audit of the engine's logs, with what was measured in place of what logs leave open."""

from __future__ import annotations

from dataclasses import replace

from ga_audit.finding import Audit, Diagnosis, Reach, Verdict
from ga_audit.repro.judge import Judgement
from ga_audit.repro.tables import sentences
from ga_audit.run import Note

_REACH = {
    "healthy": Reach.NONE, "logging only": Reach.LOG_ONLY, "gradients": Reach.GRADIENTS,
    "gradients at some steps": Reach.GRADIENTS,
}  # fmt: skip


def with_truth(audit: Audit, found: Judgement) -> Audit:
    """The audit whose reasons begin with the measurement and whose reach is the measured one.

    The verdict stays that of the logs: where the two do not agree, a note says so.
    """
    return replace(audit, diagnoses=tuple(_told(d, found) for d in audit.diagnoses))


def _told(diagnosis: Diagnosis, found: Judgement) -> Diagnosis:
    scaled = found.verdict not in ("healthy", "not measured")
    notes = diagnosis.notes
    some_steps = found.verdict == "gradients at some steps" and any(n.code == "short-steps" for n in notes)
    if found.verdict != "not measured" and scaled != (diagnosis.verdict is Verdict.SCALED) and not some_steps:
        message = f"measured: {found.verdict}; the logs alone: {diagnosis.verdict.value}; the measurement decides"
        notes = (*notes, Note("measurement-disagrees", message))
    return replace(
        diagnosis,
        reach=_REACH.get(found.verdict, diagnosis.reach),
        reasons=(f"Measured: {found.verdict}.", *sentences(found), *diagnosis.reasons),
        # what `repro` would settle is settled
        next_steps=tuple(step for step in diagnosis.next_steps if "ga-audit repro" not in step),
        notes=notes,
    )
