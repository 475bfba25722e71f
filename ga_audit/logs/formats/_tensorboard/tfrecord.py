"""TFRecord framing of TensorBoard event files, with CRC-32C checked.

A record is: length (u64), masked CRC of the length (u32), payload, masked CRC of the payload (u32), little endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_MAX_LENGTH = 1 << 31


def masked_crc(data: bytes) -> int:
    """The CRC as TFRecord stores it: rotated and shifted, so that a CRC of data that holds CRCs stays a good one."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


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


@contextmanager
def mapped(file: Path) -> Iterator[bytes | mmap.mmap]:
    """A file's bytes without reading them all into memory."""
    with file.open("rb") as f:
        if not file.stat().st_size:
            yield b""  # nothing can be mapped
            return
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def records(data: bytes | mmap.mmap, damage: Damage) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, payload) of every good record; what is wrong is counted in `damage`, and reading goes on."""
    at, size = 0, len(data)
    while at < size:
        if size - at < 12:
            damage.truncated_at = at
            return
        length, check = _HEADER.unpack_from(data, at)
        if masked_crc(data[at : at + 8]) != check or length > _MAX_LENGTH:
            following = _resync(data, at + 1)
            damage.first = at if damage.first is None else damage.first
            if following is None:
                damage.skipped_bytes += size - at
                return
            damage.skipped_bytes += following - at
            at = following
            continue
        end = at + 12 + length + 4
        if end > size:
            damage.truncated_at = at
            return
        payload = data[at + 12 : end - 4]
        if _FOOTER.unpack_from(data, end - 4)[0] == masked_crc(payload):
            yield at, end, payload
        else:
            damage.wrong_payloads += 1
            damage.first = at if damage.first is None else damage.first
        at = end


def _resync(data: bytes | mmap.mmap, at: int) -> int | None:
    """The next byte at which a length and its CRC agree: lengths below 16 MiB have five zero bytes at their end."""
    while True:
        zeros = data.find(b"\x00\x00\x00\x00\x00", at + 1)
        if zeros < 0:
            return None
        end = zeros + 5
        while data[end : end + 4096] == bytes(4096):
            end += 4096  # a preallocated tail: no length lies inside a run of zeros
        for start in range(max(zeros - 3, at), zeros + 1):
            if start + 12 <= len(data):
                length, check = _HEADER.unpack_from(data, start)
                if 0 < length <= _MAX_LENGTH and masked_crc(data[start : start + 8]) == check:
                    return start
        at = max(zeros, end - 13)
