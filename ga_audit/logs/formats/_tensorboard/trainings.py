"""Which event files of one folder are sessions of one training, and which begin another.

A resumed training goes on from a checkpoint; a reused `--logging_dir` begins again at the first step. The
processes of one job begin at the same step too, but at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Protocol

from ga_audit.logs import roles
from ga_audit.run import Role, RunSettings

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
    def span(self) -> tuple[float, float] | None:
        """Wall times of the first and the last point."""

    @property
    def settings(self) -> RunSettings:
        """What the file says of the training."""


def numbers(files: Sequence[Session]) -> list[int]:
    """The number of the training, from 0, of each file in the order in which they were opened."""
    found: list[int] = []
    firsts: dict[str, int] = {}  # first step by tag, of the training so far
    last: Session | None = None
    for session in files:
        own = {
            tag: min(points.step)
            for tag, points in session.points.items()
            if len(points) and roles.role_of(tag) in _TRAINED
        }
        number = found[-1] if found else 0
        if last is not None and _begins_again(firsts, own) and _is_later(last, session):
            number += 1
            firsts = {}
        firsts = {**own, **firsts}
        if own:
            last = session
        found.append(number)
    return found


def _begins_again(firsts: Mapping[str, int], own: Mapping[str, int]) -> bool:
    common = firsts.keys() & own.keys()
    return bool(common) and all(own[tag] <= firsts[tag] for tag in common)


def _is_later(one: Session, two: Session) -> bool:
    """Whether the second file begins after the last point of the first; True where it cannot be known."""
    first, second = one.span, two.span
    return first is None or second is None or second[0] >= first[1]
