"""Rows of named numbers -> the series of a run; shared by the formats that hold rows."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from ga_audit.errors import NoTrainingSeries
from ga_audit.logs import role_choice, roles, settings
from ga_audit.logs.formats import Target, _values
from ga_audit.logs.formats._values import MOST_STEPS as MOST_STEPS
from ga_audit.logs.formats._values import number as number_of
from ga_audit.run import Counted, Fact, FloatArray, IntArray, Note, NoteCode, Role, RunSettings, Series
from ga_audit.stats.arrays import median

NO_STEP = -(1 << 63)  # a point whose row has no step


@dataclass(slots=True)
class Points:
    """The points of one name, as they come; 16 bytes each."""

    step: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def append(self, step: int | None, value: float) -> None:
        """Keep a point; steps beyond 64 bits are no steps."""
        self.step.append(step if step is not None and -(1 << 62) < step < 1 << 62 else NO_STEP)
        self.value.append(value)

    def extend(self, step: IntArray, value: FloatArray) -> None:
        """Keep points (n,) as `append` does."""
        limit = np.int64(1 << 62)
        if len(step) and not (step.max() < limit and step.min() > -limit):
            step = np.where((step > -limit) & (step < limit), step, NO_STEP)
        self.step.frombytes(step.astype(np.int64, copy=False).tobytes())
        self.value.frombytes(value.astype(np.float64, copy=False).tobytes())

    def __len__(self) -> int:
        return len(self.value)


@dataclass(slots=True)
class Rows:
    """Points by series name."""

    sink: str
    source: str
    counted: Counted = Counted.OPTIMIZER_STEP  # of all series; a series without any step is numbered in order
    derived: bool = False
    points: dict[str, Points] = field(default_factory=lambda: defaultdict(Points))
    unread: Counter[str] = field(default_factory=Counter)  # values that are no numbers, by name

    def add(self, name: str, step: int | None, value: Any) -> None:
        """Keep one value if it is a number (also as text: newer Trainers print strings)."""
        if type(value) is float:
            self.points[name].append(step, value)
            return
        if value is None:
            return
        number = number_of(value)
        if number is None:
            self.unread[name] += 1
        else:
            self.points[name].append(step, number)

    def add_column(self, name: str, step: IntArray, values: Sequence[Any]) -> None:
        """Keep the values (n,) of one name at steps (n,), NO_STEP where there is none; the same as `add` for each."""
        with suppress(OverflowError):
            if values and set(map(type, values)) <= {float, int}:
                self.points[name].extend(step, np.array(values, np.float64))
                return
        if set(map(type, values)) == {str}:  # mostly no numbers, and a refusal is slow
            known = {value: number_of(value) for value in set(values)}
            values = [value if known[value] is None else known[value] for value in values]
            if set(known.values()) == {None}:
                self.unread[name] += len(values)
                return
        for one, value in zip(step.tolist(), values, strict=True):
            self.add(name, None if one == NO_STEP else one, value)

    def without_default_steps(self) -> None:
        """Take step 0 of every point as none: MLflow writes it where the caller gave no step."""
        if all(len(points) > 1 and not any(points.step) for points in self.points.values()):
            for points in self.points.values():
                points.step = array("q", [NO_STEP]) * len(points)

    def settings(self) -> RunSettings:
        """What the rows say of the training beside its loss: GA, micro-batch, ranks."""
        columns = {
            name: (np.array(points.step, np.int64), np.array(points.value, np.float64))
            for name, points in self.points.items()
            if roles.role_of(name) is None
        }
        return settings.from_columns(columns, source=self.sink)

    def series(self, target: Target, window: int | None = None) -> tuple[tuple[Series, ...], tuple[Note, ...]]:
        """The series that have a role, and notes on those that have none.

        Of several names with one role the one with the best name is taken; the others are listed as left out.
        """
        by_role: dict[Role, list[str]] = defaultdict(list)
        left: list[Note] = []
        known = role_choice.roles_of(self.points, loss_key=target.loss_key, grad_norm_key=target.grad_norm_key)
        for name in self.points:
            role = known[name]
            if role is None:
                left.append(Note(NoteCode.NO_ROLE, where=name, facts={"name": name, "points": len(self.points[name])}))
            else:
                by_role[role].append(name)
        for name, count in self.unread.items():
            if roles.role_of(name, loss_key=target.loss_key, grad_norm_key=target.grad_norm_key) is not None:
                left.append(Note(NoteCode.NOT_A_NUMBER, "", name, count, {"name": name}))
        chosen = []
        for role, names in by_role.items():
            best, *others = sorted(names, key=lambda name: role_choice.preference(name, role))
            own = window if role in (Role.LOSS, Role.GRAD_NORM) else None
            made = make_series(role, best, self.sink, self.source, self.points[best], own)
            if made.counted is not Counted.ORDER:
                made = replace(made, counted=self.counted, derived=self.derived)
            if made.counted is not Counted.OPTIMIZER_STEP and own is None:
                made = replace(made, window=None)
            chosen.append(made)
            for other in others:
                facts: dict[str, Fact] = {
                    "name": other,
                    "points": len(self.points[other]),
                    "role": role.value,
                    "used": best,
                }
                left.append(Note(NoteCode.SECOND_NAME, facts=facts))
        return tuple(chosen), tuple(left)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, IntArray, list[Any]]]:
    """Each name of some rows, the rows that have it (n,), and its values (n,)."""
    every = np.arange(len(rows))
    for name in dict.fromkeys(chain.from_iterable(rows)):
        try:
            yield name, every, list(map(itemgetter(name), rows))
        except KeyError:
            which = [i for i, row in enumerate(rows) if name in row]
            yield name, np.array(which, np.int64), [rows[i][name] for i in which]


def steps_of(values: Sequence[Any]) -> IntArray:
    """Optimizer steps (n,) of what logs hold, NO_STEP where a value is none."""
    if set(map(type, values)) == {int}:
        with suppress(OverflowError):
            steps = np.array(values, np.int64)
            if np.all(np.abs(steps.astype(np.float64)) < MOST_STEPS):
                return steps
    found = (_values.step(value) for value in values)
    return np.array([NO_STEP if step is None else step for step in found], np.int64)


def step_of(row: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    """The optimizer step of a row: the first of the keys that holds one, or None."""
    for key in keys:
        if (step := _values.step(row.get(key))) is not None:
            return step
    return None


def numbered(steps: Sequence[int | None], window: int | None = None) -> list[int | None]:
    """The steps of the points of one name as `make_series` takes them: numbered where none has a step."""
    known = [step if step is not None and -(1 << 62) < step < 1 << 62 else None for step in steps]
    if all(step is None for step in known):
        return [i * (window or 1) for i in range(1, len(steps) + 1)]
    return known


def make_series(
    role: Role,
    name: str,
    sink: str,
    source: str,
    points: Points,
    window: int | None = None,
    notes: tuple[Note, ...] = (),
) -> Series:
    """Points -> a series with strictly increasing steps.

    A step that comes twice (a resume, a restart) keeps its last value, and a note says how often. Points without a step
    are left out, or numbered in order where no point has one.
    """
    step = np.array(points.step, np.int64)
    value = np.array(points.value, np.float64)
    counted, without = Counted.OPTIMIZER_STEP, step == NO_STEP
    if len(step) and np.all(without):
        notes = (*notes, Note(NoteCode.NUMBERED, facts={"name": name}))
        step = np.arange(1, len(value) + 1, dtype=np.int64) * (window or 1)
        counted = Counted.ORDER
    elif np.any(without):
        lost = int(np.sum(without))
        notes = (*notes, Note(NoteCode.NO_STEP, count=lost, facts={"name": name}))
        step, value = step[~without], value[~without]
    if len(step) > 1 and not np.all(step[1:] > step[:-1]):
        backwards = int(np.sum(step[1:] < step[:-1]))
        unique, first_of_reversed = np.unique(step[::-1], return_index=True)
        kept = len(step) - 1 - first_of_reversed
        dropped = len(step) - len(unique)
        # train, eval and summary rows repeat a step with the same epoch: nothing is lost, nothing is said
        same = np.array_equal(value[kept][np.searchsorted(unique, step)], value, equal_nan=True)
        step, value = unique, value[kept]
        if dropped and not same:
            facts: dict[str, Fact] = {"name": name, "backwards": backwards}
            notes = (*notes, Note(NoteCode.REPEATED_STEPS, count=dropped, facts=facts))
    if window is None and len(step) > 2:
        window = int(median(np.diff(step)))
    return Series(
        role=role, name=name, format=sink, source=source, position=step, value=value, counted=counted,
        window=window, notes=notes,
    )  # fmt: skip


def need_series(series: Sequence[Series], where: str, left: Sequence[Note] = ()) -> None:
    """Refuse a log without a training loss or gradient norm.

    Raises
    ------
    NoTrainingSeries
        with the names that were seen.
    """
    if any(s.role in (Role.LOSS, Role.GRAD_NORM, Role.EVAL_LOSS) and len(s) for s in series):
        return
    names = tuple(str(note.facts["name"]) for note in left if "name" in note.facts)
    seen = names[:8]
    raise NoTrainingSeries(
        "holds no training loss and no gradient norm" + (f"; it has {', '.join(seen)}" if seen else ""),
        where=where,
        remedy="Name the series with --loss-key or --grad-norm-key." if seen else "Give the log of a run that trained.",
        names=(*(s.name for s in series), *names),
    )
