"""Find the leaves of a package without importing it all.

A leaf is a module that is found by being there: a log format, a kind of evidence, an output format, a command.
"""

import importlib
import importlib.util
import pkgutil
from functools import cache
from types import ModuleType
from typing import Generic, TypeVar, cast

Leaf = TypeVar("Leaf")


@cache
def names(package: str) -> tuple[str, ...]:
    """Sorted names of the leaves of `package`: its modules, without packages and names that begin with `_`.

    The package itself is not imported: the commands list the output formats for `--help`.
    """
    spec = importlib.util.find_spec(package)
    path = spec.submodule_search_locations if spec is not None else None
    return tuple(sorted(m.name for m in pkgutil.iter_modules(path or ()) if not m.ispkg and m.name[0] != "_"))


def load(package: str, name: str) -> ModuleType:
    """Import one leaf."""
    return importlib.import_module(f"{package}.{name}")


def load_all(package: str) -> dict[str, ModuleType]:
    """Import every leaf of `package`, by name, sorted."""
    return {name: load(package, name) for name in names(package)}


class Leaves(Generic[Leaf]):
    """The leaves of one package under the type that its `__init__` defines for them.

    mypy checks every leaf against that type in `tests/test_architecture.py`; `load` relies on it.

    Parameters
    ----------
    package : full name.
    shared : modules of the folder that are no leaves though their names do not begin with `_`.
    """

    def __init__(self, package: str, *, shared: frozenset[str] = frozenset()) -> None:
        self.package = package
        self.shared = shared

    def names(self) -> tuple[str, ...]:
        """Sorted, without importing any."""
        return tuple(name for name in names(self.package) if name not in self.shared)

    def load(self, name: str) -> Leaf:
        """Import one."""
        return cast(Leaf, load(self.package, name))
