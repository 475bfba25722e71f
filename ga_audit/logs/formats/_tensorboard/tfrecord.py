"""TFRecord framing of TensorBoard event files, with CRC-32C checked.

A record is: length (u64), masked CRC of the length (u32), payload, masked CRC of the payload (u32), little endian.
Files are read in chunks, not mapped: a file that is cut while it is read must not end the process.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ga_audit.errors import UnreadableLog
from ga_audit.logs.formats._tensorboard.crc import masked_crc
from ga_audit.logs.formats._tensorboard.frames import PAD, Frames, find_frames

CHUNK = 1 << 23

_FOOTER = struct.Struct("<I")


def frame(payload: bytes) -> bytes:
    """One record."""
    length = struct.pack("<Q", len(payload))
    return b"".join((length, _FOOTER.pack(masked_crc(length)), payload, _FOOTER.pack(masked_crc(payload))))


@dataclass(slots=True)
class Damage:
    """What was lost, and where."""

    wrong_payloads: int = 0  # records whose payload fails its CRC
    skipped_bytes: int = 0  # between a broken length and the next good one
    truncated_at: int | None = None  # byte at which the last, unfinished record begins
    first: int | None = None  # byte of the first damage

    def at(self, byte: int) -> None:
        """Keep the place of the first damage."""
        self.first = byte if self.first is None else min(self.first, byte)


@dataclass(slots=True)
class Chunk:
    """Bytes of a file from `base` on, and the records in them."""

    data: bytearray
    base: int
    frames: Frames
    have: int  # bytes of `data` that are the file's
    last: bool  # whether the file ends with them


@dataclass(slots=True)
class Chunks:
    """Reads a file in chunks that end with a whole record; can go on where it ended."""

    offset: int = 0  # of the first byte that is not in a whole record yet
    size: int = 0  # of the file when it was last read to its end
    skipped: int = 0  # bytes of the gaps that are closed
    first_gap: int | None = None
    lost: int | None = None  # begin of the gap that is open
    chunk: int = CHUNK

    def of(self, file: BinaryIO) -> Iterator[Chunk]:
        """The chunks from `offset` to the end of the file.

        Raises
        ------
        UnreadableLog
            the file is shorter than what has been read of it.
        """
        ahead = file.seek(0, io.SEEK_END) - self.offset
        if ahead < 0:
            raise UnreadableLog(
                "is shorter than what was read before", where=str(getattr(file, "name", "event file")),
                remedy="Read it again from its beginning.",
            )  # fmt: skip
        file.seek(self.offset)
        have, whole = 0, min(self.chunk, ahead + 1)  # the byte too many shows that the file ends
        data = bytearray(whole + PAD)
        while True:
            have += _fill(file, data, have, whole)
            lost = None if self.lost is None else self.lost - self.offset
            frames = find_frames(data, 0, have, lost)
            self._keep(frames)
            last = have < whole
            yield Chunk(data, self.offset, frames, have, last)
            self.offset += frames.stop
            left = have - frames.stop
            if last:
                self.size = self.offset + left
                return
            rest = data[frames.stop : have]
            # by doubling: a length of 2 GiB costs no more than the file has
            larger = max(self.chunk, min(frames.needed, 2 * whole))
            if larger > whole:
                whole, data = larger, bytearray(larger + PAD)
            data[:left] = rest
            have = left

    def _keep(self, frames: Frames) -> None:
        for begin, end in frames.gaps:
            self.skipped += end - begin
        begins = [begin for begin, _ in frames.gaps] + ([] if frames.lost is None else [frames.lost])
        if begins and self.first_gap is None:
            self.first_gap = self.offset + begins[0]
        self.lost = None if frames.lost is None else self.offset + frames.lost

    def damage(self) -> Damage:
        """What the framing has lost so far."""
        damage = Damage(skipped_bytes=self.skipped, first=self.first_gap)
        if self.lost is not None:
            damage.skipped_bytes += self.size - self.lost
        elif self.offset < self.size:
            damage.truncated_at = self.offset
        return damage


def _fill(file: BinaryIO, data: bytearray, at: int, end: int) -> int:
    """Read until `data[at:end]` is full or the file ends."""
    view, begin = memoryview(data), at
    while at < end:
        count = file.readinto(view[at:end])  # type: ignore[attr-defined]
        if not count:
            break
        at += count
    return at - begin
