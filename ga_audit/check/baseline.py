"""A baseline: the findings that were there when it was written, so that only new ones fail."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ga_audit import __version__
from ga_audit.errors import WrongUsage
from ga_audit.files.atomic import new_file

SCHEMA = "ga-audit-baseline/1"
NAME = "ga-audit-baseline.json"


class Entry(NamedTuple):
    """One finding about one run."""

    finding: str
    run: str  # path of its log from the policy's folder on


def read(file: Path) -> tuple[Entry, ...]:
    """The entries of a baseline.

    Raises
    ------
    WrongUsage
        it does not exist or is no baseline.
    """
    remedy = "`ga-audit check --write-baseline` writes one."
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(content["schema"])
        return tuple(Entry(str(entry["finding"]), str(entry["run"])) for entry in content["findings"])
    except OSError as error:
        message = f"cannot read the baseline: {error.strerror}"
        raise WrongUsage(message, where=str(file), remedy=remedy) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WrongUsage("is not a baseline of ga-audit", where=str(file), remedy=remedy) from None


def write(file: Path, entries: Iterable[Entry]) -> int:
    """Write a baseline, in the place of an earlier one only; returns the number of entries.

    Raises
    ------
    RefusedToOverwrite
        the file exists and is no baseline.
    """
    found = sorted(set(entries))
    content = {
        "schema": SCHEMA,
        "version": __version__,
        "findings": [entry._asdict() for entry in found],
    }
    with new_file(file, force=True) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return len(found)
