"""Every `console` block of the README and of `docs/` is run, and prints what the page shows.

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
DOCS = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# bisect installs releases from the network for minutes; its table is made and checked by tests/repro
NOT_RUN = ("$ ga-audit bisect",)


def examples(page: Path) -> list[tuple[str, str]]:
    """(command, expected output) of every console block, in order."""
    found = []
    for block in BLOCK.findall(page.read_text("utf-8")):
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


ELSEWHERE = {"ci.md"}  # run by tests/docs, in folders of their own
PAGES = [page for page in (README, *DOCS) if page.name not in ELSEWHERE and examples(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page, tmp_path, update_golden):
    """One test a page, since later commands use what earlier ones wrote."""
    shutil.copytree(ROOT / "sample_logs", tmp_path / "sample_logs")
    text = page.read_text("utf-8")
    wrong = []
    for command, expected in examples(page):
        if command.startswith(NOT_RUN):
            continue
        printed = run(command, tmp_path)
        if not fits(expected, printed):
            wrong.append(f"{command}\n--- {page.name}\n{expected}--- printed\n{printed}")
            if "...\n" not in expected:
                text = text.replace(f"{command}\n{expected}", f"{command}\n{printed}", 1)
    if update_golden:
        page.write_text(text, "utf-8")
    else:
        assert not wrong, "\n\n".join(wrong)


def test_the_pages_that_have_examples():
    """A block that is no longer found would no longer be run."""
    found = {page.name: len(examples(page)) for page in PAGES}
    assert found == {
        "README.md": 3, "bugs.md": 1, "cli.md": 2, "fix.md": 2, "formats.md": 1, "one-run.md": 2, "repro.md": 1, "scan.md": 1,
    }  # fmt: skip


def test_the_readme_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 150


LINK = re.compile(r"\]\(([^)#:\s]+)(?:#([\w-]+))?\)")


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        file = page.parent / target
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", file.read_text("utf-8"))
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_every_page_is_linked_from_the_readme():
    text = README.read_text("utf-8")
    assert [page.name for page in DOCS if f"(docs/{page.name}" not in text] == []


def test_every_page_is_in_the_site():
    import yaml

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    pages = [file for section in site["nav"] for entry in section.values() for one in entry for file in one.values()]
    assert sorted(pages) == [page.name for page in DOCS]


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
