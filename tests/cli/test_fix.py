import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from ga_audit.cli.fix import command

SAMPLES = Path(__file__).parents[2] / "sample_logs"


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


@pytest.fixture
def logs(tmp_path):
    shutil.copytree(SAMPLES / "transformers-4.48.0", tmp_path / "logs")
    return tmp_path / "logs"


def losses(path):
    return [row["loss"] for row in json.loads(path.read_text())["log_history"] if "loss" in row]


def test_corrected_copies_beside_the_originals(logs):
    before = {p: p.read_bytes() for p in logs.rglob("*") if p.is_file()}
    done = run(logs)
    assert done.exit_code == 0, done.output
    out = logs.parent / "logs-ga-audit"
    assert losses(out / "ga8/trainer_state.json") == pytest.approx(
        [v / 8 for v in losses(logs / "ga8/trainer_state.json")]
    )
    assert not (out / "ga1").exists()
    assert "left alone: ga1" in done.output
    assert {p: p.read_bytes() for p in logs.rglob("*") if p.is_file()} == before
    manifest = json.loads((out / "ga-audit.json").read_text())
    assert [r["run"] for r in manifest["runs"]] == ["ga2", "ga4", "ga8"]
    assert "GA" in (out / "DIAGNOSIS.md").read_text()


def test_on_its_own_output_nothing_changes_and_it_says_so(logs):
    run(logs)
    done = run(logs.parent / "logs-ga-audit")
    assert done.exit_code == 0
    assert "already corrected" in done.output
    assert not (logs.parent / "logs-ga-audit-ga-audit").exists()


def test_dry_run_writes_nothing(logs):
    done = run(logs, "--dry-run")
    assert done.exit_code == 0
    assert "33.4" in done.output
    assert "4.175" in done.output
    assert not (logs.parent / "logs-ga-audit").exists()


def test_an_existing_output_is_refused_without_force(logs):
    assert run(logs).exit_code == 0
    refused = run(logs)
    assert refused.exit_code == 3
    assert "--force" in refused.output
    assert run(logs, "--force").exit_code == 0


def test_a_single_run_needs_evidence_or_an_assumption(logs):
    single = logs / "ga8" / "trainer_state.json"
    alone = logs.parent / "alone" / "trainer_state.json"
    alone.parent.mkdir()
    state = json.loads(single.read_text())
    state["log_history"] = [row for row in state["log_history"] if "loss" in row]
    alone.write_text(json.dumps(state))
    done = run(alone, "--ga", "8")
    assert done.exit_code == 3
    assert "Nothing written" in done.output
    done = run(alone, "--ga", "8", "--assume", "loss=1,grad_norm=0", "-o", logs.parent / "out")
    assert done.exit_code == 0, done.output
    state = json.loads(next((logs.parent / "out").rglob("trainer_state.json")).read_text())
    assert state["log_history"][0]["loss"] == pytest.approx(33.3967 / 8)
    assert state["log_history"][0]["grad_norm"] == pytest.approx(7.7232, rel=1e-4)


def test_json_and_originals_kept_inside(logs):
    done = run(logs, "--json", "--include-original")
    result = json.loads(done.output)
    assert result["left_alone"] == ["ga1"]
    state = json.loads((logs.parent / "logs-ga-audit/ga8/trainer_state.json").read_text())
    assert state["log_history"][0]["original/loss"] == pytest.approx(8 * state["log_history"][0]["loss"])


@pytest.mark.parametrize("value", ["loss", "loss=x", "eval_loss=1"])
def test_a_wrong_assumption_is_a_usage_error(logs, value):
    assert run(logs, "--assume", value).exit_code == 2


def test_a_bug_that_does_two_things_is_refused(logs):
    done = run(logs, "--bug", "GA001")
    assert done.exit_code == 3
    assert "--assume" in done.output
