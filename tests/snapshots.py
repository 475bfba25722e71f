"""Run a golden case: every command on its logs, with the whole of what is printed and written.

A case is a folder below `tests/golden/` with a `case.toml`:

    about = "what the case shows"
    from = "sample_logs/transformers-4.48.0"     # the logs, from the top of the tree; default: the case's own files
    rename = { "a.json" = "odd name.json" }      # names that a checkout should not hold
    commands = ["inspect . --ga 8"]              # default: DEFAULT, on the folder `logs`
    report = true                                # adds `report`, which takes seconds

The logs are copied to a temporary folder, where the commands run one after another.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
OURS = {"case.toml", "expected.txt", "expected.json"}
DEFAULT = (
    "inspect logs",
    "inspect --explain logs",
    "inspect --show-series logs",
    "inspect --format markdown logs",
    "inspect --format issue logs",
    "scan logs",
    "scan --format csv logs",
    "fix --dry-run logs",
    "fix logs -o corrected",
)
REPORT = "report logs -o report"
SHOWN_FILES = ("DIAGNOSIS.md", "issue.md")  # of what a command writes, printed whole


def cases() -> list[Path]:
    """Folders of all cases, sorted."""
    return sorted(path.parent for path in GOLDEN.rglob("case.toml"))


def settings(case: Path) -> dict[str, Any]:
    return tomllib.loads((case / "case.toml").read_text("utf-8"))


def lay_out(case: Path, folder: Path) -> None:
    """Copy the logs of a case to `folder/logs`; a case with commands of its own runs inside them."""
    known = settings(case)
    source = ROOT / known["from"] if "from" in known else case
    ignore = None if "from" in known else shutil.ignore_patterns(*OURS)
    shutil.copytree(source, folder / "logs", ignore=ignore)
    for old, new in known.get("rename", {}).items():
        target = folder / "logs" / new
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "logs" / old).rename(target)


def commands(case: Path) -> list[str]:
    known = settings(case)
    default = [*DEFAULT, *([REPORT] if known.get("report") else [])]
    return known.get("commands", default)


def run(arguments: str) -> tuple[str, str, int]:
    """Standard output, standard error and status of one command, run in this process."""
    from ga_audit.cli import cli

    words, standard_input = shlex.split(arguments), None
    if "<" in words:
        at = words.index("<")
        standard_input, words = Path(words[at + 1]).read_bytes(), words[:at]
    for name in cli.list_commands(None):  # Click keeps the help option of a command that was run alone
        cli.get_command(None, name)._help_option = None
    done = CliRunner().invoke(cli, words, prog_name="ga-audit", input=standard_input)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout, done.stderr, done.exit_code


def transcript(case: Path, folder: Path) -> str:
    """What every command of a case prints and writes, as one text."""
    here = folder / "logs" if "commands" in settings(case) else folder
    before = _files(folder)
    parts = []
    old = Path.cwd()
    os.chdir(here)
    try:
        for command in commands(case):
            out, err, status = run(command)
            after = _files(folder)
            parts.append(_shown(command, out, err, status, folder, sorted(after - before)))
            before = after
    finally:
        os.chdir(old)
    return "\n".join(parts).replace(str(folder), "FOLDER")


def _shown(command: str, out: str, err: str, status: int, folder: Path, new: list[str]) -> str:
    lines = [f"$ ga-audit {command}", out.rstrip("\n")]
    if err:
        lines += ["--- standard error", err.rstrip("\n")]
    lines.append(f"--- status {status}")
    for name in new:
        lines.append(f"--- written: {name}")
        if Path(name).name in SHOWN_FILES:
            lines.append((folder / name).read_text("utf-8").rstrip("\n"))
    return "\n".join(_steady(line) for line in lines) + "\n"


def _steady(text: str) -> str:
    """Trailing blanks go, and names that carry a time or a random part."""
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"(offline-)?run-\d{8}_\d{6}-\w+", _without_time, text)
    return re.sub(r"offline-run-TIME/run-\w+\.wandb", "offline-run-TIME/run-ID.wandb", text)


def _without_time(match: re.Match[str]) -> str:
    """The name of a W&B folder that a sample carries is kept; one that is made anew names no time."""
    return match[0] if "-sample0" in match[0] else f"{match[1] or ''}run-TIME"


def _files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def rounded(text: str) -> str:
    """JSON with six significant digits: the last ones depend on the linear algebra of the machine."""
    return json.dumps(_rounded(json.loads(text)), indent=2, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return {key: _rounded(inner) for key, inner in value.items()} if isinstance(value, dict) else value
