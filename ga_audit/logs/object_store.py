"""Logs in object stores: `s3://`, `gs://`, `az://`, `hf://` and whatever else fsspec has a backend for.

What looks like a log is copied into a private folder of this process, which ends with it; weights stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from ga_audit.errors import AuditError, UnreadableLog

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_OTHERS = frozenset({"http", "https", "wandb"})  # formats know what these are
_LARGEST = 4 << 30  # bytes; no log is larger


def is_remote(text: str) -> bool:
    """Whether a target names an object store; `file://` is one too, for what it is worth."""
    scheme = _SCHEME.match(text)
    return scheme is not None and scheme[1].lower() not in _OTHERS


def fetch(url: str, wanted: Callable[[str], bool]) -> Path:
    """A copy of a file, or of what is wanted below a folder.

    Parameters
    ----------
    url : `s3://bucket/runs`.
    wanted : whether a file of this name is worth opening; what the user names is always fetched.

    Raises
    ------
    AuditError
        no backend, no access, nothing there; with the package to install.
    """
    shown = re.sub(r"(?<=://)[^/@]*@", "", url)
    system, path = _system(url, shown)
    try:
        return _copied(system, path, wanted, _place(url) / (PurePosixPath(path).name or "store"), shown)
    except AuditError:
        raise
    except FileNotFoundError:
        raise UnreadableLog("there is nothing there", where=shown, remedy="Check the address.") from None
    except Exception as error:  # every backend raises errors of its own
        message = f"cannot be read: {type(error).__name__}: {str(error)[:200]}"
        raise UnreadableLog(message, where=shown, remedy="Check the address and your credentials.") from None


def _system(url: str, shown: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise AuditError(
            "needs fsspec", where=shown, remedy="pip install fsspec, and the backend of the store."
        ) from None
    try:
        system, path = fsspec.url_to_fs(url)
    except ImportError as error:
        raise AuditError(
            f"has no backend here: {error}", where=shown, remedy="pip install s3fs, gcsfs, adlfs ..."
        ) from None
    except ValueError:
        raise UnreadableLog(
            "is no kind of address that we know", where=shown, remedy="Give s3://, gs://, hf:// ..."
        ) from None
    return system, str(path)


def _copied(system: Any, path: str, wanted: Callable[[str], bool], place: Path, shown: str) -> Path:
    if system.isfile(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(path, str(place))
        return place
    found = system.find(path, detail=True)
    top = PurePosixPath(path)
    chosen = []
    for name, info in sorted(found.items()):
        inside = (
            PurePosixPath(name).relative_to(top) if PurePosixPath(name).is_relative_to(top) else PurePosixPath(name)
        )
        if wanted(inside.name) and ".." not in inside.parts and (info.get("size") or 0) <= _LARGEST:
            chosen.append((name, place / inside))
    if not chosen:
        what = "holds no logs" if found else "there is nothing there"
        raise UnreadableLog(what, where=shown, remedy="Check the address; a folder with logs is wanted.")
    for _, local in chosen:
        local.parent.mkdir(parents=True, exist_ok=True)
    system.get([name for name, _ in chosen], [str(local) for _, local in chosen])
    return place


@cache
def _place(url: str) -> Path:
    """A private folder for a target, removed at the end."""
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="ga-audit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
