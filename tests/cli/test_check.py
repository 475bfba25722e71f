"""`ga-audit check`: from a policy's file to the exit status."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ga_audit.cli import cli

ROOT = Path(__file__).parents[2]
SCALED = ROOT / "sample_logs" / "transformers-4.48.0"
HEALTHY = ROOT / "sample_logs" / "transformers-4.57.6"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    shutil.copytree(SCALED, tmp_path / "runs")
    return tmp_path


def check(*words):
    done = CliRunner().invoke(cli, ["check", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_violated_and_met(project):
    assert check("runs").exit_code == 1
    assert check(HEALTHY).exit_code == 0
    assert check("runs/ga8").exit_code == 3
    assert check("none.jsonl").exit_code == 3


def test_the_policy_names_paths_and_levels(project):
    (project / "pyproject.toml").write_text(
        '[tool.ga-audit]\npaths = ["runs"]\n[tool.ga-audit.levels]\nscaled = "warning"\n'
    )
    done = check()
    assert (done.exit_code, done.stdout.splitlines()[-2]) == (
        0, "policy met: 0 error, 2 warning, 0 undecided, 0 accepted",
    )  # fmt: skip
    done = check("--config", project / "none.toml")
    assert (done.exit_code, done.stdout) == (2, "")
    (project / "pyproject.toml").write_text("[tool.ga-audit.level]\n")
    done = check()
    assert done.exit_code == 2
    assert "Did you mean levels?" in done.stderr


def test_the_policy_gives_the_ga_that_logs_do_not_record_and_an_option_goes_before_it(project):
    for ga in (1, 8):
        rows = [{"step": i, "loss": ga * (4 - i / 20), "grad_norm": ga * (2 + i % 3 / 10)} for i in range(1, 41)]
        (project / f"{'ab'[ga > 1]}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check("a.jsonl", "b.jsonl").exit_code == 3
    (project / "ga-audit.toml").write_text('ga = { a = 1, b = 8, "fits/none" = 4 }\n')
    assert check("a.jsonl", "b.jsonl").exit_code == 1
    assert check("a.jsonl", "b.jsonl", "--ga", "b=1").exit_code == 3
    done = check("a.jsonl", "b.jsonl", "--ga", "c=1")
    assert (done.exit_code, "--ga c=...: no run has this name" in done.stderr) == (2, True)


def test_without_a_path_there_is_nothing_to_check(project):
    assert (check().exit_code, check().stdout) == (2, "")


def test_only_new_findings_fail_with_a_baseline(project):
    (project / "ga-audit.toml").write_text('paths = ["runs"]\nbaseline = "known.json"\n')
    done = check("--write-baseline")
    assert (done.exit_code, done.stderr) == (0, f"written: {project / 'known.json'} (6 entries)\n")
    assert json.loads((project / "known.json").read_text())["findings"][0] == {
        "finding": "grad-norm-summed-over-ga", "run": "runs/ga2/trainer_state.json",
    }  # fmt: skip
    assert check().exit_code == 0
    shutil.copytree(SCALED / "ga8", project / "runs" / "other")
    assert check().exit_code == 1
    (project / "known.json").write_text("{}")
    assert check("--write-baseline").exit_code == 3
    assert (project / "known.json").read_text() == "{}"


def test_a_command_writes_the_logs_first_and_no_shell_reads_it(project):
    code = f"import shutil; shutil.copytree({str(SCALED)!r}, 'made')"
    command = shlex.join([sys.executable, "-c", code])
    assert check("--run", command, "made").exit_code == 1
    done = check("--run", "false", "runs")
    assert (done.exit_code, "ended with status 1" in done.stderr) == (3, True)
    assert check("--run", "no-such-command", "runs").exit_code == 3
    assert check("--run", "echo 'x", "runs").exit_code == 2
    assert check("--run", f"{sys.executable} -c pass ; touch pwned", "runs").exit_code == 1
    assert not (project / "pwned").exists()


def test_before_train(project):
    done = check("--before-train", "--package", "transformers==4.46.1", "--model", "GPT2LMHeadModel")
    assert done.exit_code == 1
    assert "GA002" in done.stdout
    assert check("--before-train", "runs").exit_code == 2
    assert check("--model", "X", "runs").exit_code == 2
    assert check("--before-train", "--package", "transformers").exit_code == 2


@pytest.mark.parametrize("form", ["json", "sarif", "junit", "github"])
def test_the_forms(project, form, monkeypatch):
    summary = project / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = check("runs", "--format", form)
    assert (done.exit_code, done.stderr) == (1, "")
    written = summary.read_text()
    assert written.startswith("before\n### ga-audit: policy violated\n") is (form == "github")
    if form == "json":
        found = json.loads(done.stdout)
        assert [found["schema"], found["outcome"]] == ["ga-audit-check/1", "violated"]
        assert [c["rule"] for c in found["concerns"]] == ["loss-summed-over-ga", "grad-norm-summed-over-ga"]
        assert found["concerns"][0]["exponents"] == {"ga": 1, "world_size": 0}


def test_report_files_besides(project):
    files = ("--report", "sarif=a.sarif", "--report", "junit=a.xml", "--report", "json=a.json")
    done = check("runs", *files)
    assert done.exit_code == 1
    assert Path("a.sarif").read_text() == check("runs", "--format", "sarif").stdout
    assert Path("a.xml").read_text() == check("runs", "--format", "junit").stdout
    assert check("runs", *files).exit_code == 1  # its own files give way
    Path("a.xml").write_text("<mine/>")
    assert check("runs", *files).exit_code == 3
    assert Path("a.xml").read_text() == "<mine/>"
    assert check("runs", "--report", "text=a").exit_code == 2


@pytest.mark.torch
def test_repro_is_checked_with_what_it_measured(project, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = check("--repro", "--engine torch --fault sum-loss-log --ga 1,2 --steps 4")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == "error      loss-summed-over-ga: world1-ga2"
    assert check("--repro", "--no-such-option").exit_code == 2
