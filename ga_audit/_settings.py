"""Settings as the user writes them: plain values, and a schedule for a GA that changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ga_audit.errors import WrongUsage

IntArray = NDArray[np.int64]


class PlainSettings(TypedDict, total=False):
    """Settings of a run as plain values."""

    micro_batch_size: int
    world_size: int
    seed: int
    learning_rate: float
    max_grad_norm: float
    optimizer: str
    model: str
    dataset: str
    packages: Mapping[str, str]  # name -> release


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """A setting that may change in mid-run (GA after a resume)."""

    from_step: IntArray  # (k,), ascending, first 0
    value: IntArray  # (k,)

    @classmethod
    def constant(cls, value: int) -> Schedule:
        """The same value from the first step on."""
        return cls(np.zeros(1, np.int64), np.array([value], np.int64))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """`8`, or `2,8@500`: 2 to begin with, 8 from optimizer step 500 on.

        Raises
        ------
        ValueError
            another form, a value below 1, or steps that do not ascend.
        """
        first, *later = text.split(",")
        pairs = [(0, int(first))]
        for part in later:
            value, sign, step = part.partition("@")
            if not sign:
                raise ValueError(f"{part!r} is not N@STEP")
            pairs.append((int(step), int(value)))
        steps, values = zip(*pairs, strict=True)
        if min(values) < 1 or any(a >= b for a, b in pairwise(steps)):
            raise ValueError("values are positive and steps ascend")
        return cls(np.array(steps, np.int64), np.array(values, np.int64))

    def at(self, step: IntArray) -> IntArray:
        """Value in force at each optimizer step (n,) -> (n,)."""
        index = np.searchsorted(self.from_step, step, side="right") - 1
        return self.value[np.maximum(index, 0)]

    @property
    def is_constant(self) -> bool:
        """Whether one value holds throughout."""
        return bool(np.all(self.value == self.value[0]))

    @property
    def first(self) -> int:
        """The value at the first step."""
        return int(self.value[0])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Schedule)
            and np.array_equal(self.from_step, other.from_step)
            and np.array_equal(self.value, other.value)
        )

    def __hash__(self) -> int:
        return hash((self.from_step.tobytes(), self.value.tobytes()))

    def __str__(self) -> str:
        if self.is_constant:
            return str(self.first)
        return ", ".join(f"{v} from step {s}" for s, v in zip(self.from_step, self.value, strict=True))


def schedule(ga: int | str | Schedule | None) -> Schedule | None:
    """The GA of a run as the user writes it; None stays None.

    Raises
    ------
    WrongUsage
        Neither a positive whole number nor a schedule.
    """
    if ga is None or isinstance(ga, Schedule):
        return ga
    try:
        return Schedule.parse(str(ga))
    except ValueError as error:
        remedy = 'Write 8, or "2,8@500" for a GA that changes from 2 to 8 at step 500.'
        raise WrongUsage(f"ga={ga!r} is not a GA: {error}", remedy=remedy) from error
