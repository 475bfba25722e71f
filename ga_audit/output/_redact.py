"""Names of people and machines that logs and this machine give away, to be taken out of what is posted."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ga_audit.run import Run, Setting

_HOME = re.compile(r"(?:^|[/\\])(?:home|Users|scratch|gscratch)[/\\]([^/\\\s\"']+)")
_EVENTS = re.compile(r"events\.out\.tfevents\.\d+\.([^/\s\"'`|]+?)(?:\.\d+)*(?:\.v2)?(?=[/\s\"'`|]|$)")
# the Trainer's own folder for TensorBoard: runs/Nov24_01-26-23_HOST
_LOGGING_DIR = re.compile(r"\b[A-Z][a-z]{2}\d{2}_\d{2}-\d{2}-\d{2}_([^/\\\s\"']+)")
_MAIL = re.compile(r"([A-Za-z0-9._%+-]+)@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
# as a name they tell nothing, and taking them out would take words out of the text
_PLAIN = frozenset({
    "root", "localhost", "local", "host", "home", "user", "users", "admin", "ubuntu", "runner", "docker", "jovyan", "none",
    "null", "data", "model", "models", "dataset", "datasets", "train", "eval", "test", "loss", "runs", "run", "shared",
    "work", "workspace", "the", "and", "ga-audit", "transformers", "trl", "axolotl", "llamafactory", "sample",
})  # fmt: skip


def names_in(runs: Sequence[Run]) -> tuple[str, ...]:
    """Hosts, users and e-mail names that these runs record: in W&B's metadata, in file names, in paths of settings."""
    found: dict[str, None] = {}
    for run in runs:
        for name in (*run.private, *_derived(run)):
            for part in _parts(name):
                found[part] = None
    return tuple(found)


def names_here() -> tuple[str, ...]:
    """The names of this machine and of who runs this."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    return tuple(part for name in (platform.node(), user) for part in _parts(name))


def _parts(name: str) -> Iterator[str]:
    """A name and what is left of it in other places: `box7` of `box7.lab.example`, `alice` of `alice@lab.example`."""
    for part in (name, name.partition("@")[0], name.partition(".")[0]):
        if len(part) > 2 and part.casefold() not in _PLAIN and not part.isdigit():
            yield part


def _derived(run: Run) -> Iterator[str]:
    for text in _texts(run):
        for pattern in (_HOME, _EVENTS, _LOGGING_DIR, _MAIL):
            yield from pattern.findall(text)


def _texts(run: Run) -> Iterator[str]:
    yield from (run.id, run.name, run.training)
    yield from (source.path for source in run.sources)
    yield from (series.source for series in run.series)
    s = run.settings
    for setting in (s.model, s.dataset, *s.packages.values(), *s.other.values()):
        if isinstance(setting, Setting):
            yield from _strings(setting.value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)
