"""Which event files of one folder are sessions of one training, and which begin another.

A resumed training goes on from a checkpoint; a reused `--logging_dir` begins again at the first step. The
processes of one job begin at the same step too, but at the same time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Protocol

from ga_audit.logs import roles
from ga_audit.logs.formats._tensorboard.tfrecord import Damage, mapped, records
from ga_audit.run import Role, RunSettings

_WALL_TIME = struct.Struct("<d")
_TRAINED = frozenset({Role.LOSS, Role.GRAD_NORM, Role.LEARNING_RATE})


class Steps(Sized, Protocol):
    """The points of one tag."""

    @property
    def step(self) -> Sequence[int]:
        """Steps in the order of the file."""


class Session(Protocol):
    """What was read from one event file."""

    @property
    def points(self) -> Mapping[str, Steps]:
        """Points by tag."""

    @property
    def settings(self) -> RunSettings:
        """What the file says of the training."""


def numbers(files: Sequence[tuple[Path, Session]]) -> list[int]:
    """The number of the training, from 0, of each file in the order in which they were opened."""
    found: list[int] = []
    firsts: dict[str, int] = {}  # first step by tag, of the training so far
    last_file: Path | None = None
    for file, session in files:
        own = {
            tag: min(points.step)
            for tag, points in session.points.items()
            if len(points) and roles.role_of(tag) in _TRAINED
        }
        number = found[-1] if found else 0
        if last_file is not None and _begins_again(firsts, own) and _is_later(last_file, file):
            number += 1
            firsts = {}
        firsts = {**own, **firsts}
        if own:
            last_file = file
        found.append(number)
    return found


def _begins_again(firsts: Mapping[str, int], own: Mapping[str, int]) -> bool:
    common = firsts.keys() & own.keys()
    return bool(common) and all(own[tag] <= firsts[tag] for tag in common)


def _is_later(one: Path, two: Path) -> bool:
    """Whether the second file was begun when the last event of the first was written; True where it cannot be known."""
    ends, begins = _span(one)[1], _span(two)[0]
    return ends is None or begins is None or begins >= ends


def _span(file: Path) -> tuple[float | None, float | None]:
    """Wall times of the first and the last event."""
    first: float | None = None
    last: float | None = None
    try:
        with mapped(file) as data:
            for _, _, payload in records(data, Damage()):
                if len(payload) >= 9 and payload[0] == 0x09:
                    last = _WALL_TIME.unpack_from(payload, 1)[0]
                    first = last if first is None else first
    except OSError:
        return None, None
    return first, last
