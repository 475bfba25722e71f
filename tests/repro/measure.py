"""Measures the releases of `releases.json` again, by the command that stands with each table, and writes the numbers there.

`python -m tests.repro.measure` takes every table (hours, gigabytes of environments); `python -m tests.repro.measure trl`
those whose title holds the word. `--missing` measures only the releases that a table lacks. A table whose command names an
ENVIRONMENT was put together by hand and is passed over.
Then `pytest tests/repro/test_releases.py --update-golden` makes the page.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.version import Version

from ga_audit.releases import index

PLACE = Path(__file__).with_name("releases.json")


def measured(command: str, out: str) -> list[dict[str, object]]:
    """The rows of one `ga-audit bisect ...`."""
    words = shlex.split(command)
    assert words[:2] == ["ga-audit", "bisect"], command
    argv = [sys.executable, "-m", "ga_audit", *words[1:], "--format", "json", "--out", out]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def missing(table: dict[str, Any]) -> list[str]:
    """The releases that the command of a table measures and that it lacks."""
    words = shlex.split(table["command"])
    first, last = (words[words.index(option) + 1] for option in ("--from", "--to"))
    held = {row["release"] for row in table["rows"]}
    return [release for release in index.listing(words[2]).between(first, last) if release not in held]


def added(table: dict[str, Any], out: str) -> list[dict[str, object]]:
    """The rows of a table and those of the releases that it lacks, ascending."""
    words, rows = shlex.split(table["command"]), list(table["rows"])
    for release in missing(table):
        for option in ("--from", "--to"):
            words[words.index(option) + 1] = release
        rows += measured(shlex.join(words), out)
    return sorted(rows, key=lambda row: Version(str(row["release"])))


def kept_where_broken(new: list[dict[str, object]], old: list[dict[str, object]]) -> list[dict[str, object]]:
    """The new rows, but for those that cannot be measured here and could be elsewhere: their old ones stay, and are named."""
    measured = {(row["release"], row["variant"]): row for row in old if not row["failure"]}
    rows = []
    for row in new:
        before = measured.get((row["release"], row["variant"]))
        if row["failure"] and before:
            print(f"kept as it was: {row['release']} {row['variant']} ({row['failure']})", file=sys.stderr)
        rows.append(before if row["failure"] and before else row)
    return rows


def text_of(kept: dict[str, object], tables: list[dict[str, object]]) -> str:
    """The file: a table a line, a row a line, so that a difference shows which release changed."""
    head = "".join(f" {json.dumps(k)}: {json.dumps(v)},\n" for k, v in kept.items() if k != "tables")
    parts = []
    for table in tables:
        start = ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in table.items() if k != "rows")
        rows = ",\n".join(f"   {json.dumps(row)}" for row in table["rows"])  # type: ignore[attr-defined]
        parts.append(f'  {{{start}, "rows": [\n{rows}\n  ]}}')
    return f'{{\n{head} "tables": [\n' + ",\n".join(parts) + "\n ]\n}\n"


def main() -> None:
    """Table by table, each written as soon as it is measured."""
    kept = json.loads(PLACE.read_text("utf-8"))
    words = [word for word in sys.argv[1:] if word != "--missing"]
    for table in kept["tables"]:
        wanted = not words or any(word in table["title"] for word in words)
        if not wanted or "ENVIRONMENT" in table["command"]:
            continue
        print(table["title"], file=sys.stderr)
        with tempfile.TemporaryDirectory() as out:
            if "--missing" in sys.argv:
                table["rows"] = added(table, out)
            else:
                table["rows"] = kept_where_broken(measured(table["command"], out), table["rows"])
        table["measured"] = f"{datetime.now(UTC):%Y-%m}"
        PLACE.write_text(text_of(kept, kept["tables"]), "utf-8")


if __name__ == "__main__":
    main()
