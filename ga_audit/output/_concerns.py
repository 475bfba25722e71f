"""A concern of a check in words, and where its log lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ga_audit.check.concerns import Check, Concern, Mismatch, check_audit, relative
from ga_audit.check.policy import Level
from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.output._safe import plain
from ga_audit.output.wording import bugs as wording
from ga_audit.output.wording import verdict

if TYPE_CHECKING:
    from ga_audit.check.concerns import StackFact

_MAX_NAMES = 8


def checked(audit: Audit, check: Check | None) -> Check:
    """The check that is shown: the one that was made, or that of the default policy."""
    return check_audit(audit) if check is None else check


def sentence(diagnosis: Diagnosis) -> str:
    """What a diagnosis says, in one sentence."""
    return verdict.headline(diagnosis)


def message(concern: Concern) -> str:
    """One line that says what the concern is; everything from a log is made visible."""
    text = plain(_message(concern)).replace("\n", " ")
    if concern.expired is not None:
        reason = plain(concern.expired.reason).replace("\n", " ")
        text += f" Its exception ({reason}) expired on {concern.expired.until}."
    return text


def _message(concern: Concern) -> str:
    if concern.stack is not None:
        return _stack_message(concern.stack)
    if concern.failure is not None:
        return str(concern.failure.error)
    if concern.mismatch is not None and concern.diagnosis is not None:
        return f"{_mismatch_message(concern.mismatch)} {sentence(concern.diagnosis)}"
    if concern.diagnosis is not None:
        return sentence(concern.diagnosis)
    if concern.rule == "unknown-ga":
        return "gradient_accumulation_steps is unknown, so the run is not judged. Give --ga NAME=N."
    return "Nothing was judged: the logs hold no run, or only corrected copies."


def _mismatch_message(mismatch: Mismatch) -> str:
    shown = [f"{e:g}" for e in mismatch.expected]
    expected = f"expected is exponent {shown[0]} on GA and {shown[1]} on world size"
    what = "not known" if mismatch.found is None else "0: it does not depend on them"
    return f"{mismatch.role.value}: {expected}, found is {what}."


def _stack_message(fact: StackFact) -> str:
    release = f"{fact.package} {fact.release}"
    if fact.bug is None:
        return f"{release}: {wording.coverage(fact.coverage)}."
    if fact.open_conditions:
        return f"{release}: {fact.bug.title}, if {wording.conditions(fact.open_conditions)}. {fact.fix}"
    if fact.coverage.unknown is not None:
        return f"{release}: {fact.bug.title}, if it is not fixed in this release. {fact.fix}"
    return f"{release}: {fact.bug.title}. {fact.fix}"


def run_names(concern: Concern) -> str:
    """The affected runs, for a line."""
    names = [plain(run.name).replace("\n", " ") for run in concern.runs]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def paths(concern: Concern, root: Path | None = None) -> tuple[str, ...]:
    """Files of the affected runs, or the one that could not be read, from `root` on; without addresses and `-`."""
    if concern.failure is not None:
        found = [concern.failure.source]
    else:
        found = [run.sources[0].path for run in concern.runs if run.sources]
    local = [path for path in dict.fromkeys(found) if path != "-" and "://" not in path]
    return tuple(relative(path, root or Path.cwd()) for path in local)


def why_accepted(concern: Concern) -> str:
    """Why the concern does not count; empty where it does."""
    if concern.waiver is not None:
        reason = plain(concern.waiver.reason).replace("\n", " ")
        return f"accepted until {concern.waiver.until}: {reason}"
    return "accepted: in the baseline" if concern.in_baseline else ""


def by_level(check: Check) -> tuple[Concern, ...]:
    """The worst first; what is accepted last."""
    order = list(Level)
    return tuple(sorted(check.concerns, key=lambda c: (c.is_accepted, order.index(c.level))))
