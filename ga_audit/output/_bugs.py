"""Entries of the bug catalogue as text, Markdown and JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ga_audit.bugs.catalogue import Affected, Bug, Verified
from ga_audit.bugs.coverage import Coverage
from ga_audit.output.wording import bugs as wording

_HOW = {
    Verified.RUN: "by running the releases",
    Verified.SOURCE: "in the released source",
    Verified.SAID: "as reported, not checked",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A bug, the rows of it that are asked about, and what to do there."""

    bug: Bug
    rows: Sequence[Affected]
    fix: str


def as_list(entries: Sequence[Entry]) -> str:
    """One line for each bug."""
    width = max((len(entry.bug.package) for entry in entries), default=0)
    return "\n".join(f"{e.bug.id}  {e.bug.package:<{width}}  {e.bug.title}" for e in entries)


def as_text(entries: Sequence[Entry]) -> str:
    """Each bug in full."""
    return "\n\n".join(map(_text, entries))


def _text(entry: Entry) -> str:
    bug = entry.bug
    lines = [f"{bug.id}  {bug.package}: {bug.title}"]
    for row in entry.rows:
        lines.append(f"  {wording.place(row)}")
        lines.append(f"    {wording.signature(row)}")
    lines += _wrapped("eval loss", "affected" if bug.eval_loss_affected else "not affected")
    if bug.fixed_in and bug.fixed_in not in entry.fix:  # the advice names a later release
        lines += _wrapped("fixed in", bug.fixed_in)
    lines += _wrapped("fix", entry.fix) + _wrapped("retrain?", wording.RETRAIN[bug.retrain])
    lines += _wrapped("verified", f"{_HOW[bug.verified]}. {bug.verified_note}")
    lines += [f"  {kind:<9} {url}" for kind, url in bug.references]
    return "\n".join(lines)


def _wrapped(label: str, text: str) -> list[str]:
    start = f"  {label:<9} "
    return textwrap.wrap(text, 100, initial_indent=start, subsequent_indent=" " * 12)


def as_markdown(entries: Sequence[Entry]) -> str:
    """Each bug in full, as Markdown."""
    return "\n\n".join(map(_markdown, entries))


def _markdown(entry: Entry) -> str:
    bug = entry.bug
    lines = [
        f"### {bug.id}: {bug.title}",
        "",
        f"| {bug.package} releases and conditions | effect |",
        "|---|---|",
    ]
    lines += [f"| {wording.place(row)} | {wording.signature(row)} |" for row in entry.rows]
    lines += ["", f"Fix: {entry.fix} Retrain? {wording.RETRAIN[bug.retrain]}", ""]
    lines += [f"- {kind}: {url}" for kind, url in bug.references]
    return "\n".join(lines)


def as_json(entries: Sequence[Entry], looked_up: Sequence[Coverage] = ()) -> str:
    """Bugs, and what is known of the releases that were looked up, as JSON."""
    stack = [
        {
            "package": one.package,
            "release": one.release,
            "measured": one.measured,
            "unknown": wording.why_unknown(one),
        }
        for one in looked_up
    ]
    found = {"schema": "ga-audit-bugs/1", "bugs": list(map(_entry, entries)), "stack": stack}
    return json.dumps(found, indent=2)


def _entry(entry: Entry) -> dict[str, object]:
    bug = entry.bug
    return {
        "id": bug.id,
        "title": bug.title,
        "package": bug.package,
        "eval_loss_affected": bug.eval_loss_affected,
        "affected": [
            {"releases": row.releases, "when": dict(row.when), "signature": _exponents(row)} for row in entry.rows
        ],
        "fixed_in": bug.fixed_in,
        "fix": entry.fix,
        "retrain": wording.RETRAIN[bug.retrain],
        "retrain_code": bug.retrain.value,
        "verified": {"how": bug.verified.value, "note": bug.verified_note},
        "references": [{"type": kind, "url": url} for kind, url in bug.references],
    }


def _exponents(row: Affected) -> dict[str, object]:
    found = {name: getattr(row.signature, name) for name in ("loss", "grad_norm", "gradient")}
    return {name: None if e is None else {"ga": e[0], "world": e[1]} for name, e in found.items()}
