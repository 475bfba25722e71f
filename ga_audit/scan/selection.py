"""Which of many runs the user wants: since when, with which tag, with which settings.

A W&B server is asked for them; logs on disk are read and then held against the conditions.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ga_audit.errors import WrongUsage
from ga_audit.logs import roles
from ga_audit.run import Run, Schedule

_SIGNS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "!=": ("$ne", operator.ne), ">=": ("$gte", operator.ge), "<=": ("$lte", operator.le),
    "=": ("$eq", operator.eq), ">": ("$gt", operator.gt), "<": ("$lt", operator.lt),
}  # fmt: skip
_CONDITION = re.compile(r"\s*([^\s=<>!][^=<>!]*?)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*$")
_AGE = re.compile(r"(\d+)([hdw])$")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
# what the server knows of a run besides its configuration
_OF_THE_RUN = {
    "state": "state", "group": "group", "name": "displayName", "display_name": "displayName", "user": "username",
    "username": "username", "job_type": "jobType", "sweep": "sweep", "host": "host",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """KEY, a sign of comparison, and a JSON value."""

    key: str
    sign: str
    value: Any


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that all must hold; empty = every run."""

    since: datetime | None = None
    tags: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = field(default=())

    def for_server(self) -> dict[str, Any]:
        """The conditions as W&B takes them."""
        parts: list[dict[str, Any]] = []
        if self.since is not None:
            parts.append({"createdAt": {"$gte": self.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}})
        parts += [{"tags": {"$in": [tag]}} for tag in self.tags]
        for c in self.conditions:
            known = c.key.startswith(("config.", "summary_metrics."))
            key = _OF_THE_RUN.get(c.key, c.key if known else f"config.{c.key}")
            parts.append({key: {_SIGNS[c.sign][0]: c.value}})
        return {"$and": parts} if parts else {}

    def check(self, runs: Sequence[Run]) -> None:
        """Refuse a condition on a setting that no run has; of those of a server the server has chosen.

        Raises
        ------
        WrongUsage
            with the settings that there are.
        """
        if not runs or any(source.format == "wandb_cloud" for run in runs for source in run.sources):
            return
        for condition in self.conditions:
            # what is not set differs from any value
            if condition.sign != "!=" and all(
                _setting(run, condition.key.removeprefix("config.")) is None for run in runs
            ):
                known = sorted({name for run in runs for name in _names(run)})
                message = f"--filter {condition.key}: no run has such a setting"
                raise WrongUsage(message, remedy=f"The settings are: {', '.join(known)}.")

    def fits(self, run: Run) -> bool:
        """Whether a run that was read from disk fits.

        Raises
        ------
        WrongUsage
            tags are asked for, which only a server tells.
        """
        if any(source.format == "wandb_cloud" for source in run.sources):
            return True  # the server has chosen
        if self.tags:
            raise WrongUsage(
                "only runs of a W&B server have tags", where=run.name, remedy="Leave --tag, or use --filter."
            )
        if self.since is not None and not any(_changed(source.path) >= self.since for source in run.sources):
            return False
        return all(_holds(condition, run) for condition in self.conditions)


def parse_since(text: str) -> datetime:
    """`2026-11-01`, `2026-11-01T12:00`, or an age as `7d`, `12h`, `2w`.

    Raises
    ------
    ValueError
        it is neither.
    """
    if age := _AGE.match(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.astimezone()


def parse_condition(text: str) -> Condition:
    """`learning_rate=1e-4`, `state=finished`, `gradient_accumulation_steps>1`.

    Raises
    ------
    ValueError
        there is no key or no sign.
    """
    found = _CONDITION.match(text)
    if found is None:
        raise ValueError(text)
    key, sign, value = found.groups()
    try:
        return Condition(key, sign, json.loads(value))
    except ValueError:
        return Condition(key, sign, value)


def _changed(path: str) -> datetime:
    try:
        return datetime.fromtimestamp(Path(path).stat().st_mtime, UTC)
    except OSError:
        return datetime.max.replace(tzinfo=UTC)  # standard input is of now


def _holds(condition: Condition, run: Run) -> bool:
    value = _setting(run, condition.key.removeprefix("config."))
    if value is None:
        return condition.sign == "!="
    try:
        return bool(_SIGNS[condition.sign][1](value, condition.value))
    except TypeError:
        return False  # a text is neither more nor less than a number


def _names(run: Run) -> Iterator[str]:
    yield "name"
    yield from (name for name in roles.CONFIG_KEYS if getattr(run.settings, name) is not None)
    yield from run.settings.other
    yield from run.settings.packages


def _setting(run: Run, key: str) -> Any:
    if key in {"name", "display_name"}:
        return run.name
    key = next((name for name, keys in roles.CONFIG_KEYS.items() if key in keys), key)
    setting = getattr(run.settings, key, None) or run.settings.other.get(key) or run.settings.packages.get(key)
    value = getattr(setting, "value", None)
    return value.first if isinstance(value, Schedule) else value
