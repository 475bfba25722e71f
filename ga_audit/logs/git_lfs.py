"""Pointers that git-lfs leaves in place of a file that was not fetched."""

from __future__ import annotations

from pathlib import Path

from ga_audit.errors import UnreadableLog

_BEGINNING = b"version https://git-lfs"


def is_pointer(data: bytes) -> bool:
    """Whether a file begins as a pointer."""
    return data[: len(_BEGINNING)] == _BEGINNING


def refuse_pointer(data: bytes, where: str) -> None:
    """Refuse a pointer in place of a log.

    Raises
    ------
    UnreadableLog
        the data are a pointer; says how to fetch the file.
    """
    if is_pointer(data):
        remedy = f"Fetch the content with `git lfs pull --include {Path(where).name}`."
        raise UnreadableLog("is a git-lfs pointer, not the log itself", where=where, remedy=remedy)
