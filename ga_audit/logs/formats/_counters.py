"""The position of each row of a log: which counter the rows hold, what it counts, and where each row lies.

All values of one row share one position. A row without a counter never moves the others: it belongs to the
row before where the two hold different values, and is left out otherwise. Where no row holds a counter, rows
are numbered in order, and the placement says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from itertools import chain
from typing import Any

from ga_audit.logs.formats import _values
from ga_audit.logs.formats._points import columns_of
from ga_audit.run import Counted, Note, NoteCode, RunSettings, Schedule, Setting, Trust

Positions = list[int | None]


class Counter(IntEnum):
    """Kinds of counters, best first."""

    UPDATE = 0  # counts optimizer steps by its name
    STEP = 1  # counts optimizer steps, unless a better counter stands beside it
    ITERATION = 2  # optimizer steps or micro-batches: the name does not say which
    MICRO_BATCH = 3
    CALL = 4  # `_step` of W&B: calls of `log`, unless the caller gave it
    TOKENS = 5
    SAMPLES = 6
    EPOCH = 7


_NAMES: Mapping[Counter, str] = {
    Counter.UPDATE: "optimizer_step optimizer_steps optim_step opt_step num_updates num_update n_updates update "
    "updates update_step update_steps global_update completed_steps",
    Counter.STEP: "global_step global_steps current_steps current_step step steps training_step training_steps "
    "train_step train_steps step_num step_idx global_step/max_steps",
    Counter.ITERATION: "iteration iterations iter iters it itr iter_num n_iter global_iter global_iteration "
    "current_iter current_iteration training_iteration",
    Counter.MICRO_BATCH: "micro_step micro_steps micro_batch micro_batches microbatch micro_iter batch_idx batch_id "
    "batch_nb batch batches minibatch mini_batch",
    Counter.CALL: "_step",
    Counter.TOKENS: "tokens num_tokens tokens_seen total_tokens n_tokens trained_tokens num_input_tokens_seen "
    "consumed_tokens",
    Counter.SAMPLES: "samples samples_seen num_samples consumed_samples total_samples examples examples_seen "
    "num_examples_seen images_seen",
    Counter.EPOCH: "epoch epochs current_epoch epoch_num",
}
_RANK = {name: (kind, i) for kind, names in _NAMES.items() for i, name in enumerate(names.split())}
_PREFIXES = frozenset({"train", "trainer", "training", "progress", "counter", "counters", "learning"})
_NO_SERIES = frozenset({Counter.UPDATE, Counter.STEP, Counter.ITERATION, Counter.MICRO_BATCH, Counter.CALL})
# names that may also hold a size or a total: they count only where they rise
_MUST_RISE = frozenset({Counter.ITERATION, Counter.MICRO_BATCH, Counter.TOKENS, Counter.SAMPLES, Counter.EPOCH})
_COUNTED = {
    Counter.MICRO_BATCH: Counted.MICRO_BATCH,
    Counter.TOKENS: Counted.TOKENS,
    Counter.SAMPLES: Counted.SAMPLES,
    Counter.EPOCH: Counted.EPOCH,
}
_SPLITS = frozenset({"mode", "split", "phase", "stage", "subset"})
_EVALUATION = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev", "test"})
_FORWARD_LOGS = frozenset({"data_time", "iter"})  # OpenMMLab: `iter` counts forward passes
_MOST = int(_values.MOST_STEPS)
_ENOUGH = 0.5  # share of the rows that a counter is in
_FEWEST = 0.1  # the same, where no counter reaches `_ENOUGH`


@lru_cache(maxsize=1 << 14)
def kind_of(name: str) -> Counter | None:
    """What a column counts, by its name; None where it is no counter."""
    found = _ranked(name)
    return None if found is None else found[0]


@lru_cache(maxsize=1 << 14)
def is_position(name: str) -> bool:
    """Whether a name is a counter of steps, and so no series."""
    return kind_of(name) in _NO_SERIES


@lru_cache(maxsize=1 << 14)
def _ranked(name: str) -> tuple[Counter, int] | None:
    low = re.sub(r"[\s-]+", "_", name.strip().lower())
    if low in _RANK:
        return _RANK[low]
    first, _, last = low.rpartition("/")
    return _RANK.get(last) if first in _PREFIXES else None


def is_evaluation(row: Mapping[str, Any]) -> bool:
    """Whether a row says that its values are of an evaluation (`"mode": "val"`)."""
    return any(isinstance(row.get(name), str) and row[name].strip().lower() in _EVALUATION for name in _SPLITS)


def are_evaluations(rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """`is_evaluation` of each row."""
    names = set(chain.from_iterable(rows))
    return [is_evaluation(row) for row in rows] if names & _SPLITS else [False] * len(rows)


def series_name(name: str, evaluation: bool) -> str:
    """The name of a value as a series: of an evaluation row, `val/loss` for `loss`."""
    return f"val/{name}" if evaluation and kind_of(name) is None else name


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the rows of one log lie."""

    positions: Positions  # of each row; None = the row has none and is left out
    counted: Counted = Counted.OPTIMIZER_STEP
    derived: bool = False
    key: str | None = None  # the counter, as named in the log
    notes: tuple[Note, ...] = ()
    settings: RunSettings = field(default_factory=RunSettings)


def place(
    rows: Sequence[Mapping[str, Any]], where: str, is_value: Callable[[str, Any], bool] | None = None
) -> Placement:
    """Positions of rows.

    Parameters
    ----------
    rows : name -> value, in the order of the log.
    where : the log, for notes and sources.
    is_value : whether a value belongs to a series; default: it is a number and its name no counter.
    """
    names = dict.fromkeys(chain.from_iterable(rows))
    table = _counters(rows, names)
    chosen = _in_all_rows(table)
    holds: list[frozenset[str]] | None = None
    if chosen is None:
        holds = _held(rows, is_value)
        chosen = _chosen(table, holds, sum(map(bool, holds)))
        if chosen is None:
            return _numbered(holds)
    kind = kind_of(chosen)
    assert kind is not None
    positions = _together(table, chosen, kind)
    epochs = next((table[n] for n in table if kind_of(n) is Counter.EPOCH and n != chosen), None)
    evaluations = are_evaluations(rows)
    unrolled = None if epochs is None or kind is Counter.EPOCH else _unrolled(positions, epochs, evaluations)
    counted = _counted(kind, positions, rows)
    notes: tuple[Note, ...] = ()
    if unrolled is not None:
        positions = unrolled
        notes = (Note(NoteCode.COUNTER_RESTARTS, where=where, facts={"counter": chosen}),)
    filled, lost = (positions, 0) if holds is None else _filled(positions, holds)
    if lost:
        notes = (*notes, Note(NoteCode.NO_STEP, "", where, lost, {"counter": chosen}))
    ga = _accumulation(table, where)
    return Placement(filled, counted, unrolled is not None, chosen, notes, ga)


def is_number(name: str, value: Any) -> bool:
    """Whether a value of a row is a number of a series."""
    return not is_position(name) and _values.number(value) is not None


def _held(rows: Sequence[Mapping[str, Any]], is_value: Callable[[str, Any], bool] | None) -> list[frozenset[str]]:
    """The names of each row whose values belong to series; rows of the same names mostly hold the same."""
    if is_value is not None:
        return [frozenset(name for name, value in row.items() if is_value(name, value)) for row in rows]
    mixed: set[str] = set()
    numbers: set[str] = set()
    for name, _, values in columns_of(rows):
        if is_position(name):
            continue
        kinds = set(map(type, values))
        different = set(values) if kinds == {str} else values
        are_numbers = {True} if kinds <= {int, float} else {_values.number(value) is not None for value in different}
        if are_numbers == {True}:
            numbers.add(name)
        elif True in are_numbers:
            mixed.add(name)
    shapes: dict[tuple[str, ...], frozenset[str]] = {}
    held = []
    for row in rows:
        names = tuple(row)
        if names not in shapes:
            shapes[names] = frozenset(numbers.intersection(names))
        also = [name for name in mixed if _values.number(row.get(name)) is not None] if mixed else ()
        held.append(shapes[names].union(also) if also else shapes[names])
    return held


def _counters(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[float | None]]:
    """Values of each counter by row."""
    table: dict[str, list[float | None]] = {}
    for name in names:
        if kind_of(name) is None:
            continue
        values: list[Any] = [row.get(name) for row in rows]
        if set(map(type, values)) <= {int} and all(-_values.MOST_STEPS < v < _values.MOST_STEPS for v in values):
            table[name] = values
        else:
            table[name] = [_reading(value) for value in values]
    return table


def _in_all_rows(table: Mapping[str, Sequence[float | None]]) -> str | None:
    """The best counter of steps where every row holds it: then nothing is to be filled in."""
    steps = [name for name in table if kind_of(name) in (Counter.UPDATE, Counter.STEP)]
    best = min(steps, key=lambda name: _ranked(name) or (Counter.EPOCH, 0), default=None)
    return best if best is not None and None not in table[best] else None


def _reading(value: Any) -> float | None:
    """A count; of `1/2046` the first."""
    if type(value) is int:
        return value if -_MOST < value < _MOST else None
    if isinstance(value, str):
        value = value.partition("/")[0].replace(",", "")
    found = _values.finite(value)
    return found if found is not None and abs(found) < _values.MOST_STEPS else None


def _chosen(table: Mapping[str, Sequence[float | None]], holds: Sequence[frozenset[str]], count: int) -> str | None:
    """The best counter that the rows hold."""
    shares: dict[str, float] = {}
    for name, values in table.items():
        kind = kind_of(name)
        known = [x for x, held in zip(values, holds, strict=True) if held and x is not None]
        if not known or (kind in _MUST_RISE and len(known) > 1 and len(set(known)) < 2):
            continue
        if kind is Counter.EPOCH and not _is_count_of_epochs(values, holds):
            continue
        shares[name] = len(known) / max(count, 1)
    for least in (_ENOUGH, _FEWEST):
        names = [name for name, share in shares.items() if share >= least]
        if names:
            return min(names, key=lambda name: _ranked(name) or (Counter.EPOCH, 0))
    return None


def _is_count_of_epochs(values: Sequence[float | None], holds: Sequence[frozenset[str]]) -> bool:
    """Whether whole epochs number the rows: no epoch has two values of one name."""
    seen: set[tuple[float, str]] = set()
    for epoch, held in zip(values, holds, strict=True):
        if epoch is None:
            continue
        own = {(epoch, name) for name in held if kind_of(name) is None}
        if epoch != int(epoch) or own & seen:
            return False
        seen |= own
    return True


def _together(table: Mapping[str, Sequence[float | None]], chosen: str, kind: Counter) -> Positions:
    """The chosen counter by row, taken from another of its kind where a row has only that and the two agree."""
    found = [None if x is None else int(x) for x in table[chosen]]
    alike = (Counter.UPDATE, Counter.STEP) if kind in (Counter.UPDATE, Counter.STEP) else (kind,)
    if kind is Counter.EPOCH or None not in found:
        return found
    for name, values in table.items():
        both = [(a, b) for a, b in zip(table[chosen], values, strict=True) if None not in (a, b)]
        if kind_of(name) in alike and all(a == b for a, b in both):
            found = [int(b) if a is None and b is not None else a for a, b in zip(found, values, strict=True)]
    return found


def _counted(kind: Counter, positions: Positions, rows: Sequence[Mapping[str, Any]]) -> Counted:
    if kind is Counter.CALL:
        return calls_or_steps(positions)
    if kind is Counter.ITERATION and any(row.keys() >= _FORWARD_LOGS for row in rows[:100]):
        return Counted.MICRO_BATCH
    return _COUNTED.get(kind, Counted.OPTIMIZER_STEP)


def calls_or_steps(positions: Iterable[int | None]) -> Counted:
    """What `_step` of W&B counts: calls of `log`, numbered from 0, unless the caller gave other numbers."""
    known = sorted({p for p in positions if p is not None})
    numbered = bool(known) and known[-1] - known[0] == len(known) - 1 and known[0] in (0, 1)
    return Counted.ORDER if numbered else Counted.OPTIMIZER_STEP


def _numbered(holds: Sequence[frozenset[str]]) -> Placement:
    positions: Positions = []
    at = 0
    for held in holds:
        at += bool(held)
        positions.append(at if held else None)
    return Placement(positions, Counted.ORDER)


def _filled(positions: Positions, holds: Sequence[frozenset[str]]) -> tuple[Positions, int]:
    """Positions with that of the row before where a row has none and holds other values; rows left out."""
    out: Positions = []
    last: int | None = None
    seen: set[str] = set()
    lost = 0
    own = {held: {name for name in held if kind_of(name) is None} for held in set(holds)}
    for position, held in zip(positions, holds, strict=True):
        values = own[held]
        if position is not None:
            seen = values if position != last else seen | values
            last = position
        elif values and last is not None and not values & seen:
            seen = seen | values
            position = last
        elif values:
            lost += 1
        out.append(position)
    return out, lost


def _unrolled(positions: Positions, epochs: Sequence[float | None], evaluations: Sequence[bool]) -> Positions | None:
    """Positions over all epochs, of a counter that restarts with each of them; None where it does not.

    An epoch has as many steps as the counter is seen to reach, since its last step may not have been logged.
    """
    restarts, before, longest, last = 0, None, 0, None
    for position, epoch, evaluation in zip(positions, epochs, evaluations, strict=True):
        if position is None or epoch is None or evaluation:
            continue
        whole = int(epoch)
        if before is not None and last is not None and position < last:
            if whole <= before:
                return None  # it goes back within an epoch: a resume, or another training
            restarts += 1
        before, last, longest = whole, position, max(longest, position)
    if not restarts:
        return None
    known = [int(e) for e in epochs if e is not None]
    base, length = min(min(known), 1), max(longest, 1)
    if 0 in positions:
        length = longest + 1
    out: Positions = []
    for position, epoch, evaluation in zip(positions, epochs, evaluations, strict=True):
        if position is None or epoch is None:
            out.append(None)
        else:
            done = (int(epoch) - base) * length
            out.append(done + (length if evaluation else position))
    return out


def _accumulation(table: Mapping[str, Sequence[float | None]], where: str) -> RunSettings:
    """GA from a counter of micro-batches beside one of optimizer steps."""
    for fine in sorted(table, key=lambda n: _ranked(n) or (Counter.EPOCH, 0), reverse=True):
        kind = kind_of(fine)
        if kind not in (Counter.MICRO_BATCH, Counter.ITERATION, Counter.STEP):
            continue
        coarse = (Counter.UPDATE,) if kind is Counter.STEP else (Counter.UPDATE, Counter.STEP)
        for step in table:
            if kind_of(step) not in coarse:
                continue
            pairs = [(m, s) for m, s in zip(table[fine], table[step], strict=True) if m is not None and s]
            found = micro_batches_per_step(pairs)
            # two counters of the same thing are no GA 1, unless one of them is known to count micro-batches
            if found is not None and (found > 1 or kind is Counter.MICRO_BATCH):
                setting = Setting(Schedule.constant(found), f"derived: {fine} / {step}", Trust.DERIVED)
                return RunSettings(gradient_accumulation_steps=setting)
    return RunSettings()


def micro_batches_per_step(pairs: Sequence[tuple[float, float]]) -> int | None:
    """GA from (micro-batches, optimizer steps) of several rows; None where no one number fits all of them.

    Examples
    --------
    >>> micro_batches_per_step([(1760, 220), (1770, 221), (1830, 228)])
    8
    >>> micro_batches_per_step([(10, 10), (20, 17)]) is None
    True
    """
    pairs = [(m, s) for m, s in pairs if s > 0]
    if len({s for _, s in pairs}) < 2:
        return None
    most, steps = max(pairs, key=lambda pair: pair[1])
    found = round(most / steps)

    def fits(ga: int) -> bool:
        return all(ga * (s - 1) <= m <= ga * (s + 1) for m, s in pairs)

    return found if found >= 1 and fits(found) and not fits(found - 1) and not fits(found + 1) else None
