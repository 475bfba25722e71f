"""SARIF 2.1.0: for code scanning."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from ga_audit.check.concerns import Check, Concern
from ga_audit.check.policy import Level
from ga_audit.conclusion import Audit
from ga_audit.finding import Verdict
from ga_audit.output._concerns import by_level, checked, message, paths, run_names

SUFFIX = ".sarif"
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_HOME = "https://github.com/ga-audit/ga-audit"
_RULES = {
    "scaled": "Loss or grad_norm is scaled.",
    "healthy": "Loss and grad_norm do not depend on gradient accumulation.",
    "inconclusive": "The logs do not decide.",
    "unknown-ga": "gradient_accumulation_steps of a run is unknown.",
    "unreadable-log": "A log could not be read.",
    "nothing-judged": "No run could be judged.",
    "unexpected-exponent": "A quantity does not scale as the policy expects.",
    "unmeasured-release": "Nothing is known of an installed release.",
}


def render(audit: Audit, *, check: Check | None = None, **_: object) -> str:
    """The concerns of a check as SARIF; without `check`, those of the default policy."""
    found = checked(audit, check)
    concerns = by_level(found)
    rules = sorted({concern.rule for concern in concerns})
    unread = [c for c in concerns if c.failure is not None]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "ga-audit",
                "version": audit.version,
                "informationUri": _HOME,
                "rules": [_rule(rule, concerns) for rule in rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "exitCode": int(found.status),
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": message(concern)}} for concern in unread
                ],
            }
        ],
        "results": [_result(concern, rules) for concern in concerns],
    }
    content = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(content, indent=2)


def _rule(rule: str, concerns: tuple[Concern, ...]) -> dict[str, Any]:
    stack = next((c.stack for c in concerns if c.rule == rule and c.stack is not None), None)
    if stack is not None and stack.bug is not None:
        entry: dict[str, Any] = {"id": rule, "shortDescription": {"text": stack.bug.title}}
        if stack.bug.references:
            entry["helpUri"] = stack.bug.references[0][1]
        return entry
    quantity, _, what = rule.replace("grad-norm", "grad_norm").partition("-")
    text = _RULES.get(rule) or f"Logged {quantity} is {what.replace('-', ' ')}."
    return {"id": rule, "shortDescription": {"text": text}}


def _result(concern: Concern, rules: list[str]) -> dict[str, Any]:
    names = run_names(concern)
    text = f"{message(concern)} Runs: {names}." if names else message(concern)
    # of any other kind than `fail` the specification allows the level `none` alone
    kind, level = ("open", "none") if concern.level is Level.UNDECIDED else ("fail", concern.level.value)
    result: dict[str, Any] = {
        "ruleId": concern.rule,
        "ruleIndex": rules.index(concern.rule),
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": [_location(path) for path in paths(concern)],
        "partialFingerprints": {"gaAudit/v1": concern.fingerprint},
    }
    if concern.diagnosis is not None:
        verdict: Verdict = concern.diagnosis.verdict
        result["properties"] = {"verdict": verdict.value}
        if concern.finding is not None:
            result["properties"]["probability"] = round(concern.finding.probability, 6)
    if concern.waiver is not None:
        reason = concern.waiver.reason
        accepted = {"kind": "external", "status": "accepted", "justification": reason}
        result["suppressions"] = [accepted]
    if concern.finding is not None:
        result["baselineState"] = "unchanged" if concern.in_baseline else "new"
    return result


def _location(path: str) -> dict[str, Any]:
    # bytes of a file name that are not UTF-8 are percent-encoded as they are
    uri = quote(path.encode("utf-8", "surrogateescape"))
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri if not path.startswith("/") else f"file://{uri}"},
            "region": {"startLine": 1},
        }
    }
