"""Columns of W&B's history, decoded from the raw history records of many rows at once.

A row is a message of items, and an item holds a key and a value as JSON text; the SDK writes the items of each row in an
order of its own. Items are found in all rows together, one item of each row in a step, and grouped by key. A row that is
not laid out as the SDK does it is decoded by `items`, which reads any message; both give the same values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ga_audit.logs.formats._protobuf import fields
from ga_audit.run import FloatArray, IntArray

_ROWS = 1 << 13  # decoded at once, a few megabytes; at most 1 << 16
_PAD = 512  # bytes behind the last row, so that no index leaves the buffer
_WORDS = 8  # 8-byte words of a key that are compared at once; longer keys are compared one by one
_SOME = 4096  # items whose keys mostly are all that there are
_PARTS = 8  # of a nested key
_MOST_ITEMS = 4096  # of a row that is decoded with others
_ITEM, _KEY, _NESTED_KEY, _STEP = 0x0A, 0x0A, 0x12, 0x12  # tags of length-delimited fields
_VALUE = (0x82, 0x01)  # value_json = 16
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(8)] + [(1 << 64) - 1], np.uint64)
_FACTORS = np.array([0x9E3779B97F4A7C15 * (2 * i + 1) % (1 << 64) for i in range(_WORDS)], np.uint64)
_NUMBER = np.frombuffer(b"-0123456789NI", np.uint8)  # begin a number
_BLANK = np.uint64(int.from_bytes(b" " * 8))
_COMMA = np.uint64(int.from_bytes(b",       ", "little"))
Bytes = NDArray[np.uint8]
Values = FloatArray | list[Any]  # numbers alone, or whatever JSON holds


@dataclass(slots=True)
class Column:
    """The values of one key, by row, in pieces; objects and lists are left out."""

    rows: list[IntArray] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Sequence[int], values: list[Any]) -> Column:
        """Any values, by row; as numbers where all are."""
        places = np.array(rows, np.int64)
        with suppress(OverflowError):
            if set(map(type, values)) <= {float, int}:
                return cls([places], [np.array(values, np.float64)])
        return cls([places], [values])

    def pieces(self) -> Iterator[tuple[IntArray, Values]]:
        """Rows (n,) and values (n,)."""
        yield from zip(self.rows, self.values, strict=True)


@dataclass(slots=True)
class History:
    """History records as they come; decoded in batches.

    Parameters
    ----------
    wanted : whether the values of a key are needed. Of other keys only the numbers are counted, as so many zeros.
    """

    wanted: Callable[[str], bool]
    columns: dict[str, Column] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)  # row that cannot be decoded -> why
    count: int = 0  # rows
    waiting: list[bytes] = field(default_factory=list)

    def add(self, row: bytes) -> None:
        """Take one history message."""
        self.waiting.append(row)
        self.count += 1
        if len(self.waiting) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Decode what waits."""
        if not self.waiting:
            return
        rows, self.waiting = self.waiting, []
        first = self.count - len(rows)
        found = _Items.of(rows)
        pieces = dict(_grouped(found, self.wanted))
        for row in np.flatnonzero(found.odd).tolist():
            try:
                values = dict(items(rows[row]))
            except ValueError as error:
                self.broken[first + row] = str(error)
                continue
            for place, (name, value) in enumerate(values.items()):
                pieces.setdefault(name, []).append((int(found.starts[row]) + place, row, value))
        self._keep(first, pieces)

    def _keep(self, first: int, pieces: dict[str, list[_Piece]]) -> None:
        for name in sorted(pieces, key=lambda name: min(piece[0] for piece in pieces[name])):
            column = self.columns.setdefault(name, Column())
            rows, values = _joined(pieces[name])
            if len(rows):
                column.rows.append(rows + first)
                column.values.append(values)


_Piece = tuple[int, Any, Any]  # place of the first value; rows and values, or one of each


def _joined(pieces: list[_Piece]) -> tuple[IntArray, Values]:
    """The rows and values of one key, by row; of a key that comes twice in a row the last value."""
    if len(pieces) == 1 and isinstance(pieces[0][1], np.ndarray):
        return pieces[0][1], pieces[0][2]
    by_row: dict[int, Any] = {}
    for _, rows, values in pieces:
        if isinstance(rows, np.ndarray):
            by_row.update(zip(rows.tolist(), values if isinstance(values, list) else values.tolist(), strict=True))
        elif not isinstance(values, dict | list):
            by_row[rows] = values
    ordered = sorted(by_row)
    return np.array(ordered, np.int64), [by_row[row] for row in ordered]


def items(message: bytes, wanted: int = 1) -> Iterator[tuple[str, Any]]:
    """The `item` fields of a history or config message: key = 1, nested_key = 2 (repeated), value_json = 16.

    Raises
    ------
    ValueError
        not a message, or cut off.
    """
    for number, item in fields(message):
        if number != wanted or not isinstance(item, bytes):
            continue
        key, nested, text = "", [], ""
        for n, value in fields(item):
            if isinstance(value, bytes):
                if n == 1:
                    key = value.decode("utf-8", "replace")
                elif n == 2:
                    nested.append(value.decode("utf-8", "replace"))
                elif n == 16:
                    text = value.decode("utf-8", "replace")
        yield ".".join(nested) or key, json_value(text)


def json_value(text: Any) -> Any:
    """A history value: JSON with Python's NaN and Infinity; None where it is neither, or no text."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


@dataclass(slots=True)
class _Items:
    """The places of the items of all rows that are laid out as the SDK does it."""

    data: bytes
    buffer: Bytes
    starts: IntArray  # of each row
    odd: NDArray[np.bool_]  # rows that are laid out in another way
    row: IntArray
    key: IntArray  # start and end of the key's fields, start and end of the JSON text
    key_end: IntArray
    value: IntArray
    value_end: IntArray

    @classmethod
    def of(cls, rows: Sequence[bytes]) -> _Items:
        """Walk all rows together."""
        data = b"".join((*rows, bytes(_PAD)))
        buffer = np.frombuffer(data, np.uint8)
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
        odd = np.zeros(len(rows), np.bool_)
        found: list[tuple[IntArray, ...]] = []
        going, at = np.arange(len(rows)), starts
        while going.size:
            end = ends[going]
            tag = buffer[at]
            more = (at < end) & (tag == _ITEM)
            last = (at < end) & (tag == _STEP)  # the number of the row, behind its items
            odd[going[~more & ~last & (at < end)]] = True
            size = buffer[at[last] + 1]
            odd[going[last][(size >= 0x80) | (at[last] + 2 + size != end[last])]] = True
            going, at, end = going[more], at[more], end[more]
            key, item_end = _varint(buffer, at + 1)
            item_end = item_end + key  # `key` was the length of the item
            key, right = item_end - key, item_end <= end
            odd[going[~right]] = True
            going, key, item_end = going[right], key[right], item_end[right]
            key_end = _after_key(buffer, key, item_end)
            right = (buffer[key_end] == _VALUE[0]) & (buffer[key_end + 1] == _VALUE[1]) & (key_end > key)
            size, value = _varint(buffer, key_end + 2)
            right &= value + size == item_end
            odd[going[~right]] = True
            found.append(tuple(x[right] for x in (going, key, key_end, value, item_end)))
            going, at = going[right], item_end[right]
            if len(found) >= _MOST_ITEMS:
                odd[going] = True
                break
        columns = (
            [np.concatenate(parts) for parts in zip(*found, strict=True)] if found else [np.zeros(0, np.int64)] * 5
        )
        kept = ~odd[columns[0]]
        order = np.argsort(columns[0][kept].astype(np.uint16), kind="stable")
        return cls(data, buffer, starts, odd, *(column[kept][order] for column in columns))


def _varint(buffer: Bytes, at: IntArray) -> tuple[IntArray, IntArray]:
    """Lengths (n,) of at most three bytes, and where what follows begins; a longer one reads as beyond any row."""
    low = buffer[at].astype(np.int64)
    if not np.any(low >= 0x80):
        return low, at + 1
    middle, high = buffer[at + 1].astype(np.int64), buffer[at + 2].astype(np.int64)
    two, three = low >= 0x80, (low >= 0x80) & (middle >= 0x80)
    length = (low & 0x7F) + np.where(two, (middle & 0x7F) << 7, 0) + np.where(three, high << 14, 0)
    length[three & (high >= 0x80)] = 1 << 40
    return length, at + 1 + two + three


def _after_key(buffer: Bytes, key: IntArray, end: IntArray) -> IntArray:
    """Where the key's fields end: a key, or the parts of a nested one; the start where they leave the item."""
    at, first = key, buffer[key]
    for _ in range(_PARTS):
        size = buffer[at + 1]
        part = (
            (buffer[at] == first) & ((first == _KEY) | (first == _NESTED_KEY)) & (size < 0x80) & (at + size + 4 <= end)
        )
        if not np.any(part):
            break
        if np.any(part & (first == _KEY) & (at > key)):  # of a repeated key the last counts
            return key
        at = np.where(part, at + 2 + size, at)
    return at


def _grouped(found: _Items, wanted: Callable[[str], bool]) -> Iterator[tuple[str, list[_Piece]]]:
    """The values of each key of some rows."""
    by_name: dict[str, list[IntArray]] = {}
    for key, which in _by_key(found):
        by_name.setdefault(_name(key), []).append(which)
    for name, parts in by_name.items():
        # items are in the order of their rows
        which = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
        first, rows = int(found.key[which[0]]), found.row[which]
        kept = np.append(rows[1:] != rows[:-1], True)  # of a key that comes twice in a row the last value
        kind = found.buffer[found.value[which]]
        kept &= (kind != ord("{")) & (kind != ord("["))
        values: Values
        if wanted(name):
            values = _parsed(found, found.value[which[kept]], found.value_end[which[kept]])
        else:
            kept &= np.isin(kind, _NUMBER)
            values = np.zeros(np.count_nonzero(kept))
        yield name, [(first, rows[kept], values)]


def _by_key(found: _Items) -> Iterator[tuple[bytes, IntArray]]:
    """The bytes of each key's fields and the items (n,) that have them, ascending."""
    size = found.key_end - found.key
    words = _words(found, found.key, size)
    digest = size.astype(np.uint64)
    for word, factor in zip(words, _FACTORS, strict=False):
        digest = (digest ^ word) * factor
        digest ^= digest >> np.uint64(29)
    example, group = _unique(digest)
    alike: NDArray[np.bool_] = (size == size[example][group]) & (size <= 8 * _WORDS)
    for word in words:
        alike &= word == word[example][group]
    others: dict[bytes, list[int]] = {}  # that share a digest with another key, or are longer than what is compared
    for item in np.flatnonzero(~alike).tolist():
        others.setdefault(found.data[found.key[item] : found.key_end[item]], []).append(item)
    order = np.argsort(group.astype(np.uint16) if len(example) < 1 << 16 else group, kind="stable")
    order = order[alike[order]]
    for which in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(which):
            yield found.data[found.key[which[0]] : found.key_end[which[0]]], which
    for key, items_of_key in others.items():
        yield key, np.array(items_of_key, np.int64)


def _words(found: _Items, start: IntArray, size: IntArray) -> list[NDArray[np.uint64]]:
    """Texts, eight bytes at a time, zero behind their end."""
    # eight bytes from each place of the buffer on
    windows: NDArray[np.uint64] = np.ndarray((len(found.data) - 7,), "<u8", found.data, 0, (1,))
    count = min(-(-int(size.max(initial=0)) // 8), _WORDS)
    return [windows[start + 8 * i] & _MASKS[np.clip(size - 8 * i, 0, 8)] for i in range(count)]


def _unique(digest: NDArray[np.uint64]) -> tuple[IntArray, IntArray]:
    """An example (k,) of each value, and which of them each value is (n,); the first values mostly have all others."""
    known, example = np.unique(digest[:_SOME], return_index=True)
    if len(known):
        group = np.searchsorted(known, digest)
        group[group == len(known)] = 0
        if np.array_equal(known[group], digest):
            return example, group
    _, example, group = np.unique(digest, return_index=True, return_inverse=True)
    return example, group


def _name(key: bytes) -> str:
    """The key of an item, the parts of a nested one joined by dots."""
    return ".".join(value.decode("utf-8", "replace") for _, value in fields(key) if isinstance(value, bytes))


def _parsed(found: _Items, start: IntArray, end: IntArray) -> Values:
    """JSON texts as numbers, where all are numbers; else as `json_value` gives them."""
    size = end - start
    if size.max(initial=0) <= 8 * _WORDS:
        words = _words(found, start, size)
        cells = np.full((len(start), len(words) + 1), _BLANK, np.uint64)  # the last for the comma
        for i, word in enumerate(words):
            cells[:, i] = word | (_BLANK & ~_MASKS[np.clip(size - 8 * i, 0, 8)])
        cells[:, -1] = _COMMA
        text = cells.astype("<u8", copy=False).tobytes()
        try:
            # a text that is no number would show: as a value of another type, or as more values or fewer
            values = json.loads(f"[{text[:-8].decode()}]")
            if len(values) == len(start) and set(map(type, values)) <= {float, int}:
                return np.array(values, np.float64)
        except (ValueError, RecursionError, OverflowError):
            pass
    places = zip(start.tolist(), end.tolist(), strict=True)
    return [json_value(found.data[a:b].decode("utf-8", "replace")) for a, b in places]
