"""A check as text and as JSON (`ga-audit-check/1`)."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from ga_audit.check.concerns import Check, Concern
from ga_audit.check.policy import Level, Waiver
from ga_audit.output._concerns import by_level, message, paths, run_names, why_accepted
from ga_audit.output._safe import plain

SCHEMA = "ga-audit-check/1"
_OUTCOMES = {0: "met", 1: "violated", 3: "undecided"}
_WIDTH = 100


def text(check: Check) -> str:
    """For people: a paragraph for each concern, then the counts."""
    return "\n".join(_lines(check))


def _lines(check: Check) -> Iterator[str]:
    for concern in by_level(check):
        level = "accepted" if concern.is_accepted else concern.level.value
        names = run_names(concern)
        yield f"{level:<9}  {concern.rule}{': ' + names if names else ''}"
        yield from textwrap.wrap(message(concern), _WIDTH, initial_indent=" " * 11, subsequent_indent=" " * 11)
        if why := why_accepted(concern):
            yield f"{'':11}{why}"
    for waiver in check.unused:
        yield f"unused exception: {_shown(waiver)}"
    for entry in check.gone:
        yield f"in the baseline and no longer found: {entry.finding} in {plain(entry.run)}"
    counts = [f"{len(check.of_level(level))} {level.value}" for level in Level if level is not Level.OFF]
    accepted = sum(concern.is_accepted for concern in check.concerns)
    yield f"policy {_OUTCOMES[int(check.status)]}: {', '.join(counts)}, {accepted} accepted"
    yield f"policy read from {plain(check.policy.source)}" if check.policy.source else "default policy"


def _shown(waiver: Waiver) -> str:
    return plain(f"{waiver.finding} in {', '.join(waiver.runs)} (until {waiver.until}: {waiver.reason})")


def as_json(check: Check) -> str:
    """For machines."""
    content = {
        "schema": SCHEMA,
        "version": check.audit.version,
        "outcome": _OUTCOMES[int(check.status)],
        "policy": check.policy.source,
        "concerns": [_concern(concern) for concern in by_level(check)],
        "unused_exceptions": [_waiver(waiver) for waiver in check.unused],
        "no_longer_found": [entry._asdict() for entry in check.gone],
    }
    return json.dumps(content, indent=2)


def _concern(concern: Concern) -> dict[str, Any]:
    finding = concern.finding
    return {
        "rule": concern.rule,
        "level": concern.level.value,
        "accepted": None if not concern.is_accepted else why_accepted(concern),
        "message": message(concern),
        "runs": [run.name for run in concern.runs],
        "paths": list(paths(concern)),
        "verdict": None if concern.diagnosis is None else concern.diagnosis.verdict.value,
        "probability": None if finding is None else round(finding.probability, 6),
        "exponents": None if finding is None else {"ga": finding.hypothesis.ga, "world_size": finding.hypothesis.world},
        "expired_exception": None if concern.expired is None else _waiver(concern.expired),
        "fingerprint": concern.fingerprint,
    }


def _waiver(waiver: Waiver) -> dict[str, Any]:
    return {
        "finding": waiver.finding,
        "runs": list(waiver.runs),
        "reason": waiver.reason,
        "until": waiver.until.isoformat(),
    }
