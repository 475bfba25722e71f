"""Names that options take: completed by the shell, and suggested where one is mistyped."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import click


def near(name: str, known: Sequence[str], otherwise: str) -> str:
    """`Did you mean GA003?`, or what to do where nothing is near.

    Parameters
    ----------
    name : as typed.
    known : the names that there are.
    otherwise : a sentence.
    """
    found = difflib.get_close_matches(name.upper(), [k.upper() for k in known], n=1, cutoff=0.6)
    chosen = next((k for k in known if found and k.upper() == found[0]), None)
    return f"Did you mean {chosen}?" if chosen else otherwise


def nearest_bug(name: str) -> str:
    """What to do about an unknown bug id."""
    number = re.fullmatch(r"(?i)(?:GA)?0*(\d{1,3})", name.strip())
    ids, otherwise = bug_ids(), "`ga-audit bugs` lists them."
    if number:  # GA3; of another number none is nearer than the others
        chosen = f"GA{int(number[1]):03}"
        return f"Did you mean {chosen}?" if chosen in ids else otherwise
    return near(name, ids, otherwise)


def bug_ids() -> list[str]:
    """Ids of the catalogue."""
    from ga_audit.bugs import catalogue

    return [bug.id for bug in catalogue.load()]


def complete_bug(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Bug ids that begin with what was typed."""
    return [bug for bug in bug_ids() if bug.startswith(typed.upper())]


def complete_variant(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Variants of the engines that begin with what was typed."""
    from ga_audit.repro.engine import engines

    chosen = ctx.params.get("engine")
    names = {v: None for name, e in engines().items() if chosen in {None, name} for v in e.variants}
    return [name for name in names if name.startswith(typed)]
