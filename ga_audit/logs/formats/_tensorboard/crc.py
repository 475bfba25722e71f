"""CRC-32C of many equal-sized records at once, by table lookups per byte column.

A CRC is linear over GF(2): the CRC of a record is that of a record with some bytes zeroed, XORed with
one table entry for each of those bytes. Records that differ in few bytes need few lookups.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import google_crc32c
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # reflected
_SMALL = 1 << 16


def masked_crc(data: bytes | bytearray) -> int:
    """The CRC as TFRecord stores it: rotated and shifted."""
    crc: int = google_crc32c.value(bytes(data))
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def mask(crc: U32) -> U32:
    """CRCs as TFRecord stores them (n,)."""
    return (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(MASK_DELTA)


def unmask(stored: U32) -> U32:
    """Plain CRCs of stored ones (n,)."""
    rotated = stored - np.uint32(MASK_DELTA)
    return rotated >> np.uint32(17) | rotated << np.uint32(15)


def _byte_table() -> U32:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_tables: list[U32] = [_byte_table()]
_growing = threading.Lock()


def table(distance: int) -> U32:
    """What each value of a byte adds to the CRC (256,) when `distance` bytes follow it."""
    if len(_tables) <= distance:
        with _growing:
            while len(_tables) <= distance:
                last = _tables[-1]
                _tables.append(_tables[0].take(last & 0xFF) ^ last >> np.uint32(8))
    return _tables[distance]


def contribution(rows: U8, columns: Sequence[int], size: int) -> U32:
    """What byte columns of rows (n, >= size) add to the CRCs (n,) of their first `size` bytes."""
    total = np.zeros(len(rows), np.uint32)
    for column in columns:
        total ^= table(size - 1 - column).take(rows[:, column])
    return total


_small: list[U32] = []  # the masked CRCs of all lengths below 64 KiB, made when first needed


def length_crcs(lengths: NDArray[np.int64]) -> U32:
    """Masked CRCs of record lengths below 2**31, each as eight bytes; of any shape."""
    if not _small:
        _small.append(_length_crcs(np.arange(_SMALL)))
    crcs = _small[0].take(lengths, mode="clip")
    large = lengths >= _SMALL
    if large.any():
        crcs[large] = _length_crcs(lengths[large])
    return crcs


def _length_crcs(lengths: NDArray[np.int64]) -> U32:
    rows = lengths.astype("<u4").view(np.uint8).reshape(-1, 4)
    zero = np.uint32(google_crc32c.value(bytes(8)))
    return mask(contribution(rows, range(4), 8) ^ zero)
