"""Output that is there whole or not at all, and never in the place of what ga-audit did not write.

A directory carries a manifest, `ga-audit.json`, with the SHA-256 of each of its files; a single file carries a mark of
its format. Only what they identify is ever replaced.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ga_audit.errors import AuditError, RefusedToOverwrite, WrongUsage
from ga_audit.files.manifest import MANIFEST, entries, foreign, write_manifest

_SHOWN = 3  # names of files in a message
_REMEDY = "Give another place for the output; what is there stays as it is."
_FULL = frozenset(getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG"))
# the beginning or the end of a file that ga-audit wrote; of CSV and text it is the whole first line
_MARKS = (
    re.compile(rb"\x89PNG\r\n\x1a\n.{0,400}tEXtSoftware\x00ga-audit ", re.DOTALL),
    re.compile(rb"<\?xml .{0,2000}<cc:Agent>\s*<dc:title>ga-audit ", re.DOTALL),
    re.compile(rb"%PDF-.*/Creator \(ga-audit ", re.DOTALL),
    re.compile(rb'<!doctype html>.{0,600}<meta name="generator" content="ga-audit ', re.DOTALL),
    re.compile(rb'\{\s*"schema": "ga-audit-(scan|baseline|check)/1"'),
    re.compile(rb'\{\s*"\$schema": "[^"]{0,200}sarif[^"]{0,200}".{0,200}"driver": \{\s*"name": "ga-audit"', re.DOTALL),
    re.compile(rb'<\?xml[^>]{0,100}>\s*<testsuites>\s*<testsuite name="ga-audit"'),
    re.compile(rb"verdict,run,gradient_accumulation_steps,loss_factor,grad_norm_factor,group,why,source\r?\n"),
    re.compile(
        rb"\d+ runs? in \d+ groups?: "
        rb"(nothing to audit|\d+ (scaled|inconclusive|not read|healthy)(, \d+ (inconclusive|not read|healthy))*)\n"
    ),
)


Identity = tuple[int, int, int]  # device, inode, of a file the time of its content


@dataclass(frozen=True, slots=True)
class Draft:
    """A directory that is being written."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)  # what the manifest says besides the files

    def files(self) -> list[str]:
        """Its files, relative to it, sorted; with the manifest, which is written last."""
        return sorted({*entries(self.path)[0], MANIFEST})


@contextmanager
def new_directory(path: Path, *, schema: str, force: bool = False, inputs: Iterable[str] = ()) -> Iterator[Draft]:
    """A directory to write into, which becomes `path` when the block ends well and disappears when it does not.

    Parameters
    ----------
    path : where the output goes; its parent must be writable.
    schema : `ga-audit-NAME/1`, the schema of the manifest.
    force : an earlier output of ga-audit gives way, and only once the new one is whole.
    inputs : what the command reads; paths that do not exist here are passed over.

    Raises
    ------
    RefusedToOverwrite
        `path` exists and `force` is not set, it holds what ga-audit did not write, or another process wrote it
        in the meantime.
    WrongUsage
        `path` is an input, holds one, or is a folder that no output may be.
    """
    path = _named(path)
    old = check_directory(path, force=force, inputs=inputs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise _unwritable(error, path.parent) from None
    try:
        yield (draft := Draft(part))
        write_manifest(part, schema, draft.facts)
        part.chmod(0o755)
        for file in part.rglob("*"):
            if file.is_file():
                with file.open("rb") as f:
                    os.fsync(f.fileno())
        _publish(part, path, old)
    except OSError as error:
        if error.errno in _FULL:
            raise _unwritable(error, path.parent) from None
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_directory(path: Path, *, force: bool, inputs: Iterable[str] = ()) -> Identity | None:
    """Refuse an output directory that may not be written; otherwise the identity of the one that gives way, or None.

    Raises
    ------
    RefusedToOverwrite, WrongUsage
        as of `new_directory`.
    """
    path = _named(path)
    _check_inputs(path, inputs)
    if not os.path.lexists(path):
        return None
    if path.is_symlink():
        raise RefusedToOverwrite(f"is a symbolic link to {os.readlink(path)}", where=str(path), remedy=_REMEDY)
    if not path.is_dir():
        raise RefusedToOverwrite("exists already, and is not a directory", where=str(path), remedy=_REMEDY)
    _check_place(path)
    if strangers := foreign(path):
        message = f"exists already, and holds what ga-audit did not write: {_listed(strangers)}"
        raise RefusedToOverwrite(message, where=str(path), remedy=_REMEDY)
    if not force:
        raise _exists(path)
    return _identity(path)


def _check_place(path: Path) -> None:
    """Refuse a folder that people live and work in, and each above it."""
    real = Path(os.path.realpath(path))
    for text, what in ((os.getcwd(), "the working directory"), (os.path.expanduser("~"), "your home directory")):
        place = Path(os.path.realpath(text))
        if real == place or real in place.parents:
            verb = "is" if real == place else "holds"
            raise WrongUsage(f"{verb} {what}", where=str(path), remedy=_REMEDY)


def _publish(part: Path, path: Path, old: Identity | None) -> None:
    """Rename into place; the old output is set aside first, removed last, and put back where anything fails."""
    if old is None:
        try:
            part.rename(path)  # fails where there is a file, a link, or a directory that holds something
        except OSError as error:
            if os.path.lexists(path):
                raise _overtaken(path) from None
            raise _unwritable(error, path.parent) from None
        return
    if not os.path.lexists(path) or _identity(path) != old:
        raise _overtaken(path)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", suffix=".old", dir=path.parent))
    kept = aside / "old"
    try:
        try:
            path.rename(kept)
        except FileNotFoundError:
            raise _overtaken(path) from None
        # no one can reach it by its path any more: what is seen now is what is removed
        if _identity(kept) != old:
            raise _overtaken(path)
        if strangers := foreign(kept):
            message = f"has changed while the new output was written: {_listed(strangers)}"
            raise RefusedToOverwrite(message, where=str(path), remedy=_REMEDY)
        try:
            part.rename(path)
        except OSError as error:
            raise (_overtaken(path) if os.path.lexists(path) else _unwritable(error, path.parent)) from None
    except BaseException:
        if kept.exists():
            _put_back(kept, path)
        raise
    finally:
        with suppress(OSError):
            aside.rmdir()  # empty, where the old one was put back
    shutil.rmtree(aside, ignore_errors=True)


def _put_back(kept: Path, path: Path) -> None:
    try:
        kept.rename(path)
    except OSError:
        message = "another process wrote it at the same time"
        raise RefusedToOverwrite(message, where=str(path), remedy=f"The earlier output is in {kept}.") from None


# --- single files ----------------------------------------------------------------------------------------------------


@contextmanager
def new_file(path: Path, *, force: bool = False, inputs: Iterable[str] = ()) -> Iterator[Path]:
    """A path to write a file at, of the same suffix, which becomes `path` when the block ends well.

    Parameters
    ----------
    path : where the file goes.
    force : a file that ga-audit wrote gives way.
    inputs : what the command reads; paths that do not exist here are passed over.

    Raises
    ------
    RefusedToOverwrite
        `path` exists and `force` is not set, ga-audit did not write it, or another process wrote it in the meantime.
    WrongUsage
        `path` is an input.
    """
    inputs = tuple(inputs)
    old = check_file(path, force=force, inputs=inputs)
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part{path.suffix[:20]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)
    except OSError as error:
        raise _unwritable(error, path.parent) from None
    try:
        yield part
        with part.open("rb") as f:
            os.fsync(f.fileno())
        if old is None:
            _place(part, path)
        elif check_file(path, force=force, inputs=inputs) != old:
            raise _overtaken(path)
        else:
            part.replace(path)
    except OSError as error:
        raise _unwritable(error, path.parent) from None
    finally:
        part.unlink(missing_ok=True)


def check_file(path: Path, *, force: bool, inputs: Iterable[str] = ()) -> Identity | None:
    """Refuse an output file that may not be written; otherwise the identity of the one that gives way, or None.

    Raises
    ------
    RefusedToOverwrite, WrongUsage
        as of `new_file`.
    """
    _check_inputs(path, inputs)
    if not os.path.lexists(path):
        return None
    if path.is_symlink():
        raise RefusedToOverwrite(f"is a symbolic link to {os.readlink(path)}", where=str(path), remedy=_REMEDY)
    if not path.is_file():
        raise RefusedToOverwrite("exists already, and is not a file", where=str(path), remedy=_REMEDY)
    if not _is_ours(path):
        raise RefusedToOverwrite("exists already, and ga-audit did not write it", where=str(path), remedy=_REMEDY)
    if not force:
        raise _exists(path)
    return _identity(path)


def _is_ours(file: Path) -> bool:
    """Whether the file carries the mark of its format."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return any(mark.match(content) for mark in _MARKS)


def _place(part: Path, path: Path) -> None:
    """Give a finished file its name, unless the name is taken."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise _overtaken(path) from None
    except OSError:  # a file system without links: the name is taken first, the content follows at once
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise _overtaken(path) from None
        part.replace(path)


# --- shared ----------------------------------------------------------------------------------------------------------


def _check_inputs(path: Path, inputs: Iterable[str]) -> None:
    """Refuse an output that is an input or holds one, or that exists within one."""
    real, exists = Path(os.path.realpath(path)), os.path.lexists(path)
    for text in dict.fromkeys(inputs):
        here = Path(text.removeprefix("file://"))
        try:
            is_local = here.exists()
            is_same = is_local and path.exists() and os.path.samefile(here, path)
        except (OSError, ValueError):  # an address is no file name
            continue
        if not is_local:
            continue
        read = Path(os.path.realpath(here))
        if is_same or read == real:
            raise WrongUsage(f"the output would replace the input {text}", where=str(path), remedy=_REMEDY)
        if real in read.parents:
            raise WrongUsage(f"the output would replace a folder of the input {text}", where=str(path), remedy=_REMEDY)
        if exists and read in real.parents:
            message = f"exists already, within the input {text}, where only a new output is written"
            raise WrongUsage(message, where=str(path), remedy=_REMEDY)


def _named(path: Path) -> Path:
    """The path, ending in the name of the folder: that of `runs/..` has another parent than it seems."""
    return Path(os.path.realpath(path)) if path.name == ".." else path


def _identity(path: Path) -> Identity:
    found = path.lstat()
    # the inode of a file that was replaced is soon another's
    return found.st_dev, found.st_ino, 0 if path.is_dir() else found.st_mtime_ns


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _exists(path: Path) -> RefusedToOverwrite:
    return RefusedToOverwrite("exists already", where=str(path), remedy="Give another -o, or --force to replace it.")


def _overtaken(path: Path) -> RefusedToOverwrite:
    return RefusedToOverwrite(
        "another process wrote it at the same time", where=str(path), remedy="Look at it, or give another -o."
    )


def _unwritable(error: OSError, place: Path) -> AuditError:
    return AuditError(
        f"cannot write there: {error.strerror}", where=str(place), remedy="Give a writable place with -o."
    )
