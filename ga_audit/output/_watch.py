"""One look at growing logs, as a line."""

from __future__ import annotations

from ga_audit.conclusion import Diagnosis
from ga_audit.finding import Verdict
from ga_audit.output._concerns import sentence
from ga_audit.output._safe import plain, short
from ga_audit.watch import Look, leading

_NAMES = 60


def line(look: Look) -> str:
    """The verdict of every group and what it rests on; the same as long as nothing but the number of points changes."""
    audit = look.audit
    if not audit.diagnoses:
        return "waiting: no log with a loss or a grad_norm yet"
    parts = [f"{d.verdict.value}  {_names(d)}: {_sentence(d)}" for d in audit.diagnoses]
    if audit.set_aside:
        parts.append(f"not judged, GA unknown: {len(audit.set_aside)}")
    if audit.failures:
        parts.append(f"not read: {len(audit.failures)}")
    return "\n          ".join(parts)


def status_line(look: Look) -> str:
    """What changes from look to look: points and probabilities."""
    shown = [f"{look.points} points"]
    for diagnosis in look.audit.diagnoses:
        shown += [f"{role.value} {h.name} {_percent(p)}" for role, h, p in leading(diagnosis)]
    return short(plain(", ".join(shown)).replace("\n", " "), 100)


def _percent(probability: float) -> str:
    return f"{min(probability, 0.999):.1%}"


def _names(diagnosis: Diagnosis) -> str:
    return short(plain(", ".join(run.name for run in diagnosis.runs)).replace("\n", " "), _NAMES)


def _sentence(diagnosis: Diagnosis) -> str:
    if diagnosis.verdict is Verdict.INCONCLUSIVE:
        return "not decided yet"  # the sentence would change with every point
    return plain(sentence(diagnosis)).replace("\n", " ")
