"""What went wrong with one log, as a failure that names it: no single file ends an audit."""

from __future__ import annotations

from pathlib import Path

from ga_audit.errors import AuditError, UnreadableLog
from ga_audit.run import ReadFailure

_SKIPPED = "The file was skipped, and the rest is judged"
_LONGEST = 200  # characters of an error's own text, which may quote the log


def of_error(path: str, error: Exception, *, reader: str = "") -> ReadFailure:
    """The failure that stands for a log in the results.

    Parameters
    ----------
    path : the log.
    error : what was raised; an `AuditError` keeps its own words.
    reader : the format that was at work, where one was.
    """
    return ReadFailure(path, error if isinstance(error, AuditError) else _in_words(path, error, reader))


def _in_words(path: str, error: Exception, reader: str) -> UnreadableLog:
    if isinstance(error, OSError) and isinstance(error.filename, str):
        path = error.filename  # of a log of several files, the one that it was
    if isinstance(error, FileNotFoundError):
        remedy = f"{_SKIPPED}. Run the audit again when nothing is being written or deleted there."
        return UnreadableLog("vanished while it was read", where=path, remedy=remedy)
    if isinstance(error, PermissionError):
        return UnreadableLog("permission denied", where=path, remedy=f"{_SKIPPED}. Make it readable, or leave it out.")
    if isinstance(error, OSError):
        remedy = f"{_SKIPPED}. Check that the file exists and may be read."
        return UnreadableLog(error.strerror or str(error) or type(error).__name__, where=path, remedy=remedy)
    if isinstance(error, MemoryError):
        remedy = f"{_SKIPPED}. Read it on a machine with more memory."
        return UnreadableLog("does not fit into memory", where=path, remedy=remedy)
    if isinstance(error, RecursionError):
        return UnreadableLog("is nested too deep", where=path, remedy=f"{_SKIPPED}. Give a log that a trainer wrote.")
    text = str(error)[:_LONGEST]
    message = f"cannot be read{f' as {reader}' if reader else ''}: {type(error).__name__}{f': {text}' if text else ''}"
    remedy = f"{_SKIPPED}. If a trainer wrote it, please report this as a defect of ga-audit{_place(error)}."
    return UnreadableLog(message, where=path, remedy=remedy)


def _place(error: Exception) -> str:
    """` (formats/table.py, line 56)`: the innermost line of ours that the error went through."""
    import traceback

    package = Path(__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(package):
            return f" ({file.relative_to(package).as_posix()}, line {frame.lineno})"
    return ""
