"""The GitHub Action, the pre-commit hooks and the GitLab template: valid, and their lines run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
GITLAB = yaml.safe_load((ROOT / "ci" / "gitlab-ga-audit.yml").read_text("utf-8"))
SCALED = ROOT / "sample_logs" / "transformers-4.48.0"


def vendored(name: str):
    return json.loads((resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / name).read_text("utf-8"))


@pytest.fixture
def project(tmp_path):
    """A checkout with logs, and a `python` whose pip installs nothing and says what it was asked."""
    work = tmp_path / "work"
    shutil.copytree(SCALED, work / "my runs")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    python = bin_ / "python"
    python.write_text(
        f'#!/bin/sh\nif [ "$2" = pip ]; then echo "$@" >> {shlex.quote(str(tmp_path / "pip"))}; '
        f'else exec {shlex.quote(sys.executable)} "$@"; fi\n'
    )
    python.chmod(0o755)
    (bin_ / "ga-audit").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ga_audit "$@"\n')
    (bin_ / "ga-audit").chmod(0o755)
    return tmp_path


def bash(line: str, project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{project / 'bin'}:{os.environ['PATH']}",
        "HOME": str(project),
        "PYTHONPATH": str(ROOT),
        "PYTHON": "python",
        **variables,
    }
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line],
        cwd=project / "work", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def action(project: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], str, str]:
    """Run the steps of the action as a runner does; the last step, its outputs, its summary."""
    out, summary = project / "output", project / "summary"
    given = {name: entry["default"] for name, entry in ACTION["inputs"].items()} | {"python": "python"}
    given |= {name.replace("_", "-"): value for name, value in inputs.items()}
    done = None
    for step in ACTION["runs"]["steps"]:
        variables = {"GITHUB_OUTPUT": str(out), "GITHUB_STEP_SUMMARY": str(summary)}
        for name, value in step["env"].items():
            key = re.fullmatch(r"\$\{\{ (?:inputs|github)\.([\w-]+) \}\}", value)[1]
            variables[name] = str(ROOT) if key == "action_path" else given[key]
        done = bash(step["run"], project, **variables)
    return done, out.read_text(), summary.read_text() if summary.exists() else ""


def test_the_files_are_valid():
    jsonschema.validate(ACTION, vendored("github-actions.json"))
    jsonschema.validate(GITLAB, vendored("gitlab-ci.json"))
    assert not any("${{" in step["run"] for step in ACTION["runs"]["steps"])
    required = {"id", "name", "entry", "language"}
    for hook in HOOKS:
        assert required <= hook.keys()
        re.compile(hook["files"])


def test_the_manifest_is_what_pre_commit_reads():
    clientlib = pytest.importorskip("pre_commit.clientlib")
    assert [hook["id"] for hook in clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))] == [
        "ga-audit", "ga-audit-before-train",
    ]  # fmt: skip


def test_the_action_annotates_and_fails(project):
    done, outputs, summary = action(project, paths="my runs\n", sarif="out.sarif")
    assert (project / "pip").read_text() == f"-m pip install --quiet {ROOT}\n"
    assert (done.returncode, outputs, done.stderr) == (1, "status=1\n", "")
    assert [line.partition(" ")[0] for line in done.stdout.splitlines()] == ["::error", "::error"]
    assert summary.startswith("### ga-audit: policy violated\n")
    assert json.loads((project / "work" / "out.sarif").read_text())["version"] == "2.1.0"


def test_an_input_is_no_shell_and_no_option(project):
    done, outputs, _ = action(project, paths="$(touch pwned)\n; touch pwned\n--help")
    assert (done.returncode, outputs) == (3, "status=3\n")
    assert not (project / "work" / "pwned").exists()


def test_the_action_before_training(project):
    (project / "work" / "ga-audit.toml").write_text('[levels]\n"GA*" = "warning"\nunmeasured-release = "off"\n')
    done, outputs, _ = action(project, before_train="true", model="LlamaForCausalLM")
    assert (done.returncode, outputs) == (0, "status=0\n"), done.stdout


def test_the_lines_of_gitlab(project):
    job = GITLAB["ga-audit"]
    line = "\n".join(job["script"])
    done = bash(line, project, **{**job["variables"], "GA_AUDIT_PATHS": "my* none"})
    assert done.returncode == 1, done.stderr
    assert (project / "work" / job["artifacts"]["reports"]["junit"]).exists()
    (project / "work" / "ga-audit.toml").write_text('paths = ["my runs"]\nlevels.scaled = "warning"\n')
    assert bash(line, project, **job["variables"]).returncode == 0


def test_the_entries_of_the_hooks(project):
    (project / "work" / "ga-audit.toml").write_text('paths = ["my runs"]\nlevels."GA*" = "warning"\n')
    codes = {hook["id"]: bash(hook["entry"], project).returncode for hook in HOOKS}
    assert codes["ga-audit"] == 1
    assert codes["ga-audit-before-train"] in {0, 3}  # 3: a release newer than all that were measured


@pytest.mark.parametrize(
    "path", ["a/trainer_state.json", "b/events.out.tfevents.1.host.2.0", "x.wandb", "ga-audit.toml"]
)
def test_a_changed_log_starts_the_hook(path):
    assert re.search(HOOKS[0]["files"], path)
    assert not re.search(HOOKS[0]["files"], "train.py")
