"""The policy of a project: a level for each rule, expected exponents, exceptions with an expiry date."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from ga_audit.errors import WrongUsage
from ga_audit.finding import HEALTHY, NAMED
from ga_audit.run import Role, Schedule


class Level(StrEnum):
    """What a concern does to the exit status."""

    ERROR = "error"  # 1: the policy is violated
    WARNING = "warning"  # 0, and it is shown
    UNDECIDED = "undecided"  # 3: could not be judged
    OFF = "off"  # 0, and it is not shown


ROLES = (Role.LOSS, Role.GRAD_NORM)
FINDINGS = tuple(
    f"{role.value.replace('_', '-')}-{hypothesis.name}"
    for role in ROLES
    for hypothesis in NAMED
    if hypothesis != HEALTHY
)
# rules about what could not be judged; only these may be `undecided`
OPEN_RULES = (
    "inconclusive",
    "unknown-ga",
    "unreadable-log",
    "nothing-judged",
    "possible-bug",
    "unmeasured-release",
)
DEFAULTS: Mapping[str, Level] = {
    "scaled": Level.ERROR,
    "healthy": Level.OFF,
    "unexpected-exponent": Level.ERROR,
    "known-bug": Level.ERROR,
    **dict.fromkeys(OPEN_RULES, Level.UNDECIDED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """An exception: findings that are accepted until a day, and why."""

    finding: str  # id of a finding or a glob
    reason: str
    until: date  # the last day on which it holds
    runs: tuple[str, ...] = ("*",)  # globs; of names, ids or paths of runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a project allows."""

    source: str | None = None  # the file it was read from
    levels: Mapping[str, Level] = field(default_factory=dict)  # rule or glob of findings -> level
    expected: Mapping[Role, tuple[float, float]] = field(default_factory=dict)  # on GA, world size
    exceptions: tuple[Waiver, ...] = ()
    paths: tuple[str, ...] = ()
    baseline: str | None = None
    run: str | None = None  # a command that writes the logs
    repro: str | None = None  # arguments of `ga-audit repro`
    ga: Mapping[str, Schedule] = field(default_factory=dict)
    world_size: Mapping[str, int] = field(default_factory=dict)
    stack: Mapping[str, Any] = field(default_factory=dict)  # facts for `--before-train`

    def level(self, *rules: str) -> Level:
        """The level of the first of the rules, from special to general, that the policy names.

        An id goes before a glob; of globs the last counts.
        """
        for rule in rules:
            if rule in self.levels:
                return self.levels[rule]
            globs = [level for name, level in self.levels.items() if fnmatchcase(rule, name)]
            if globs:
                return globs[-1]
        return next(DEFAULTS[rule] for rule in rules if rule in DEFAULTS)


_KEYS = (
    "paths",
    "baseline",
    "run",
    "repro",
    "ga",
    "world_size",
    "levels",
    "expected",
    "exceptions",
    "stack",
)
_STACK_KEYS = ("model", "deepspeed", "world_size", "label_smoothing", "stock_trainer")
_WAIVER_KEYS = ("finding", "runs", "reason", "until")


def parse(content: Mapping[str, Any], source: str, *, bugs: Iterable[str] = ()) -> Policy:
    """The policy of a table of TOML.

    Parameters
    ----------
    content : what stands in `ga-audit.toml`, or below `[tool.ga-audit]`.
    source : the file, for messages.
    bugs : ids of known bugs, which may have levels too.

    Raises
    ------
    WrongUsage
        a key, rule or level that does not exist, or a value of another kind.
    """
    place = _Place(source)
    place.check_keys(content, _KEYS)
    return Policy(
        source=source,
        levels=_levels(place, place.table(content, "levels"), tuple(bugs)),
        expected=_expected(place, place.table(content, "expected")),
        exceptions=_exceptions(place, content.get("exceptions", [])),
        paths=place.texts("paths", content.get("paths", [])),
        baseline=place.text(content, "baseline"),
        run=place.text(content, "run"),
        repro=place.text(content, "repro"),
        ga=_schedules(place, content.get("ga", {})),
        world_size=_world_sizes(place, content.get("world_size", {})),
        stack=_stack(place, place.table(content, "stack")),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a file a value stands: makes the errors."""

    source: str

    def wrong(self, message: str, remedy: str) -> WrongUsage:
        return WrongUsage(message, where=self.source, remedy=remedy)

    def check_keys(self, table: Mapping[str, Any], known: Iterable[str], inside: str = "") -> None:
        for key in table:
            self.check_name(key, known, f"{inside}{key} is no setting of a policy", "The settings are")

    def check_name(self, name: str, known: Iterable[str], message: str, there_are: str) -> None:
        known = tuple(known)
        if name in known:
            return
        near = difflib.get_close_matches(name, known, 1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise self.wrong(message, f"{meant}{there_are}: {', '.join(known)}.")

    def table(self, content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        value = content.get(key, {})
        if not isinstance(value, Mapping):
            raise self.wrong(f"{key} is not a table", f"Write [{key}], or {key} = {{ ... }}.")
        return value

    def text(self, content: Mapping[str, Any], key: str) -> str | None:
        value = content.get(key)
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise self.wrong(f"{key} is not a text", f'Write {key} = "...".')
        return value

    def texts(self, key: str, value: Any) -> tuple[str, ...]:
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise self.wrong(f"{key} is not a list of texts", f'Write {key} = ["...", "..."].')
        return tuple(value)


def _levels(place: _Place, table: Mapping[str, Any], bugs: tuple[str, ...]) -> dict[str, Level]:
    rules = (*DEFAULTS, *FINDINGS, *bugs)
    levels = {}
    for rule, value in table.items():
        if not any(fnmatchcase(known, rule) for known in rules):
            shown = (*DEFAULTS, *FINDINGS)
            place.check_name(rule, shown, f"levels: there is no rule {rule}", "The rules are")
        is_open = all(known in (*OPEN_RULES, *bugs) for known in rules if fnmatchcase(known, rule))
        known_levels = [level.value for level in Level if is_open or level is not Level.UNDECIDED]
        message = f"levels: {rule} = {value!r} is no level of this rule"
        if not isinstance(value, str):
            raise place.wrong(message, f"The levels are: {', '.join(known_levels)}.")
        place.check_name(value, known_levels, message, "The levels are")
        levels[rule] = Level(value)
    return levels


def _expected(place: _Place, table: Mapping[str, Any]) -> dict[Role, tuple[float, float]]:
    place.check_keys(table, [role.value for role in ROLES], "expected.")
    found = {}
    for name, value in table.items():
        given = {"ga": value} if not isinstance(value, Mapping) else value
        place.check_keys(given, ("ga", "world_size"), f"expected.{name}.")
        for number in given.values():
            if isinstance(number, bool) or not isinstance(number, int | float):
                message = f"expected.{name}: {number!r} is not an exponent"
                raise place.wrong(message, "Write 0 for right, 1 for summed, -1 for divided twice.")
        found[Role(name)] = (float(given.get("ga", 0)), float(given.get("world_size", 0)))
    return found


def _exceptions(place: _Place, entries: Any) -> tuple[Waiver, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise place.wrong("exceptions is not a list of tables", "Write [[exceptions]] for each.")
    return tuple(_exception(place, entry) for entry in entries)


def _exception(place: _Place, entry: Mapping[str, Any]) -> Waiver:
    place.check_keys(entry, _WAIVER_KEYS, "exceptions.")
    for key in ("finding", "reason"):
        if place.text(entry, key) is None:
            raise place.wrong(f"an exception has no {key}", "Each needs finding, reason and until.")
    finding = entry["finding"]
    if not any(fnmatchcase(known, finding) for known in FINDINGS):
        message = f"exceptions: there is no finding {finding}"
        place.check_name(finding, FINDINGS, message, "The findings are")
    return Waiver(
        finding=finding,
        reason=entry["reason"],
        until=_day(place, entry.get("until")),
        runs=place.texts("exceptions.runs", entry.get("runs", ["*"])),
    )


def _day(place: _Place, value: Any) -> date:
    if type(value) is date:
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        message = f"exceptions: until = {value} is not a date" if value else "an exception has no until"
        raise place.wrong(message, "Write the last day on which it holds: until = 2027-01-31.") from None


def _schedules(place: _Place, value: Any) -> dict[str, Schedule]:
    given = value if isinstance(value, Mapping) else {"*": value}
    found = {}
    for name, text in given.items():
        try:
            if isinstance(text, bool):
                raise ValueError(text)
            found[name] = Schedule.parse(str(text))
        except (ValueError, OverflowError):
            message = f"ga: {text!r} is not a number of micro-batches"
            raise place.wrong(message, 'Write e.g. ga = 8, or ga = { "runs/a" = 2, b = "2,8@500" }.') from None
    return found


def _world_sizes(place: _Place, value: Any) -> dict[str, int]:
    given = value if isinstance(value, Mapping) else {"*": value}
    for number in given.values():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            message = f"world_size: {number!r} is not a number of ranks"
            raise place.wrong(message, "Write e.g. world_size = 8.")
    return dict(given)


def _stack(place: _Place, table: Mapping[str, Any]) -> Mapping[str, Any]:
    place.check_keys(table, _STACK_KEYS, "stack.")
    for key, value in table.items():
        if key == "model":
            fits, words = isinstance(value, str) and bool(value), "a text"
        elif key == "world_size":
            fits, words = type(value) is int and value >= 1, "a positive whole number"
        else:
            fits, words = isinstance(value, bool), "true or false"
        if not fits:
            raise place.wrong(f"stack.{key} = {value!r} is not {words}", f"Write {words}.")
    return dict(table)
