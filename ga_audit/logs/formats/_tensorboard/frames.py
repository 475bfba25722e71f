"""Where the records of TFRecord data begin and end, for a whole chunk at once.

The chunk is cut into lanes. Each lane starts at the first valid record header after its boundary, and
all lanes advance together, one record per step. A lane is accepted where the lane before it ends exactly
at its first record, so the result is that of following the headers one by one; where it does not, they
are followed one by one.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ga_audit.logs.formats._tensorboard.crc import length_crcs, masked_crc
from ga_audit.run import IntArray

PAD = 32  # readable bytes behind a chunk
MAX_LENGTH = (1 << 31) - 1
_HEADER = struct.Struct("<QI")
_ZEROS = re.compile(rb"\x00{4,}")  # the upper half of every length
_LANE = (1 << 11, 1 << 14)  # bytes of a lane: fewest, most
_LANES = 512  # how many there are, as far as their size allows
_LANES_FROM = 1 << 17  # bytes of a chunk from which lanes are worth their set-up
_NEAR = 16  # runs of zeros that are tried one by one
_BLOCK = 1 << 16
_MOST_STEPS = _LANE[1] // 16 + 2


@dataclass(slots=True)
class Frames:
    """Records of one chunk, and what lies between them."""

    start: IntArray  # (n,) of the header
    length: IntArray  # (n,) of the payload
    stop: int  # where the first unfinished record begins, or where a search for a header goes on
    gaps: list[tuple[int, int]]  # bytes without a valid record: (begin, end)
    lost: int | None  # begin of the gap that is still open at the end
    needed: int = 0  # bytes that the unfinished record takes


def valid_length(data: bytes | bytearray, at: int) -> int | None:
    """The payload length of the header at a byte, or None where its CRC is wrong."""
    length, check = _HEADER.unpack_from(data, at)
    if length > MAX_LENGTH or masked_crc(data[at : at + 8]) != check:
        return None
    return int(length)


def next_header(data: bytearray, at: int, end: int) -> int | None:
    """The first place from `at` on where a whole header has a length above zero and its CRC."""
    start, tried = _near_header(data, at, end)
    if start is not None or tried:
        return start
    for begin in range(at, end - 11, _BLOCK):
        count = min(_BLOCK, end - 11 - begin)
        low, high, crc = (np.ndarray((count,), "<u4", data, begin + i, (1,)) for i in (0, 4, 8))
        places = np.flatnonzero((high == 0) & (low != 0) & (low <= MAX_LENGTH))
        valid = crc[places] == length_crcs(low[places].astype(np.int64))
        if valid.any():
            return begin + int(places[valid.argmax()])
    return None


def _near_header(data: bytearray, at: int, end: int) -> tuple[int | None, bool]:
    """As `next_header`, for a header that is near; and whether all places were tried."""
    for count, run in enumerate(_ZEROS.finditer(data, at, end)):
        if count == _NEAR:
            return None, False
        first, last = run.span()
        # farther into the zeros the length is zero; a length below 256, the likeliest, has the most
        for zeros in reversed(range(first, min(first + 4, last - 3))):
            start = zeros - 4
            if at <= start and start + 12 <= end and valid_length(data, start):
                return start, True
    return None, True


def find_frames(data: bytearray, at: int, end: int, lost: int | None = None) -> Frames:
    """The records of `data[at:end]`; `data` has `PAD` more bytes.

    Parameters
    ----------
    at : a record begins here; where `lost` is given, the search for one begins here.
    lost : begin of a gap that an earlier chunk left open.
    """
    lanes = _Lanes.of(data, at, end) if end - at >= _LANES_FROM else None
    starts: list[IntArray] = []
    lengths: list[IntArray] = []
    gaps: list[tuple[int, int]] = []
    needed = 0
    while True:
        if lost is not None:
            following = next_header(data, at, end)
            if following is None:
                at = max(at, end - 11)
                break
            gaps.append((lost, following))
            at, lost = following, None
        at, needed = _follow(data, at, end, lanes, starts, lengths)
        if needed:
            break
        lost, at = at, at + 1
    return Frames(_joined(starts), _joined(lengths), at, gaps, lost, needed)


def _joined(parts: list[IntArray]) -> IntArray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _follow(
    data: bytearray, at: int, end: int, lanes: _Lanes | None, starts: list[IntArray], lengths: list[IntArray]
) -> tuple[int, int]:
    """Follow the headers from `at`: where that ends, and the size of the record there, or 0."""
    known: dict[bytes, int | None] = {}
    first: list[int] = []
    size: list[int] = []
    needed = 0
    while True:
        if lanes is not None and at in lanes.seeds:
            starts.append(np.array(first, np.int64))
            lengths.append(np.array(size, np.int64))
            first, size = [], []
            at = lanes.take(at, starts, lengths)
            continue
        if end - at < 12:
            needed = 12
            break
        header = bytes(data[at : at + 12])
        length = known.get(header, -1)
        if length == -1:
            length = known[header] = valid_length(header, 0)
        if length is None:
            break
        if at + length + 16 > end:
            needed = length + 16
            break
        first.append(at)
        size.append(length)
        at += length + 16
    starts.append(np.array(first, np.int64))
    lengths.append(np.array(size, np.int64))
    return at, needed


@dataclass(slots=True)
class _Lanes:
    """Records found by lanes: column k holds those of lane k."""

    seeds: dict[int, int]  # first record of a lane -> lane
    start: IntArray  # (steps, lanes)
    length: IntArray  # (steps, lanes)
    inside: NDArray[np.bool_]  # (steps, lanes): whole, valid and before the next lane's first record
    landing: IntArray  # (lanes,): where a lane stops being so
    unlinked: IntArray  # ascending: lanes that do not end where the next begins

    @classmethod
    def of(cls, data: bytearray, begin: int, end: int) -> _Lanes | None:
        size = min(max((end - begin) // _LANES, _LANE[0]), _LANE[1])
        found = (_near_header(data, at, min(at + size, end))[0] for at in range(begin, end, size))
        seed = np.array(sorted({s for s in found if s is not None}), np.int64)
        if len(seed) < 2:
            return None
        start, length = _advanced(data, seed, end)
        stop = np.append(seed[1:], end)
        crc = np.ndarray((end + 1,), "<u4", data, 8, (1,))
        whole = start + 16 + length <= end
        inside = (start < stop) & whole & (length >= 0)
        inside &= crc[np.minimum(start, end)] == length_crcs(np.where(inside, length, 0))
        steps = np.where(inside.all(axis=0), len(start) - 1, (~inside).argmax(axis=0))
        inside &= np.arange(len(start))[:, None] < steps
        landing = start[steps, np.arange(len(seed))]
        unlinked = np.flatnonzero(np.append(landing[:-1] != seed[1:], True))
        return cls({int(s): k for k, s in enumerate(seed)}, start, length, inside, landing, unlinked)

    def take(self, at: int, starts: list[IntArray], lengths: list[IntArray]) -> int:
        """Add the records from the lane that starts at `at` to the first unlinked lane."""
        first = self.seeds[at]
        last = int(self.unlinked[np.searchsorted(self.unlinked, first)])
        chosen = self.inside[:, first : last + 1].T
        starts.append(self.start[:, first : last + 1].T[chosen])
        lengths.append(self.length[:, first : last + 1].T[chosen])
        landing = int(self.landing[last])
        if landing == at:  # nothing follows the seed
            del self.seeds[at]
        return landing


def _advanced(data: bytearray, seed: IntArray, end: int) -> tuple[IntArray, IntArray]:
    """Positions (steps, lanes) of the records after each seed, and their lengths; -1 for no length."""
    stop = np.append(seed[1:], end)
    words = np.ndarray((end + 1,), "<u8", data, 0, (1,))
    starts, lengths = [], []
    at = seed
    for step in range(_MOST_STEPS):
        raw = words[at]
        length = raw.astype(np.int64)
        length[raw > MAX_LENGTH] = -1
        starts.append(at)
        lengths.append(length)
        if step % 8 == 7 and np.all(at >= stop):
            break
        at = np.minimum(at + (length + 16), end)
    return np.stack(starts), np.stack(lengths)
