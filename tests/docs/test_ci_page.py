"""The blocks of docs/ci.md: commands run and print what the page shows, files are valid, lists are complete."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from ga_audit.check.policy import DEFAULTS, Level, parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ci.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.M | re.S)


def blocks(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name == kind]


def commands() -> list[tuple[str, str]]:
    """(command, what it prints) of the console blocks."""
    parts = [part for text in blocks("console") for part in re.split(r"(?m)^(?=\$ )", text) if part.strip()]
    return [(part.partition("\n")[0].removeprefix("$ "), part.partition("\n")[2]) for part in parts]


def test_there_is_a_test_for_each_kind_of_block():
    assert {name for name, _ in BLOCKS} == {"console", "toml", "yaml", "json"}


@pytest.mark.torch
@pytest.mark.parametrize(("command", "shown"), commands(), ids=lambda text: text[:40])
def test_a_command_prints_what_the_page_shows(command, shown, tmp_path):
    if "--repro" in command:
        pytest.importorskip("torch")
    shutil.copytree(ROOT / "sample_logs", tmp_path / "logs")
    program = tmp_path / "ga-audit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ga_audit "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    environment.pop("GITHUB_STEP_SUMMARY", None)
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path / "logs", env=environment, text=True, timeout=200, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    pattern = re.escape(shown).replace(re.escape("...\n"), "(?:.*\n)*").replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, done.stdout), done.stdout


def test_the_policy_is_one():
    (text,) = blocks("toml")
    policy = parse(tomllib.loads(text), "docs/ci.md")
    assert (len(policy.levels), len(policy.expected), len(policy.exceptions), len(policy.stack)) == (4, 1, 1, 3)


def test_every_rule_and_level_is_on_the_page():
    rows = dict(re.findall(r"^\| `([\w-]+)`[^|]*\| `(\w+)` \|", PAGE, re.M))
    assert rows == {rule: level.value for rule, level in DEFAULTS.items()}
    assert all(f"| `{level.value}` |" in PAGE for level in Level)


def test_the_files_are_valid():
    vendor = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    github, gitlab, hooks = (yaml.safe_load(text) for text in blocks("yaml"))
    workflow = {"name": "x", "on": "push", **github}
    jsonschema.validate(workflow, json.loads((vendor / "github-workflows.json").read_text("utf-8")))
    jsonschema.validate(gitlab, json.loads((vendor / "gitlab-ci.json").read_text("utf-8")))
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    used = next(step["with"] for step in github["jobs"]["ga-audit"]["steps"] if "ga-audit/" in step.get("uses", ""))
    assert used.keys() <= action["inputs"].keys()
    job = yaml.safe_load((ROOT / "ci" / "gitlab-ga-audit.yml").read_text("utf-8"))["ga-audit"]
    assert gitlab["variables"].keys() <= job["variables"].keys()
    known = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))}
    assert {hook["id"] for hook in hooks["repos"][0]["hooks"]} <= known


def test_the_server_of_the_agents_is_a_command():
    (text,) = blocks("json")
    from ga_audit import registry

    assert json.loads(text)["mcpServers"]["ga-audit"]["args"][0] in registry.names("ga_audit.cli")
