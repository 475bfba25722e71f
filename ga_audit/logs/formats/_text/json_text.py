"""JSON as Python's trainers write it: NaN and Infinity, numbers as text; errors with line and column."""

from __future__ import annotations

import json
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import git_lfs

_BLANK = b"\x00 \t\r\n"
_LARGE = 1 << 20  # bytes, from which on a faster parser is worth its import


def parse(data: bytes) -> Any:
    """The value of JSON text, with `NaN`, `Infinity` and integers of any length, as `json.loads` gives it.

    Raises
    ------
    ValueError, RecursionError
        as `json.loads` does: broken JSON, no UTF-8, nested too deep.
    """
    if len(data) >= _LARGE:
        try:
            from pydantic_core import from_json

            return from_json(data)
        except (ImportError, ValueError):  # what it refuses is left to `json`, and so is the message
            pass
    return json.loads(data.decode("utf-8-sig"))


def load(data: bytes, where: str) -> Any:
    """Parse a whole file.

    Raises
    ------
    UnreadableLog
        a git-lfs pointer, an empty file, binary content, broken JSON (with line and column).
    """
    git_lfs.refuse_pointer(data, where)
    if not data[:4096].strip(_BLANK) and not data.strip(_BLANK):
        raise UnreadableLog("the file is empty", where=where, remedy="Give the log of a run that has logged a line.")
    try:
        return parse(data)
    except UnicodeDecodeError as error:
        raise UnreadableLog(
            f"is no UTF-8 text (byte {error.start})", where=where, remedy="Give the log file itself, not a binary."
        ) from None
    except RecursionError:
        raise UnreadableLog("is nested too deep", where=where, remedy="Give a trainer's log.") from None
    except json.JSONDecodeError as error:
        cut = " (the file seems cut off)" if error.pos >= len(data.rstrip()) - 2 else ""
        raise UnreadableLog(
            f"broken JSON: {error.msg}{cut}",
            where=f"{where}:{error.lineno}:{error.colno}",
            remedy="Give an older checkpoint's file, or the console output.",
        ) from None
    except ValueError:  # Python refuses integers of more than 4,300 digits
        raise UnreadableLog(
            "holds an integer of thousands of digits", where=where, remedy="Give the file as the trainer wrote it."
        ) from None
