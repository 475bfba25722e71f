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
    assert "unchanged: ga1" in done.output
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
    done = run(logs, "--format", "json", "--include-original")
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


def tree(top):
    return {p.relative_to(top).as_posix(): p.read_bytes() for p in top.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("logs", "logs: the output would replace the input logs"),
        (".", ".: the output would replace a folder of the input logs"),
        ("logs/ga1", "logs/ga1: exists already, within the input logs, where only a new output is written"),
    ],
)
def test_force_never_touches_an_input(logs, monkeypatch, out, said):
    monkeypatch.chdir(logs.parent)
    before = tree(logs.parent)
    done = run("logs", "-o", out, "--force")
    assert done.exit_code == 2
    assert done.stderr == f"error: {said}\n  -> Give another place for the output; what is there stays as it is.\n"
    assert tree(logs.parent) == before


def test_an_output_within_the_input_is_written_where_it_is_new(logs):
    before = tree(logs)
    assert run(logs, "-o", logs / "out").exit_code == 0
    assert {k: v for k, v in tree(logs).items() if not k.startswith("out/")} == before


def test_force_keeps_what_the_user_put_into_an_output(logs):
    out = logs.parent / "logs-ga-audit"
    assert run(logs).exit_code == 0
    (out / "notes.txt").write_text("mine")
    before = tree(out)
    done = run(logs, "--force")
    assert done.exit_code == 3
    assert done.stderr == (
        f"error: {out}: exists already, and holds what ga-audit did not write: notes.txt\n"
        "  -> Give another place for the output; what is there stays as it is.\n"
    )
    assert tree(out) == before


@pytest.mark.parametrize(
    "names", [("x" * 121 + "1", "x" * 121 + "2"), ("Ga8", "ga8"), ("ga-audit.json", "DIAGNOSIS.md")]
)
def test_runs_whose_names_share_a_folder_are_written_apart(tmp_path, names):
    for ga, name in zip((4, 8), names, strict=True):
        (tmp_path / "logs" / name).mkdir(parents=True)
        rows = [{"step": s, "loss": ga * 2.0} for s in range(1, 30)]
        (tmp_path / "logs" / name / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
    given = [option for ga, name in zip((4, 8), names, strict=True) for option in ("--ga", f"{name}={ga}")]
    done = run(tmp_path / "logs", *given, "--assume", "loss=1", "-o", tmp_path / "out", "--format", "json")
    assert done.exit_code == 0, done.output
    written = sorted(tree(tmp_path / "out"))
    assert json.loads(done.stdout)["written"] == written
    assert len(written) == 4
    states = list((tmp_path / "out").rglob("trainer_state.json"))
    assert [losses(path)[0] for path in states] == [2.0, 2.0]
    listed = json.loads((tmp_path / "out" / "ga-audit.json").read_text())["files"]
    assert sorted([*listed, "ga-audit.json"]) == written


def test_the_last_line_opens_before_and_after(tmp_path):
    logs, out = tmp_path / "logs", tmp_path / "out"
    shutil.copytree(SAMPLES / "tensorboard-4.48.0", logs)
    last = run(logs, "-o", out).output.splitlines()[-1]
    assert last == f"  tensorboard --logdir_spec original:{logs},corrected:{out}"
    logs, out = tmp_path / "wandb-logs", tmp_path / "wandb-out"
    shutil.copytree(SAMPLES / "wandb-4.48.0", logs)
    last = run(logs, "-o", out).output.splitlines()[-1]
    [offline] = [str(path) for path in out.rglob("offline-run-*") if path.is_dir()]
    assert last == f"  wandb sync {offline}"
