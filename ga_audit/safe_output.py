"""Output that is there whole or not at all: a temporary sibling, then a rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ga_audit.errors import AuditError, RefusedToOverwrite


@contextmanager
def new_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A directory to write into, which becomes `path` when the block ends well and disappears when it does not.

    Parameters
    ----------
    path : where the output goes; its parent must be writable.
    force : an existing output gives way, and only once the new one is whole.

    Raises
    ------
    RefusedToOverwrite
        `path` exists and `force` is not set.
    """
    if (path.exists() or path.is_symlink()) and not force:
        raise RefusedToOverwrite("exists already", where=str(path), remedy="Give another -o, or --force to replace it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise AuditError(
            f"cannot write there: {error.strerror}", where=str(path.parent), remedy="Give a writable place with -o."
        ) from None
    try:
        yield part
        part.chmod(0o755)
        for file in part.rglob("*"):
            if file.is_file():
                with file.open("rb") as f:
                    os.fsync(f.fileno())
        _swap(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _swap(part: Path, path: Path) -> None:
    """Rename into place; an old output is moved aside first and removed last."""
    if not (path.exists() or path.is_symlink()):
        part.rename(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", suffix=".old", dir=path.parent))
    path.rename(aside / "old")
    part.rename(path)
    shutil.rmtree(aside, ignore_errors=True)


def inside(top: Path, name: str) -> Path:
    """A place below `top` for a name that came from a log: no `..`, no absolute path, nothing hidden."""
    parts = [p.strip() for p in name.replace("\\", "/").split("/")]
    safe = ["".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in p)[:120] for p in parts]
    kept = [p for p in safe if p and p not in {".", ".."}]
    kept = [p.lstrip(".") or "_" for p in kept] or ["run"]
    return top.joinpath(*kept)
