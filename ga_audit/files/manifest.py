"""The list of what ga-audit wrote into a directory, by which it knows it again: `ga-audit.json`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ga_audit._version import __version__

MANIFEST = "ga-audit.json"
LINK = "a link"


def foreign(directory: Path) -> list[str]:
    """What a directory holds that ga-audit did not write there as it is: other files, changed ones, links, folders."""
    files, folders = entries(directory)
    manifest = _manifest(directory)
    if manifest is None:
        return [*files, *folders]
    hashes, known, links = manifest
    found = []
    for name, kind in files.items():
        if name == MANIFEST:
            continue
        if kind == LINK and links.get(name) == os.readlink(directory / name):
            continue
        if kind != "file":
            found.append(f"{name} ({kind})")
        elif name not in hashes:
            found.append(name)
        elif _digest_or_none(directory / name) != hashes[name]:
            found.append(f"{name} (changed)")
    return found + [f"{name}/" for name in folders if name not in known]


def write_manifest(directory: Path, schema: str, facts: Mapping[str, Any]) -> None:
    """`ga-audit.json`: the schema, the facts, and the SHA-256 of each file that the directory holds."""
    files, folders = entries(directory)
    content = {
        "schema": schema,
        "version": __version__,
        **facts,
        "files": {name: digest(directory / name) for name, kind in sorted(files.items()) if kind == "file"},
        "folders": sorted(folders),
        # W&B's SDK leaves one, to the run that it wrote last
        "links": {name: os.readlink(directory / name) for name, kind in sorted(files.items()) if kind == LINK},
    }
    content["files"].pop(MANIFEST, None)
    (directory / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def add_to_manifest(directory: Path, below: Iterable[Path]) -> None:
    """List what has come since into some folders of an output: `wandb sync` leaves files beside those that it sends."""
    manifest = directory / MANIFEST
    content = json.loads(manifest.read_text("utf-8"))
    files, folders = entries(directory)
    tops = [top.relative_to(directory).as_posix() for top in below]
    new = [name for name in (*files, *folders) if any(name.startswith(f"{top}/") for top in tops)]
    for name in new:
        if files.get(name) == "file":
            content["files"].setdefault(name, digest(directory / name))
        elif name not in files and name not in content["folders"]:
            content["folders"].append(name)
    part = manifest.with_name(f".{MANIFEST}.part")
    part.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    part.replace(manifest)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _digest_or_none(file: Path) -> str | None:
    try:
        return digest(file)
    except OSError:
        return None


def _manifest(directory: Path) -> tuple[dict[str, str], frozenset[str], dict[str, str]] | None:
    """Hashes by file, folders, and targets by link, of a manifest of ours."""
    file = directory / MANIFEST
    try:
        if file.is_symlink():
            return None
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not str(content.get("schema")).startswith("ga-audit-"):
        return None
    hashes, folders, links = (content.get(key) for key in ("files", "folders", "links"))
    if not isinstance(hashes, dict) or not isinstance(folders, list) or not isinstance(links, dict):
        return None
    return hashes, frozenset(name for name in folders if isinstance(name, str)), links


def entries(directory: Path) -> tuple[dict[str, str], list[str]]:
    """Each entry that is no folder with its kind, and the folders, relative to `directory`; links are not followed."""
    files: dict[str, str] = {}
    folders: list[str] = []
    todo = [PurePosixPath()]
    while todo:
        here = todo.pop()
        try:
            with os.scandir(directory / here) as scanned:
                found = sorted(scanned, key=lambda entry: entry.name)
        except OSError:
            files[f"{here}/"] = "cannot be read"
            continue
        for entry in found:
            name = here / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(str(name))
                todo.append(name)
            elif entry.is_symlink():
                files[str(name)] = LINK
            else:
                files[str(name)] = "file" if entry.is_file(follow_symlinks=False) else "a special file"
    return files, folders
