"""What an interpreter has: whether an engine can run there, and with which releases."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence

from ga_audit.errors import EngineFailed
from ga_audit.repro.engine import USER_COMMAND, engine_named

SCRIPT = "engine script"  # under this name, the digest of what measures
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_EXTRA = frozenset({"torch", "transformers", "accelerate"})  # what the extra `repro` installs


def lacking(engine: str, python: str) -> dict[str, str]:
    """Variants that need a package which the interpreter does not have, and that package."""
    if engine == USER_COMMAND:
        return {}
    needs = engine_named(engine).variant_needs
    gone = missing(tuple(set(needs.values())), python) if needs else []
    return {variant: need for variant, need in needs.items() if need in gone}


def check(engine: str, python: str) -> None:
    """Say in one line what to install.

    Raises
    ------
    EngineFailed
        the engine does not exist, or a package that it needs is not there.
    """
    if engine == USER_COMMAND:
        return
    if gone := missing(engine_named(engine).needs, python):
        remedy = f"Install: {install(gone, python)}"
        raise EngineFailed(f"the engine {engine!r} needs {', '.join(gone)}", remedy=remedy)


def missing(modules: Sequence[str], python: str) -> list[str]:
    """Those that the interpreter cannot import.

    Raises
    ------
    EngineFailed
        the interpreter cannot be run.
    """
    code = "import importlib.util as u, json, sys; print(json.dumps({n: '' for n in sys.argv[1:] if u.find_spec(n) is None}))"
    return list(_run_for_json(code, python, modules))


def releases(engine: str, python: str) -> dict[str, str]:
    """Releases of what trains, and a digest of the engine's script; nothing for a user's command.

    Raises
    ------
    EngineFailed
        there is no such engine; the interpreter cannot be run.
    """
    if engine == USER_COMMAND:
        return {}
    kind = engine_named(engine)
    names = {name.replace("_", "-") for name in (*kind.needs, *kind.variant_needs.values())}
    return {**_run_for_json(_RELEASES, python, sorted(names)), SCRIPT: kind.digest}


_RELEASES = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def _run_for_json(code: str, python: str, words: Sequence[str]) -> dict[str, str]:
    try:
        done = subprocess.run([python, "-c", code, *words], capture_output=True, text=True, timeout=60, check=True)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        remedy = "Give --python an interpreter, such as VENV/bin/python."
        raise EngineFailed("cannot be run as a Python interpreter", where=python, remedy=remedy) from error
    return found


def install(modules: Sequence[str], python: str = sys.executable) -> str:
    """The command that installs what an interpreter lacks; without a GPU, torch comes from its CPU index."""
    names = [name.replace("_", "-") for name in modules]
    own = python == sys.executable
    pip = "pip install" if own else f"{shlex.quote(python)} -m pip install"
    if own and _EXTRA & set(names):
        wanted = ["'ga-audit[repro]'", *(name for name in names if name not in _EXTRA)]
    else:
        wanted = names
    command = f"{pip} {' '.join(wanted)}"
    if "torch" not in names:
        return command
    return f"{command} (without a GPU, first: {pip} torch --index-url {CPU_INDEX})"
