"""GitHub Actions: workflow commands that become annotations, and a job summary."""

from __future__ import annotations

from collections.abc import Iterator

from ga_audit.check.concerns import Check, Concern
from ga_audit.check.policy import Level
from ga_audit.conclusion import Audit
from ga_audit.output._concerns import by_level, checked, message, paths, run_names, why_accepted
from ga_audit.output._safe import cell

SUFFIX = ".txt"
_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.UNDECIDED: "warning"}
_MAX_ROWS = 200


def render(audit: Audit, *, check: Check | None = None, **_: object) -> str:
    """A workflow command a line for each concern; without `check`, those of the default policy."""
    found = checked(audit, check)
    lines = [_command(concern) for concern in by_level(found)]
    return "\n".join(lines) or "::notice title=ga-audit::No concern."


def _command(concern: Concern) -> str:
    command = "notice" if concern.is_accepted else _COMMANDS[concern.level]
    properties = {"title": f"ga-audit: {concern.rule}"}
    if files := paths(concern):
        properties = {"file": files[0], "line": "1", **properties}
    shown = ",".join(f"{name}={_escape_property(value)}" for name, value in properties.items())
    parts = [message(concern), _runs(concern), why_accepted(concern)]
    return f"::{command} {shown}::{_escape(' '.join(filter(None, parts)))}"


def _runs(concern: Concern) -> str:
    names = run_names(concern)
    return f"Runs: {names}." if names else ""


def _escape(text: str) -> str:
    """The message of a command: it ends with the line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return _escape(text).replace(":", "%3A").replace(",", "%2C")


def summary(audit: Audit, *, check: Check | None = None) -> str:
    """The check as Markdown, for `$GITHUB_STEP_SUMMARY`; without `check`, of the default policy."""
    return "\n".join(_summary(checked(audit, check))) + "\n"


def _summary(check: Check) -> Iterator[str]:
    outcome = {0: "met", 1: "violated", 3: "not decided"}[int(check.status)]
    yield f"### ga-audit: policy {outcome}"
    yield ""
    concerns = by_level(check)
    if not concerns:
        yield "No concern."
        return
    yield "| level | rule | runs | what |"
    yield "|---|---|---|---|"
    for concern in concerns[:_MAX_ROWS]:
        level = "accepted" if concern.is_accepted else concern.level.value
        what = " ".join(filter(None, (message(concern), why_accepted(concern))))
        yield f"| {level} | {cell(concern.rule)} | {cell(run_names(concern))} | {cell(what)} |"
    if len(concerns) > _MAX_ROWS:
        yield f"| ... and {len(concerns) - _MAX_ROWS} more | | | |"
