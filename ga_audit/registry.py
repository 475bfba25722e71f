"""Find the leaves of a package without importing it all.

A leaf is a module that is found by being there: a log format, a kind of evidence, an output format, a command.
"""

import importlib
import pkgutil
from functools import cache
from types import ModuleType


@cache
def names(package: str) -> tuple[str, ...]:
    """Sorted names of the leaves of `package`: its modules, without packages and names that begin with `_`."""
    path = importlib.import_module(package).__path__
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(path) if not m.ispkg and m.name[0] != "_")
    )


def load(package: str, name: str) -> ModuleType:
    """Import one leaf."""
    return importlib.import_module(f"{package}.{name}")


def load_all(package: str) -> dict[str, ModuleType]:
    """Import every leaf of `package`, by name, sorted."""
    return {name: load(package, name) for name in names(package)}
