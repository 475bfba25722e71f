"""What to do about a known bug, such that no other known bug is met by doing it.

An entry names the release that fixed it and what helps without an upgrade. Which of these releases have other bugs, the
catalogue knows itself: the advice leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ga_audit.bugs.catalogue import ORDINARY, Affected, Bug, Workaround, load
from ga_audit.bugs.conditions import condition
from ga_audit.bugs.releases import exactly, in_words, oldest, share, within
from ga_audit.run import Run


def may_hold(row: Affected, situation: Mapping[str, Any]) -> bool:
    """Whether a row is about runs of a situation: nothing contradicts it, and what it asks besides is nothing rare."""
    missing = set()
    for name, wanted in row.when.items():
        if name not in situation:
            missing.add(name)
        elif not (share(str(wanted), situation[name]) if name == "transformers" else situation[name] == wanted):
            return False
    return not missing or (row.is_window and missing <= ORDINARY)


def in_the_way(bug: Bug, package: str, releases: str, situation: Mapping[str, Any]) -> Iterator[tuple[Bug, Affected]]:
    """The rows of other bugs that a run of the situation meets in some of these releases."""
    for other in load():
        if other.package == package and other.id != bug.id:
            for row in other.affected:
                if share(row.releases, releases or ">=0") and may_hold(row, situation):
                    yield other, row


def advice(
    bug: Bug, rows: Sequence[Affected] = (), stack: Mapping[str, str] | None = None,
    known: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """What to do about a bug, in one sentence.

    Parameters
    ----------
    bug : the entry.
    rows : those of its rows that hold; all if none are given.
    stack : release of each package of the run; what does not help on these releases is left out.
    known : conditions of the run that are known, `{"deepspeed": False}`.
    """
    rows, stack, known = _plain(rows or bug.affected), stack or {}, known or {}
    parts = list(_upgrades(bug, rows, known))
    parts += _workarounds(bug, rows, stack, known, only=not parts)
    text = ", or ".join(parts) or "no fixed release is known"
    return f"{text[0].upper()}{text[1:]}.{f' {bug.caution}' if bug.caution else ''}"


def _plain(rows: Sequence[Affected]) -> Sequence[Affected]:
    """The rows that ask nothing about ranks, where there are such: the others add a factor to the same bug."""
    return [row for row in rows if not _RANKS & row.when.keys()] or rows


_RANKS = {"average_tokens_across_devices", "multi_rank", "data_parallel"}


def _upgrades(bug: Bug, rows: Sequence[Affected], known: Mapping[str, Any]) -> Iterator[str]:
    if bug.upgrade is not None:
        situations = [{**known, **row.when} for row in rows]
        target = _without(bug, bug.package, [(bug.upgrade, situation) for situation in situations])
        yield f"upgrade {bug.package} to {in_words(bug.upgrade)}{target}"


def _workarounds(
    bug: Bug,
    rows: Sequence[Affected],
    stack: Mapping[str, str],
    known: Mapping[str, Any],
    *,
    only: bool,
) -> Iterator[str]:
    """What helps; `only`: where nothing else does, also the releases to go to first."""
    for way in bug.workarounds:
        after = [(row, found) for row in rows if (found := way.after(row, known)) is not None]
        if not after:
            continue
        if way.leads_to is not None:
            package, releases = way.leads_to
            yield way.text + _without(bug, package, [(releases, situation) for _, situation in after])
            continue
        own = way.package == bug.package
        places = [(way.works_in or (row.releases if own else ""), situation) for row, situation in after]
        target = f"{in_words(way.works_in) if way.works_in else ''}{_without(bug, way.package, places)}"
        release = stack.get(way.package)
        if release is None:
            yield (f"{way.text}, with {way.package} {target.removeprefix(', ')}" if target else way.text)
        elif helps(bug, way, release, [situation for _, situation in after]):
            yield way.text
        elif only:
            yield f"use {way.package} {target.removeprefix(', ')}, then {way.text}"


def helps(bug: Bug, way: Workaround, release: str, situations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a workaround works on a release of its package, and meets no other bug there."""
    if way.works_in and not within(way.works_in, release):
        return False
    alone = exactly(release)
    return alone is not None and not _without(bug, way.package, [(alone, situation) for situation in situations])


def _without(bug: Bug, package: str, places: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Which of these releases to leave out, for a sentence: bugs that have an end, the oldest first."""
    found: dict[str, dict[str, None]] = {}
    for releases, situation in places:
        for other, row in in_the_way(bug, package, releases, situation):
            if row.is_window:
                found.setdefault(row.releases, {})[other.id] = None
    told = " or ".join(f"{in_words(text)} ({', '.join(found[text])})" for text in sorted(found, key=oldest))
    return f", but not {told}" if told else ""


def fix_for(bug: Bug, rows: Sequence[Affected], runs: Sequence[Run]) -> str:
    """What to do about a bug on the releases of these runs: what does not help on them is left out."""
    held: dict[str, set[str]] = {}
    for run in runs:
        for name, setting in run.settings.packages.items():
            held.setdefault(name, set()).add(setting.value)
    stack = {name: next(iter(releases)) for name, releases in held.items() if len(releases) == 1}
    deepspeed = condition("deepspeed", True, runs)
    return advice(bug, rows, stack, {} if deepspeed is None else {"deepspeed": deepspeed})
