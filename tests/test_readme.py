"""Every `console` block of the README is run, and what it prints is what the README shows.

`$ command` lines are run in a copy of the repository's sample logs; the lines below are its whole output (standard
output and standard error), where a line of `...` stands for any lines. `pytest tests/test_readme.py --update-golden`
writes what is printed now.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# bisect installs releases from the network for minutes; its table is made and checked by tests/repro
NOT_RUN = ("$ ga-audit bisect",)


def examples() -> list[tuple[str, str]]:
    """(command, expected output) of every console block, in order."""
    found = []
    for block in BLOCK.findall(README.read_text("utf-8")):
        for part in re.split(r"(?m)^(?=\$ )", block):
            if part.strip():
                command, _, output = part.partition("\n")
                found.append((command, output))
    return found


def run(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command.removeprefix("$ ")], cwd=folder, env=env, text=True, timeout=240,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return "".join(line.rstrip() + "\n" for line in done.stdout.splitlines())


def fits(expected: str, printed: str) -> bool:
    pattern = "".join(r"(?:.*\n)*?" if line == "...\n" else re.escape(line) for line in expected.splitlines(True))
    return re.fullmatch(pattern, printed) is not None


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "sample_logs", folder / "sample_logs")
    return folder


def test_examples(workplace, update_golden):
    """One test, since later commands use what earlier ones wrote."""
    text = README.read_text("utf-8")
    wrong = []
    shown = examples()
    assert len(shown) >= 8
    for command, expected in shown:
        if command.startswith(NOT_RUN):
            continue
        printed = run(command, workplace)
        if not fits(expected, printed):
            wrong.append(f"{command}\n--- README\n{expected}--- printed\n{printed}")
            if "...\n" not in expected:
                text = text.replace(f"{command}\n{expected}", f"{command}\n{printed}", 1)
    if update_golden:
        README.write_text(text, "utf-8")
    else:
        assert not wrong, "\n\n".join(wrong)


def test_every_command_is_in_the_readme():
    from ga_audit.cli import cli

    text = README.read_text("utf-8")
    missing = [name for name in cli.list_commands(None) if f"ga-audit {name}" not in text]
    assert not missing


def test_every_command_has_help():
    for name in __import__("ga_audit.cli", fromlist=["cli"]).cli.list_commands(None):
        printed = run(f"$ ga-audit {name} --help", ROOT)
        assert "Usage: ga-audit" in printed, printed
        assert len(printed.splitlines()) > 5
