"""What reading and rewriting TensorBoard events share beyond their layout."""

from __future__ import annotations

import struct

import numpy as np

from ga_audit.formats._protobuf import delimited

PROVENANCE_TAG = "ga_audit/text_summary"


def scalar_tensor(number: float, *, double: bool) -> bytes:
    """A TensorProto of rank 0: dtype, an empty shape, float_val or double_val."""
    if double:
        return b"\x08\x02\x12\x00" + delimited(6, struct.pack("<d", number))
    with np.errstate(over="ignore"):
        return b"\x08\x01\x12\x00" + delimited(5, np.float32(number).tobytes())
