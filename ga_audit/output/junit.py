"""JUnit XML: a test case for each group of runs and each log, for the test pages of CI systems."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ga_audit.check.concerns import Check, Concern
from ga_audit.check.policy import Level
from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.output._concerns import by_level, checked, message, paths, run_names, why_accepted
from ga_audit.output._safe import plain, short

SUFFIX = ".xml"
_WIDTH = 120


def render(audit: Audit, *, check: Check | None = None, **_: object) -> str:
    """The check as JUnit XML; without `check`, of the default policy.

    An error of the policy is a `failure`, what could not be judged an `error`, what is accepted `skipped`.
    """
    found = checked(audit, check)
    suite = Element("testsuite", name="ga-audit")
    for diagnosis in audit.diagnoses:
        concerns = [c for c in by_level(found) if c.diagnosis is diagnosis]
        _case(suite, "runs", _name_of(diagnosis), concerns)
    for concern in found.concerns:
        if concern.diagnosis is None:
            kind = "stack" if concern.stack is not None else "logs"
            _case(suite, kind, _name(concern), [concern])
    counts = {tag: len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error", "skipped")}
    suite.attrib |= {
        "tests": str(len(suite)),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        "skipped": str(counts["skipped"]),
    }
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode")


def _case(suite: Element, kind: str, name: str, concerns: list[Concern]) -> None:
    """One test case; of several concerns the worst decides and all are in its text."""
    case = SubElement(suite, "testcase", classname=f"ga-audit.{kind}", name=short(plain(name), _WIDTH))
    counting = [c for c in concerns if not c.is_accepted]
    lines = [f"{c.level.value}: {c.rule}: {message(c)}" for c in counting]
    tags = {Level.ERROR: "failure", Level.UNDECIDED: "error"}
    worst = next((c for level in tags for c in counting if c.level is level), None)
    if worst is not None:
        child = SubElement(case, tags[worst.level], type=worst.rule, message=message(worst))
        child.text = "\n".join(lines)
    elif accepted := [c for c in concerns if c.is_accepted]:
        SubElement(case, "skipped", message=f"{accepted[0].rule}: {why_accepted(accepted[0])}")
    elif lines:
        SubElement(case, "system-out").text = "\n".join(lines)


def _name_of(diagnosis: Diagnosis) -> str:
    return ", ".join(run.name for run in diagnosis.runs).replace("\n", " ")


def _name(concern: Concern) -> str:
    if concern.stack is not None:
        return f"{concern.stack.package} {concern.stack.release}: {concern.rule}"
    return run_names(concern) or ", ".join(paths(concern)) or concern.rule
