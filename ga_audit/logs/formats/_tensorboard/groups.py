"""Records of a chunk in groups of one layout, with their payload CRCs checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ga_audit.logs.formats._tensorboard.crc import U8, U32, contribution, masked_crc, unmask
from ga_audit.logs.formats._tensorboard.frames import Frames
from ga_audit.logs.formats._tensorboard.layout import Layout, decode
from ga_audit.run import IntArray

Bools = NDArray[np.bool_]

_HPARAMS = b"_hparams_/"
_LONGEST = 4095  # bytes of a payload up to which records of one length are compared as rows
_FEWEST = 8  # records that are worth a comparison
_MOST_LAYOUTS = 16  # of one length in one chunk; the other records are decoded one by one
_MOST_COLUMNS = 96  # beyond, one CRC call for each record is faster than a lookup for each byte
_WIDE = 24  # words of a row from which all are compared at once, not column by column
_SLOT_BITS = 12
_ROUNDS = 6
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(slots=True)
class Group:
    """Records of one layout."""

    layout: Layout
    start: IntArray  # (n,) of the payload in the chunk
    rows: U8  # (n, bytes): the payload, its CRC, padding
    ids: NDArray[np.intp] | None  # (n,) index into tags; None where there is one entry
    tags: list[tuple[str, ...]]  # the tag of each value of the layout

    def members(self) -> Iterator[tuple[IntArray, tuple[str, ...]]]:
        """Which records have which tags; in the order of the file."""
        if self.ids is None:
            yield np.arange(len(self.start)), self.tags[0]
            return
        small = self.ids.astype(np.uint16) if len(self.tags) < 1 << 16 else self.ids
        order = np.argsort(small, kind="stable")
        ends = np.cumsum(np.bincount(self.ids, minlength=len(self.tags))).tolist()
        for begin, end, tags in zip([0, *ends], ends, self.tags, strict=False):
            yield order[begin:end], tags


@dataclass(slots=True)
class Faults:
    """Records of a chunk that cannot be used, by the position of their header."""

    broken: list[tuple[int, str]] = field(default_factory=list)  # no events, and why
    wrong: list[int] = field(default_factory=list)  # their payload fails its CRC


def groups(data: bytearray, frames: Frames, layouts: dict[int, list[Layout]], faults: Faults) -> Iterator[Group]:
    """The groups of the records in a chunk, without those that are damaged or have no values.

    Parameters
    ----------
    layouts : met before, by length of the payload; new ones are added.
    faults : where damaged records are added.
    """
    return _Groups(layouts, faults).of(data, frames)


@dataclass(slots=True)
class _Groups:
    layouts: dict[int, list[Layout]]
    faults: Faults

    def of(self, data: bytearray, frames: Frames) -> Iterator[Group]:
        lengths = np.minimum(frames.length, _LONGEST + 1).astype(np.uint16)
        order = np.argsort(lengths, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(lengths[order])) + 1, len(order))
        begin = 0
        for end in ends.tolist():
            members = order[begin:end]
            begin = end
            if not members.size:
                continue
            start, length = frames.start[members] + 12, int(frames.length[members[0]])
            if members.size < _FEWEST or length > _LONGEST:
                for at, size in zip(start.tolist(), frames.length[members].tolist(), strict=True):
                    yield from self._single(data, at, size)
            else:
                yield from self._equal(data, start, length)

    def _single(self, data: bytearray, at: int, size: int) -> Iterator[Group]:
        layout = self._decoded(data, at, size)
        if layout is None or not any(
            v.number or v.text or layout.payload.startswith(_HPARAMS, v.tag[0]) for v in layout.values
        ):
            return
        rows = np.frombuffer(bytes(data[at : at + 8 * layout.words]), np.uint8).reshape(1, -1)
        yield Group(layout, np.array([at]), rows, None, [_tags(layout, layout.payload)])

    def _decoded(self, data: bytearray, at: int, size: int) -> Layout | None:
        payload = bytes(memoryview(data)[at : at + size])
        if masked_crc(payload) != int.from_bytes(data[at + size : at + size + 4], "little"):
            self.faults.wrong.append(at - 12)
            return None
        try:
            return decode(payload)
        except ValueError as error:
            self.faults.broken.append((at - 12, str(error)))
            return None

    def _equal(self, data: bytearray, start: IntArray, length: int) -> Iterator[Group]:
        """Records of one length."""
        known = self.layouts.setdefault(length, [])
        untried = list(known)
        width = (length + 11) // 8 * 8
        windows = np.ndarray((len(data) - width + 1,), f"V{width}", data, 0, (1,))
        rows = windows[start].view(np.uint8).reshape(-1, width)
        while len(start):
            if untried:
                layout = untried.pop(0)
            else:
                found = self._decoded(data, int(start[0]), length)
                if found is None:
                    start, rows = start[1:], rows[1:]
                    continue
                layout = found
                if len(known) < _MOST_LAYOUTS:
                    known.append(layout)
                elif len(start) > 1:
                    yield from self._rest(data, start, length)
                    return
            varying = _varying(layout, rows)
            if not np.any(varying.view("<u8") & layout.fixed_mask):
                yield from self._group(layout, start, rows, varying)
                return
            same = _same(layout, rows)
            if same.any():
                chosen = rows[same]
                yield from self._group(layout, start[same], chosen, _varying(layout, chosen))
                start, rows = start[~same], rows[~same]

    def _rest(self, data: bytearray, start: IntArray, length: int) -> Iterator[Group]:
        for at in start.tolist():
            yield from self._single(data, at, length)

    def _group(self, layout: Layout, start: IntArray, rows: U8, varying: U8) -> Iterator[Group]:
        ids, first = _ids(layout, rows, varying)
        good = _good(layout, rows, varying, ids, first)
        if not good.all():
            self.faults.wrong += (start[~good] - 12).tolist()
            start, rows, ids = start[good], rows[good], None if ids is None else ids[good]
            if not len(start):
                return
        if layout.values:
            # a row of `first` may be damaged: then no row has its tags, or others have them too
            yield Group(layout, start, rows, ids, [_tags(layout, row) for row in first])


def _tags(layout: Layout, payload: bytes) -> tuple[str, ...]:
    return tuple(payload[slice(*value.tag)].decode("utf-8", "replace") for value in layout.values)


def _words(rows: U8) -> NDArray[np.uint64]:
    return rows.view("<u8")


def _same(layout: Layout, rows: U8) -> Bools:
    """Which records (n,) have the layout."""
    words, template, fixed = _words(rows), layout.template, layout.fixed_mask
    same = np.ones(len(rows), np.bool_)
    for j in np.flatnonzero(fixed).tolist():
        same &= (words[:, j] ^ template[j]) & fixed[j] == 0
        if not same.any():
            break
    return same


def _varying(layout: Layout, rows: U8) -> U8:
    """Bits in which records of the layout differ from it (bytes,)."""
    words, template = _words(rows), layout.template
    if layout.words < _WIDE:
        each = [np.bitwise_or.reduce(words[:, j] ^ template[j]) for j in range(layout.words)]
        bits = np.array(each, "<u8")
    else:
        bits = np.bitwise_or.reduce(words ^ template, axis=0)
    varying = bits.view(np.uint8)
    varying[len(layout.payload) :] = 0
    return varying


def _ids(layout: Layout, rows: U8, varying: U8) -> tuple[NDArray[np.intp] | None, list[bytes]]:
    """Which tags each record has (n,), and a record of each."""
    mask = layout.tag_mask
    differing = np.flatnonzero(varying.view("<u8") & mask).tolist()
    if not differing:
        return None, [rows[0].tobytes()]
    words = _words(rows)
    keys = [words[:, j] & mask[j] for j in differing]
    ids = np.empty(len(rows), np.intp)
    left = np.arange(len(rows))
    first: list[int] = []
    for round_ in range(_ROUNDS):
        own = [key[left] for key in keys] if round_ else keys
        hashed = np.zeros(len(left), np.uint64)
        for i, key in enumerate(own):
            hashed += key * np.uint64((_GOLDEN * (2 * (i * _ROUNDS + round_) + 1)) % (1 << 64))
        slot = (hashed >> np.uint64(64 - _SLOT_BITS)).astype(np.intp)
        holder = np.full(1 << _SLOT_BITS, -1, np.intp)
        holder[slot[::-1]] = np.arange(len(left))[::-1]  # the first record of each slot
        chosen = holder[slot]
        equal = np.ones(len(left), np.bool_)
        for key in own:
            equal &= key == key[chosen]
        taken = np.flatnonzero(holder >= 0)
        number = np.empty(1 << _SLOT_BITS, np.intp)
        number[taken] = np.arange(len(first), len(first) + len(taken))
        ids[left[equal]] = number[slot[equal]]
        first += left[holder[taken]].tolist()
        left = left[~equal]
        if not left.size:
            break
    else:
        _ids_one_by_one(keys, left, ids, first)
    return ids, [rows[i].tobytes() for i in first]


def _ids_one_by_one(keys: list[NDArray[np.uint64]], left: IntArray, ids: NDArray[np.intp], first: list[int]) -> None:
    known: dict[tuple[int, ...], int] = {}
    for row, key in zip(left.tolist(), zip(*(k[left].tolist() for k in keys), strict=True), strict=True):
        if key not in known:
            known[key] = len(first)
            first.append(row)
        ids[row] = known[key]


def _good(layout: Layout, rows: U8, varying: U8, ids: NDArray[np.intp] | None, first: list[bytes]) -> Bools:
    """Which records (n,) have the CRC of their payload."""
    size = len(layout.payload)
    stored: U32 = unmask(np.ndarray((len(rows),), "<u4", rows, size, (rows.strides[0],)).astype(np.uint32))
    free = (layout.tag_mask.view(np.uint8) == 0) & (varying != 0)
    columns = np.flatnonzero(free).tolist()
    if len(columns) > _MOST_COLUMNS:
        crcs = [google_crc32c.value(row.tobytes()) for row in rows[:, :size]]
        return np.equal(np.array(crcs, np.uint32), stored)
    constant = []
    for row in first:
        zeroed = bytearray(row[:size])
        for column in columns:
            zeroed[column] = 0
        constant.append(google_crc32c.value(bytes(zeroed)))
    base = np.array(constant, np.uint32)
    return np.equal(contribution(rows, columns, size) ^ (base[0] if ids is None else base[ids]), stored)
