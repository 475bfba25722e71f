"""What an engine's script says of itself, read without running it: running it would import torch.

An engine is a script in `engines/` whose name does not begin with `_`. Its module-level literals say the rest: `ENGINE`, the
name for `--engine`; `NEEDS`, the packages that must be importable; `PRELOAD`, what is imported once before its cells are
forked; and, in the script or in a `_helper` that it imports, `VARIANTS` and `FAMILIES` (dictionaries, by name) and
`VARIANT_NEEDS` (what a variant needs besides, by its name).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ga_audit.errors import WrongUsage

SCRIPTS = Path(__file__).parent / "engines"
USER_COMMAND = "script"  # the engine that is the user's own command


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine."""

    name: str
    script: Path
    needs: tuple[str, ...] = ()  # importable packages
    preload: tuple[str, ...] = ()  # modules
    variants: tuple[str, ...] = ()  # the first is the default
    models: Mapping[str, str] = field(default_factory=dict)  # stock model family -> its class
    variant_needs: Mapping[str, str] = field(default_factory=dict)  # variant -> importable package
    options: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # without the dashes -> choices, () for any value
    digest: str = ""  # of the script and its helpers: another one measures otherwise


@cache
def engines() -> Mapping[str, Engine]:
    """Every engine that is a script of ours, by name."""
    found = [_read(script) for script in sorted(SCRIPTS.glob("[!_]*.py"))]
    return {engine.name: engine for engine in found}


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises
    ------
    WrongUsage
        there is none.
    """
    if name not in engines():
        raise WrongUsage(
            f"there is no engine {name!r}", remedy=f"Choose one of: {', '.join([*engines(), USER_COMMAND])}."
        )
    return engines()[name]


def chosen(option: str, text: str | None, *, engine: str = "transformers") -> list[tuple[str, dict[str, object]]]:
    """A comma-separated list of names, or `all`, as (name, option of the engine) of each; nothing for None.

    Raises
    ------
    WrongUsage
        there is no such name.
    """
    if text is None or engine == USER_COMMAND:
        return []
    known = {"model": tuple(engine_named(engine).models), "variant": engine_named(engine).variants}[option]
    names = tuple(name.strip() for name in text.split(",")) if text != "all" or not known else known
    if known and (unknown := [name for name in names if name not in known]):
        raise WrongUsage(f"there is no {option} {unknown[0]!r}", remedy=f"Choose of: {', '.join(known)}, or all.")
    return [(name, {option: name}) for name in names]


def _read(script: Path) -> Engine:
    texts = [path.read_text("utf-8") for path in _with_helpers(script)]
    trees = [ast.parse(text) for text in texts]
    said: dict[str, ast.expr] = {}
    for tree in reversed(trees):  # the script's own word counts more than a helper's
        said |= dict(_assigned(tree))

    def literal(name: str, default: Any) -> Any:
        return ast.literal_eval(said[name]) if name in said else default

    return Engine(
        literal("ENGINE", script.stem), script, tuple(literal("NEEDS", ())), tuple(literal("PRELOAD", ())),
        _keys(said.get("VARIANTS")), _first_words(said.get("FAMILIES")), literal("VARIANT_NEEDS", {}),
        {name: values for tree in trees for name, values in _options(tree, said)},
        hashlib.sha256("".join(texts).encode()).hexdigest()[:12],
    )  # fmt: skip


def _with_helpers(script: Path) -> list[Path]:
    """The script and the `_helpers` beside it that it imports, by one another too."""
    found = [script]
    for path in found:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            helpers = [SCRIPTS / f"{name}.py" for name in names if name.startswith("_")]
            found += [helper for helper in helpers if helper.is_file() and helper not in found]
    return found


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _keys(value: ast.expr | None) -> tuple[str, ...]:
    keys = value.keys if isinstance(value, ast.Dict) else []
    return tuple(key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def _first_words(value: ast.expr | None) -> dict[str, str]:
    """Of a dictionary of calls, the first argument of each: {"t5-seq2seq": Family("T5ForConditionalGeneration", ...)}."""
    found = {}
    for name, call in zip(_keys(value), value.values if isinstance(value, ast.Dict) else [], strict=True):
        assert isinstance(call, ast.Call), name
        found[name] = str(ast.literal_eval(call.args[0]))
    return found


def _options(tree: ast.Module, said: Mapping[str, ast.expr]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and str(first.value).startswith("--"):
                choices = next((k.value for k in node.keywords if k.arg == "choices"), None)
                yield str(first.value)[2:], _choices(choices, said)


def _choices(value: ast.expr | None, said: Mapping[str, ast.expr]) -> tuple[str, ...]:
    """Of a literal, or of `sorted(NAME)` with the name of a dictionary."""
    if isinstance(value, ast.Tuple):
        return tuple(str(ast.literal_eval(element)) for element in value.elts)
    if isinstance(value, ast.Call) and value.args:
        named = value.args[0]
        name = named.id if isinstance(named, ast.Name) else named.attr if isinstance(named, ast.Attribute) else ""
        return _keys(said.get(name))
    return ()
