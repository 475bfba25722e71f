"""What reading and rewriting TensorBoard events share beyond their layout."""

from __future__ import annotations

from ga_audit.logs.formats._protobuf import head

PROVENANCE_TAG = "ga_audit/text_summary"


def tensor_head(*, double: bool) -> bytes:
    """A TensorProto of rank 0 up to the bytes of its number: dtype, an empty shape, float_val or double_val."""
    return b"\x08\x02\x12\x00" + head(6, 8) if double else b"\x08\x01\x12\x00" + head(5, 4)
