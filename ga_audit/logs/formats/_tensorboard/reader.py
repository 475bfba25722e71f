"""The points of TensorBoard event files as arrays, read in chunks and from where a reading ended."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ga_audit.logs.formats._points import Points
from ga_audit.logs.formats._tensorboard.groups import Faults, Group, groups
from ga_audit.logs.formats._tensorboard.layout import Layout, Value, numbers
from ga_audit.logs.formats._tensorboard.tfrecord import Chunks, Damage
from ga_audit.run import FloatArray, IntArray


@dataclass(slots=True)
class _Piece:
    """Points of one tag from one group, in the order of the file."""

    at: IntArray  # position of the record in the chunk
    step: IntArray
    value: FloatArray
    wall: FloatArray | None


@dataclass(slots=True)
class _Found:
    """What one chunk holds."""

    pieces: dict[str, list[_Piece]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)  # position of the first point
    raw: list[tuple[int, str, bytes, bool]] = field(default_factory=list)  # position, tag, content, is text


@dataclass(slots=True)
class EventReader:
    """Scalars, texts and other values of one event file; `read` goes on where the last one ended.

    Parameters
    ----------
    wanted : whether the points of a tag are kept; those of other tags are counted.
    raw : whether the text of a tag, or its whole value where it is no text, is kept.
    points : where points are added, by tag.
    walls : where wall times are added, by tag; None keeps none.
    """

    wanted: Callable[[str], bool] = lambda tag: True
    raw: Callable[[str], bool] = lambda tag: False
    points: dict[str, Points] = field(default_factory=dict)
    walls: dict[str, array[float]] | None = None
    counts: dict[str, int] = field(default_factory=dict)  # points by tag, in order of first points
    texts: dict[str, str] = field(default_factory=dict)
    values: list[tuple[str, bytes]] = field(default_factory=list)  # (tag, Summary.Value), no texts
    broken: list[tuple[int, str]] = field(default_factory=list)  # (byte, why) of what is no event
    chunks: Chunks = field(default_factory=Chunks)
    _wrong: Damage = field(default_factory=Damage)
    _layouts: dict[int, list[Layout]] = field(default_factory=dict)
    _keeps: dict[str, tuple[bool, bool]] = field(default_factory=dict)

    def read(self, file: BinaryIO) -> None:
        """Read what a file has from where the last reading ended."""
        for chunk in self.chunks.of(file):
            faults = Faults()
            found = _Found()
            for group in groups(chunk.data, chunk.frames, self._layouts, faults):
                self._add(group, found)
            self._keep(found)
            self.broken += sorted((chunk.base + at, why) for at, why in faults.broken)
            for at in faults.wrong:
                self._wrong.wrong_payloads += 1
                self._wrong.at(chunk.base + at)

    def read_path(self, path: Path) -> None:
        """As `read`, of a path."""
        with path.open("rb", buffering=0) as file:
            self.read(file)

    @property
    def damage(self) -> Damage:
        """What was lost so far."""
        damage = self.chunks.damage()
        damage.wrong_payloads = self._wrong.wrong_payloads
        if self._wrong.first is not None:
            damage.at(self._wrong.first)
        return damage

    def _kept(self, tag: str) -> tuple[bool, bool]:
        kept = self._keeps.get(tag)
        if kept is None:
            kept = self._keeps[tag] = self.wanted(tag), self.raw(tag)
        return kept

    def _add(self, group: Group, found: _Found) -> None:
        """Count the values of a group, and decode those that are wanted."""
        by_tags = list(group.members())
        for i, value in enumerate(group.layout.values):
            wanted = []
            for members, names in by_tags:
                tag = names[i]
                keep, raw = self._kept(tag)
                if raw:
                    span = slice(*(value.text or value.whole))
                    content = group.rows[members, span]
                    found.raw += [(int(at), tag, row.tobytes(), value.text is not None)
                                  for at, row in zip(group.start[members], content, strict=True)]  # fmt: skip
                if value.number is None or not len(members):
                    continue
                found.counts[tag] += len(members)
                at = int(group.start[members[0]])
                found.first[tag] = min(at, found.first.get(tag, at))
                if keep:
                    wanted.append((tag, members))
            if wanted:
                self._decode(group, value, wanted, found)

    def _decode(self, group: Group, value: Value, wanted: list[tuple[str, IntArray]], found: _Found) -> None:
        start, rows, layout = group.start, group.rows, group.layout
        members = [chosen for _, chosen in wanted]
        if len(members) > 1 or len(members[0]) < len(start):
            every = np.concatenate(members)
            start, rows = start[every], rows[every]
        steps, values = layout.steps(rows), numbers(value, rows)
        walls = None if self.walls is None else layout.walls(rows)
        end = 0
        for tag, chosen in wanted:
            part = slice(end, end := end + len(chosen))
            wall = None if walls is None else walls[part]
            found.pieces[tag].append(_Piece(start[part], steps[part], values[part], wall))

    def _keep(self, found: _Found) -> None:
        """Add the points of a chunk, in the order of the file."""
        for tag in sorted(found.first, key=found.first.__getitem__):
            self.counts[tag] = self.counts.get(tag, 0) + found.counts[tag]
            if tag in found.pieces:
                self._append(tag, found.pieces[tag])
        for _, tag, content, is_text in sorted(found.raw, key=lambda item: item[0]):
            if is_text:
                self.texts[tag] = content.decode("utf-8", "replace")
            else:
                self.values.append((tag, content))

    def _append(self, tag: str, pieces: list[_Piece]) -> None:
        at = _joined([p.at for p in pieces])
        order = np.argsort(at, kind="stable") if len(pieces) > 1 and np.any(at[1:] < at[:-1]) else slice(None)
        points = self.points.get(tag)
        if points is None:
            points = self.points[tag] = Points()
        points.extend(_joined([p.step for p in pieces])[order], _joined([p.value for p in pieces])[order])
        if self.walls is not None:
            walls = _joined([p.wall for p in pieces if p.wall is not None])[order]
            self.walls.setdefault(tag, array("d")).frombytes(walls.tobytes())


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
