"""Find the policy's file: `ga-audit.toml`, or `[tool.ga-audit]` in `pyproject.toml`, in this folder or above it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ga_audit.bugs import catalogue
from ga_audit.check.policy import Policy, parse
from ga_audit.errors import WrongUsage

OWN = "ga-audit.toml"
SHARED = "pyproject.toml"


def find_policy(start: Path, given: Path | None = None) -> tuple[Policy, Path]:
    """The policy, and the folder that its relative paths start from.

    Parameters
    ----------
    start : the folder that is searched first, then each above it. The first file with a policy counts; in one
        folder `ga-audit.toml` goes before `pyproject.toml`.
    given : the file, where the user names it.

    Returns
    -------
    The default policy and `start`, where there is no file.

    Raises
    ------
    WrongUsage
        the given file does not exist or holds no policy; a file that was found is not TOML or not a policy.
    """
    if given is not None:
        table = _table(given)
        if table is None:
            raise WrongUsage("holds no policy", where=str(given), remedy="Add a table [tool.ga-audit].")
        return _parsed(table, given), given.absolute().parent
    start = start.absolute()
    for folder in (start, *start.parents):
        for name in (OWN, SHARED):
            file = folder / name
            if file.is_file() and (table := _table(file)) is not None:
                return _parsed(table, file), folder
    return Policy(), start


def _parsed(table: dict[str, Any], file: Path) -> Policy:
    return parse(table, str(file), bugs=[bug.id for bug in catalogue.load()])


def _table(file: Path) -> dict[str, Any] | None:
    """The policy's table of a file; None where a shared file has none."""
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        message = f"cannot read the policy: {error.strerror}"
        raise WrongUsage(message, where=str(file), remedy="Give another --config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"is not TOML: {error}", where=str(file), remedy="Correct it.") from None
    if file.name != SHARED:
        return content
    tool = content.get("tool")
    table = tool.get("ga-audit") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise WrongUsage("tool.ga-audit is not a table", where=str(file), remedy="Write [tool.ga-audit].")
    return table
