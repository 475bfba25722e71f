"""Runs of a server through the installed command, with the real SDK against the stub."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from wandb_client import sdk_client
from wandb_stub import KEY, project, serving, trainer_rows

from ga_audit.logs.formats import Claim, Target, wandb_cloud

SAMPLE = Path(__file__).parents[3] / "sample_logs/wandb-4.48.0/ga8"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with sdk_client(tmp_path_factory.mktemp("sdk")) as running:
        yield running


def test_claims_what_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wandb_cloud.claim(Target("team/proj/ab12cd34")) is Claim.MAYBE
    assert wandb_cloud.claim(Target("wandb://team/proj/ab12cd34")) is Claim.YES
    assert wandb_cloud.claim(Target("https://wandb.ai/team/proj/runs/ab12cd34")) is Claim.YES
    assert wandb_cloud.claim(Target("missing.json")) is Claim.NO
    assert wandb_cloud.claim(Target("-", text=b"x")) is Claim.NO
    (tmp_path / "team/proj/ab12cd34").mkdir(parents=True)
    assert wandb_cloud.claim(Target("team/proj/ab12cd34")) is Claim.NO


def test_a_run_of_the_server_is_read_as_a_local_one(client):
    with serving(project((8,))) as stub:
        done = client.ga_audit(stub, "inspect", "--show-series", "team/proj/run00008", "--no-cache")
        assert done.status == 0
        assert "read    wandb://team/proj/run00008  (wandb_cloud)" in done.out
        assert "gradient_accumulation_steps = 8  [W&B: config: gradient_accumulation_steps]" in done.out
        assert "transformers == 4.48.0" in done.out
        assert "'train/loss': 40 points, steps 1..40" in done.out  # train/global_step, not the count of rows
        assert "'eval/loss': 4 points, steps 10..40" in done.out
        assert "world_size" not in done.out or "= 1" in done.out


def test_a_project_is_audited(client):
    with serving(project((1, 2, 8))) as stub:
        done = client.ga_audit(stub, "inspect", "team/proj")
        assert done.status == 1
        assert done.out.startswith("SCALED")
        assert "GA001" in done.out


def test_display_names_that_come_twice_are_told_apart(client):
    runs = project((1, 8))
    for run in runs.values():
        run["name"] = "my run"
    with serving(runs) as stub:
        done = client.ga_audit(stub, "inspect", "team/proj")
        assert "my run (run00001)" in done.out
        assert "my run (run00008)" in done.out


def test_a_run_that_fails_stops_no_other(client):
    runs = project((1, 2, 8))
    runs[("team", "proj", "run00002")]["rows"] = [{"accuracy": 1.0, "_step": 0}]
    with serving(runs) as stub:
        done = client.ga_audit(stub, "inspect", "team/proj")
        assert done.out.startswith("SCALED")
        assert "run00002: holds no training loss and no gradient norm; it has accuracy" in done.out


def test_a_running_run_and_a_broken_line_are_said(client):
    runs = project((8,))
    rows = [{"train/loss": 1.0 + i / 1e5, "train/global_step": i, "_step": i} for i in range(12_000)]
    next(iter(runs.values())).update(state="running", rows=rows)
    with serving(runs) as stub:
        stub.cut_from = 10_000
        done = client.ga_audit(stub, "inspect", "team/proj/run00008", "--timeout", "3")
        assert "after 10000 rows: the rest is missing" in " ".join(done.out.split())
        assert "the run is running: its history may grow" in " ".join(done.out.split())


def test_a_bare_id_is_looked_for_on_this_machine_first(client, tmp_path):
    """Then on the server; where it is nowhere, what was tried is said."""
    shutil.copytree(next(SAMPLE.rglob("offline-run-*")), tmp_path / "wandb" / "run-20260101_000000-ab12cd34")
    folder = tmp_path / "wandb" / "run-20260101_000000-ab12cd34"
    next(folder.glob("*.wandb")).rename(folder / "run-ab12cd34.wandb")
    with serving(project((8,))) as stub:
        done = client.ga_audit(stub, "inspect", "--show-series", "ab12cd34", cwd=tmp_path)
        assert done.status == 0
        assert "(wandb_file)" in done.out
        assert not stub.operations
        done = client.ga_audit(stub, "inspect", "run00008", cwd=tmp_path, WANDB_PROJECT="proj")
        assert "  ga8   8 " in done.out  # not on this machine, so from the server
        done = client.ga_audit(stub, "inspect", "zz000000", cwd=tmp_path, WANDB_PROJECT="proj")
        assert done.status == 3
        for words in (
            "no such file or directory",
            "no run of this id in wandb",
            "run zz000000 of team/proj, by id and by",
        ):
            assert words in done.out + done.err
        done = client.ga_audit(stub, "inspect", "zz000000", cwd=tmp_path, WANDB_API_KEY=None)
        assert "no W&B API key" in done.out + done.err


def test_a_mistyped_path_is_called_one_and_costs_no_start_of_the_sdk(tmp_path):
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom ga_audit.cli import cli\n"
        "done = CliRunner().invoke(cli, ['inspect', 'runs/ga8'])\n"
        "assert 'no such file or directory' in done.output, done.output\n"
        "sys.exit('wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"HOME": str(tmp_path)}, timeout=60)
    assert done.returncode == 0


def test_no_key_is_printed_whatever_goes_wrong(client):
    with serving(project((8,))) as stub:
        printed = ""
        for args in (["inspect", "team/proj/run00008"], ["inspect", "team/proj/no"], ["inspect", "team/none"]):
            done = client.ga_audit(stub, *args)
            printed += done.out + done.err
        stub.status["Run"] = 401
        done = client.ga_audit(stub, "inspect", "team/proj/run00008", "--timeout", "5")
        assert "refused the API key" in done.out + done.err
        done = client.ga_audit(stub, "inspect", "team/proj/run00008", WANDB_API_KEY="short-and-secret")
        printed += done.out + done.err
        assert KEY not in printed
        assert "short-and-secret" not in printed


def test_names_of_a_server_do_not_reach_the_terminal_raw(client):
    runs = project((1, 8))
    next(iter(runs.values()))["name"] = "evil\x1b[31m\x07name"
    next(iter(runs.values()))["config"]["dataset"] = "\x1b]0;x\x07"
    with serving(runs) as stub:
        done = client.ga_audit(stub, "inspect", "team/proj")
        assert "\x1b" not in done.out
        assert "\x07" not in done.out


def test_a_resumed_run_is_one_series(client):
    rows = trainer_rows(40, 8.0)
    again = [{**row, "_step": row["_step"] + 22} for row in rows[22:]]  # _step goes on, train/global_step goes back
    runs = project((8,))
    next(iter(runs.values()))["rows"] = rows[:33] + [{**r, "_step": 33 + i} for i, r in enumerate(again)]
    with serving(runs) as stub:
        done = client.ga_audit(stub, "inspect", "--show-series", "team/proj/run00008", "--no-cache")
        assert "'train/loss': 40 points, steps 1..40" in done.out
