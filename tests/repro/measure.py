"""Measures the releases of `releases.json` again, by the command that stands with each table, and writes the numbers there.

`python -m tests.repro.measure` takes every table (hours, gigabytes of environments); `python -m tests.repro.measure trl`
those whose title holds the word. A table whose command names an ENVIRONMENT was put together by hand and is passed over.
Then `pytest tests/repro/test_releases.py --update-golden` makes the page.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

PLACE = Path(__file__).with_name("releases.json")


def measured(command: str, out: str) -> list[dict[str, object]]:
    """The rows of one `ga-audit bisect ...`."""
    words = shlex.split(command)
    assert words[:2] == ["ga-audit", "bisect"], command
    argv = [sys.executable, "-m", "ga_audit", *words[1:], "--json", "--out", out]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


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
    for table in kept["tables"]:
        wanted = not sys.argv[1:] or any(word in table["title"] for word in sys.argv[1:])
        if not wanted or "ENVIRONMENT" in table["command"]:
            continue
        print(table["title"], file=sys.stderr)
        with tempfile.TemporaryDirectory() as out:
            table["rows"] = kept_where_broken(measured(table["command"], out), table["rows"])
        PLACE.write_text(text_of(kept, kept["tables"]), "utf-8")


if __name__ == "__main__":
    main()
