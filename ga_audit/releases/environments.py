"""Isolated environments for releases of a package, with the torch that is there already."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ga_audit.errors import EngineFailed
from ga_audit.files.cache import cache_dir
from ga_audit.releases.packages import install_environment, without_dependencies

INSTALL_SECONDS = 600
LONGEST_NAME = 120  # file systems hold 255 bytes, Windows 260 characters of a whole path
READY = "ga-audit-ready"

# Runs under the interpreter that has torch: its own version, then the top-level files of torch and of all that it needs.
_CLOSURE = """
import importlib.metadata as m, re, sys
print(sys.version, m.version("torch"))
seen, todo = {}, ["torch"]
while todo:
    name = re.sub(r"[-_.]+", "-", re.match(r"[\\w.-]+", todo.pop())[0]).lower()
    if name in seen or name == "numpy":
        continue
    try:
        d = m.distribution(name)
    except m.PackageNotFoundError:
        continue
    seen[name] = d
    todo += [r for r in d.requires or () if "extra ==" not in r]
for d in seen.values():
    for top in sorted({f.parts[0] for f in d.files or ()} - {"..", "__pycache__"}):
        print(d.locate_file(top))
"""


def prepare(requirements: tuple[str, ...], *, torch_python: str = sys.executable, cache: Path | None = None) -> str:
    """The interpreter of an environment with `requirements`; made at the first call, cached afterwards.

    Raises
    ------
    EngineFailed
        torch is not there, or a release cannot be installed; says the installer's last line.
    """
    listing = _run([torch_python, "-c", _CLOSURE], "cannot list torch's files").stdout
    # another torch, or one in another place, is another environment
    name = _name((*requirements, hashlib.sha256(listing.encode()).hexdigest()[:8]))
    place = (cache or cache_dir("environments")) / name
    if not (place / READY).is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        # made aside and renamed when it is whole: another `bisect` may be making the same one
        with tempfile.TemporaryDirectory(prefix=f".{name[:40]}.", dir=place.parent, ignore_cleanup_errors=True) as part:
            _make(Path(part) / "environment", requirements, torch_python, listing.splitlines()[1:])
            if not (place / READY).is_file():
                shutil.rmtree(place, ignore_errors=True)  # half-made
                (Path(part) / "environment").rename(place)
    return str(_python(place))


def _python(place: Path) -> Path:
    return place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _make(place: Path, requirements: tuple[str, ...], torch_python: str, torch_files: Sequence[str]) -> None:
    python = _python(place)
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        _run([uv, "venv", "-q", "--python", torch_python, str(place)], "cannot make an environment")
        install = [uv, "pip", "install", "-q", "--python", str(python)]
    else:
        _run([torch_python, "-m", "venv", str(place)], "cannot make an environment")
        install = [str(python), "-m", "pip", "install", "-q"]
    overlay = _overlay_torch(place, python, torch_files)
    # what torch brought along (its Triton) stays as it is
    plain = [r for r in requirements if not without_dependencies(r) and not (overlay / r).exists()]
    failure = f"cannot install {' '.join(requirements)}"
    _run([*install, *plain, "numpy", "psutil"], failure)
    if torch_bound := [r for r in (*requirements, "accelerate") if without_dependencies(r)]:
        named = {r.partition("==")[0]: r for r in reversed(torch_bound)}
        _run([*install, "--no-deps", *named.values()], failure)
    (place / READY).touch()


def _name(requirements: tuple[str, ...]) -> str:
    """Of an environment's folder: what it is made of, or as much as a file name holds and a digest of all."""
    name = re.sub(r"[^\w.]+", "-", "_".join(requirements))
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: LONGEST_NAME - len(digest) - 1]}-{digest}"


def _overlay_torch(place: Path, python: Path, files: Sequence[str]) -> Path:
    overlay = place / "torch-overlay"
    overlay.mkdir()
    for line in files:
        source = Path(line)
        if source.exists() and not (overlay / source.name).exists():
            try:
                (overlay / source.name).symlink_to(source, target_is_directory=source.is_dir())
            except OSError as error:  # Windows asks for a privilege
                raise EngineFailed(
                    f"no link to torch can be made: {error.strerror}", where=str(overlay),
                    remedy="On Windows, turn on developer mode.",
                ) from error  # fmt: skip
    where = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], "no site-packages")
    packages = Path(where.stdout.strip())
    # relative, for the environment is renamed
    (packages / "ga_audit_torch.pth").write_text(f"{os.path.relpath(overlay, packages)}\n", "utf-8")
    return overlay


def _run(argv: list[str], failure: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False,
            env={**os.environ, **install_environment()},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineFailed(f"{failure}: {error}") from error
    if check and done.returncode:
        raise EngineFailed(f"{failure}: {_reason(done.stderr or done.stdout)}")
    return done


def _reason(said: str) -> str:
    """What an installer said at last; of a release that is not there, only that."""
    if found := re.search(r"(?:No matching distribution found for|there is no version of) (\S+)", said):
        return f"there is no release {found[1].rstrip('.')} for this Python"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " ".join(lines[-2:])[:300]
