"""A path that does not exist: what was probably meant, and whether a text can be anything but a path."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from ga_audit.errors import UnreadableLog
from ga_audit.logs.formats._wandb import address as wandb_address

_LISTED = 5_000  # names of a directory that are compared
_LOOSE, _STRICT = 0.6, 0.8  # similarity: worth a suggestion; surely a slip of the keyboard
_EXPLICIT = re.compile(r"[a-z][a-z0-9+.-]*://|[^?]*\?", re.IGNORECASE)  # a scheme or a query


def is_path(text: str) -> bool:
    """Whether a text that could be an address is a path: its first part exists, or all of it nearly exists."""
    if _EXPLICIT.match(text):
        return False
    return os.path.lexists(Path(text).parts[0]) or _resolve(text, _STRICT)[1]


def find_similar(text: str) -> str | None:
    """The existing path nearest to one that does not exist, or None."""
    found, _ = _resolve(text, _LOOSE)
    return found


def explain(text: str) -> UnreadableLog:
    """The error for a path that does not exist."""
    if "://" in text:
        remedy = "Give the path of a log, a run directory or a tree, or a W&B run as entity/project/id."
    elif (near := find_similar(text)) is not None:
        remedy = f"Did you mean {near}?"
    else:
        remedy = "Check the path: give a log, a run directory or a tree, or a W&B run as entity/project/id."
    if wandb_address.parse(text) is not None:  # only the names on disk make it a path
        remedy += f" A W&B run of this name is wandb://{text}."
    return UnreadableLog("no such file or directory", where=text, remedy=remedy)


def _resolve(text: str, cutoff: float) -> tuple[str | None, bool]:
    """The path with each part that does not exist replaced by its nearest sibling, and whether no part is left over.

    None where the first part that does not exist has no near sibling.
    """
    here, replaced = Path(), False
    for part in Path(text).parts:
        if os.path.lexists(here / part):
            here /= part
            continue
        near = _find_nearest(here, part, cutoff)
        if near is None:
            return (str(here) if replaced else None), False
        here, replaced = here / near, True
    return (str(here) if replaced else None), replaced


def _find_nearest(folder: Path, name: str, cutoff: float) -> str | None:
    from difflib import get_close_matches

    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, _LISTED))
    except (OSError, ValueError):  # no directory, no right to read it, or a null byte
        return None
    by_folded = {other.casefold(): other for other in names}
    close = get_close_matches(name.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[close[0]] if close else None
