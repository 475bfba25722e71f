"""A folder of its own for each run of an output, from a name that came from a log."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from ga_audit.files.manifest import MANIFEST

_PART_BYTES, _PATH_BYTES, _DIGITS = 100, 400, 8
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
_OWN = frozenset({MANIFEST, "diagnosis.md"})


def folders(names: Mapping[str, str]) -> dict[str, PurePosixPath]:
    """A relative folder for each name that came from a log; none is another's or lies within another's.

    No `..`, no absolute path, nothing hidden, nothing that a file system folds into another name. A name that had to be
    changed, or that would share a folder, ends in a part of its SHA-256.

    Parameters
    ----------
    names : by id: the name; ids tell apart what has one name.
    """
    count = Counter(names.values())
    safe = {key: _safe(name) for key, name in names.items()}
    hashes = {
        key: hashlib.sha256(
            (name if count[name] == 1 else f"{name}\0{key}").encode("utf-8", "surrogatepass")
        ).hexdigest()
        for key, name in names.items()
    }
    digits = {key: 0 if str(safe[key]) == name else _DIGITS for key, name in names.items()}
    while True:
        found = {
            key: path.with_name(f"{path.name}-{hashes[key][: digits[key]]}") if digits[key] else path
            for key, path in safe.items()
        }
        folded = {key: _folded(path) for key, path in found.items()}
        taken = Counter(folded.values())
        holders = {parent for path in folded.values() for parent in path.parents}
        clashing = [key for key, path in folded.items() if taken[path] > 1 or path in holders]
        if not clashing:
            return found
        for key in clashing:
            digits[key] += _DIGITS


def _safe(name: str) -> PurePosixPath:
    """A relative path of printable, portable parts; of a long one, the end."""
    parts = [_safe_part(part) for part in unicodedata.normalize("NFC", name).replace("\\", "/").split("/")]
    parts = [part for part in parts if part] or ["run"]
    if parts[0].casefold() in _OWN:
        parts[0] = f"_{parts[0]}"
    while sum(len(part.encode()) + 1 for part in parts) > _PATH_BYTES:
        parts.pop(0)
    return PurePosixPath(*parts)


def _safe_part(part: str) -> str:
    shown = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in part)
    # what is left of a character that the cut went through goes
    cut = shown.encode()[:_PART_BYTES].decode("utf-8", "ignore")
    # dots and blanks may alternate at both ends
    kept = re.sub(r"^[.\s]+|[.\s]+$", "", cut)
    return f"_{kept}" if _DEVICES.match(kept) else kept


def _folded(path: PurePosixPath) -> PurePosixPath:
    """The same for names that a file system may take for one: of other case, composed otherwise."""
    return PurePosixPath(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", str(path)).casefold()))
