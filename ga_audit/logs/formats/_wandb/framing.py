"""The framing of a `.wandb` file: LevelDB log blocks of 32 KiB that hold protobuf records.

A chunk begins with its checksum, length and type; the checksum is plain CRC-32 of the type byte and the data. Seven bytes
of file header count in the first block.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from ga_audit.run import Note, NoteCode

HEADER = b":W&B\xe1\xbe\x00"
_BLOCK = 32768
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def payloads(data: bytes, notes: list[Note], where: str) -> Iterator[bytes]:
    """Whole records; a bad chunk ends its block, as in W&B's own reader, and a note says so."""
    unpack, crc32, size, overhead = _CHUNK.unpack_from, zlib.crc32, len(data), _CHUNK.size
    parts: list[bytes] = []
    at, bad, first_bad = len(HEADER), 0, 0
    while at < size:
        end = at - at % _BLOCK + _BLOCK  # of the block
        if end - at < overhead:
            at = end
            continue
        body = at + overhead
        if body > size:
            notes.append(Note(NoteCode.TRUNCATED, where=where, facts={"byte": at}))
            return
        crc, length, kind = unpack(data, at)
        after = body + length
        if size < after <= end:
            notes.append(Note(NoteCode.TRUNCATED, where=where, facts={"byte": at, "size": size}))
            return
        if after > end or not _FULL <= kind <= _LAST or crc32(data[at + 6 : after]) != crc:
            bad += 1
            first_bad = first_bad or at
            parts = []
            at = end
            continue
        at = after
        if kind == _FULL:
            yield data[body:after]
        elif kind == _FIRST:
            parts = [data[body:after]]
        elif parts:
            parts.append(data[body:after])
            if kind == _LAST:
                yield b"".join(parts)
                parts = []
    if parts:
        notes.append(Note(NoteCode.TRUNCATED, where=where))
    if bad:
        place = f"{where}, byte {first_bad}"
        notes.append(Note(NoteCode.WRONG_CHECKSUM, where=place, count=bad, facts={"unit": "block"}))
