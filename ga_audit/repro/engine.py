"""The engines: standalone scripts that train one cell, described by the metadata at their top.

An engine is a script in `engines/` whose name does not begin with `_`. Its PEP 723 block names the packages that it
needs, and a `[tool.ga-audit]` table there holds its name, its options, and its variants, models and faults with their
descriptions. The block is read without running the script, which would import torch.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ga_audit.errors import WrongUsage

SCRIPTS = Path(__file__).parent / "engines"
USER_COMMAND = "script"  # the engine that is the user's own command
_BLOCK = re.compile(r"^# /// script$\n(?P<body>(?:^#(?: .*)?$\n)+?)^# ///$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes
    ----------
    name : for `--engine`.
    script : the file.
    needs : importable packages.
    preload : modules that are imported once before cells are forked.
    variants : name and description of each; the first is the default.
    models : stock model families and their classes.
    faults : name and description of each fault that can be switched on.
    variant_needs : the importable package that a variant needs besides.
    options : names without the dashes, and their choices; () for any value.
    digest : of the script and the helpers; another script may measure otherwise.
    """

    name: str
    script: Path
    needs: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    variants: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    variant_needs: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    digest: str = ""


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
        There is none.
    """
    if name not in engines():
        known = ", ".join([*engines(), USER_COMMAND])
        raise WrongUsage(f"there is no engine {name!r}", remedy=f"Choose one of: {known}.")
    return engines()[name]


def chosen(option: str, text: str | None, *, engine: str = "transformers") -> list[tuple[str, dict[str, object]]]:
    """A comma-separated list of names, or `all`, as (name, option of the engine) of each; nothing for None.

    Raises
    ------
    WrongUsage
        There is no such name.
    """
    if text is None or engine == USER_COMMAND:
        return []
    found = engine_named(engine)
    known = tuple({"model": found.models, "variant": found.variants}[option])
    names = tuple(name.strip() for name in text.split(",")) if text != "all" or not known else known
    if known and (unknown := [name for name in names if name not in known]):
        remedy = f"Choose from: {', '.join(known)}, or all; `ga-audit repro --list` describes them."
        raise WrongUsage(f"there is no {option} {unknown[0]!r}", remedy=remedy)
    return [(name, {option: name}) for name in names]


def describe(engine: str, name: str) -> str:
    """What a variant, a model family or a fault of an engine is; empty if there is none of that name."""
    found = engines().get(engine)
    if found is None:
        return ""
    if name in found.models:
        return f"{found.models[name]} as it stands"
    return found.variants.get(name) or found.faults.get(name) or ""


def _read(script: Path) -> Engine:
    text = script.read_text("utf-8")
    head = _metadata(script.name, text)
    table: dict[str, Any] = head.get("tool", {}).get("ga-audit", {})
    choices = {name: tuple(values) for name, values in table.get("choices", {}).items()}
    options = {name: choices.get(name, ()) for name in table.get("options", ())}
    tables = {"variant": "variants", "model": "models", "fault": "faults"}
    named = {one: dict(table.get(several, {})) for one, several in tables.items()}
    options |= {one: tuple(names) for one, names in named.items() if names}
    helpers = [path.read_text("utf-8") for path in sorted(SCRIPTS.glob("_*.py"))]
    return Engine(
        name=table.get("name", script.stem),
        script=script,
        needs=tuple(map(_module, head.get("dependencies", ()))),
        preload=tuple(table.get("preload", ())),
        variants=named["variant"],
        models=named["model"],
        faults=named["fault"],
        variant_needs={k: _module(v) for k, v in table.get("variant-needs", {}).items()},
        options=options,
        digest=hashlib.sha256("".join([text, *helpers]).encode()).hexdigest()[:12],
    )


def _metadata(name: str, text: str) -> dict[str, Any]:
    """The PEP 723 block of a script.

    Raises
    ------
    ValueError
        There is none, or it is not valid TOML.
    """
    found = _BLOCK.search(text)
    if found is None:
        raise ValueError(f"{name} has no `# /// script` block")
    lines = (line[2:] for line in found["body"].splitlines())
    return tomllib.loads("\n".join(lines))


def _module(distribution: str) -> str:
    """The importable name of a distribution, where both are one name."""
    return distribution.replace("-", "_")
