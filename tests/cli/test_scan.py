"""`ga-audit scan` on a stub of a W&B server, on folders, and on a Dask cluster."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from wandb_client import sdk_client
from wandb_stub import KEY, environment, project, serving, trainer_rows

from ga_audit.cli import cli

SAMPLES = Path(__file__).parents[2] / "sample_logs"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with sdk_client(tmp_path_factory.mktemp("sdk")) as running:
        yield running


def three_experiments():
    """A release that sums, one that does not, a run that cannot be read, one that has no kin."""
    runs = project((1, 2, 8))
    for (_, _, name), run in project((1, 2, 8), summed=False).items():
        run["config"]["transformers_version"] = "4.57.6"
        run["files"] = {"requirements.txt": "transformers==4.57.6\naccelerate==1.2.1\n"}
        runs[("team", "proj", name.replace("run", "new"))] = {**run, "name": f"new {run['name']}", "tags": ["new"],
                                                             "created": "2026-06-01T00:00:00"}  # fmt: skip
    runs[("team", "proj", "broken01")] = {"config": {}, "rows": [{"accuracy": 1.0, "_step": 0}], "name": "broken",
                                          "state": "crashed"}  # fmt: skip
    runs[("team", "proj", "alone001")] = {"config": {"_name_or_path": "other", "dataset": "other", "seed": 1},
                                          "rows": trainer_rows(30), "name": "alone", "group": "g"}  # fmt: skip
    return runs


def scanned(client, stub, *args):
    done = client.ga_audit(stub, "scan", *args, "--format", "json")
    return done, {row["run"]: row for row in json.loads(done.out)["rows"]}


def test_a_project(client):
    with serving(three_experiments()) as stub:
        done, rows = scanned(client, stub, "team/proj")
        assert done.status == 1
        assert len(rows) == 8
        for ga in (1, 2, 8):
            assert rows[f"ga{ga}"]["verdict"] == ("scaled" if ga > 1 else "healthy")
            assert rows[f"ga{ga}"]["loss_factor"] == ga
            assert rows[f"new ga{ga}"]["verdict"] == "healthy"
        broken = rows["wandb://team/proj/broken01"]
        assert broken["verdict"] == "not read"
        assert "no training loss" in broken["why"]
        assert rows["alone"]["verdict"] == "inconclusive"
        assert rows["ga8"]["source"] == "wandb://team/proj/run00008"
        assert KEY not in done.out + done.err


def test_what_is_chosen_is_chosen_by_the_server(client):
    with serving(three_experiments()) as stub:
        for args, expected in (
            (("--tag", "new"), {"new ga1", "new ga2", "new ga8"}),
            (("--since", "2026-05-01"), {"new ga1", "new ga2", "new ga8"}),
            (("--filter", "group=g"), {"alone"}),
            (("--filter", "gradient_accumulation_steps>2", "--filter", "state=finished"), {"ga8", "new ga8"}),
            (("--filter", "name=ga2"), {"ga2"}),
        ):
            stub.operations.clear()
            _, rows = scanned(client, stub, "team/proj", *args, "--no-cache")
            assert set(rows) == expected, args
            assert stub.operations["HistoryPage"] == len(expected)


def test_nothing_there(client):
    with serving(three_experiments()) as stub:
        done, rows = scanned(client, stub, "team/proj", "--tag", "none")
        assert done.status == 3
        assert next(row["why"] for row in rows.values()).startswith(("no such file", "no runs there"))


def test_forms_and_files(tmp_path):
    runner = CliRunner()
    for name, start in (
        ("a.html", "<!doctype html>"),
        ("a.csv", "verdict,run"),
        ("a.json", "{"),
        ("a.txt", "4 runs in 1"),
    ):
        path = tmp_path / name
        done = runner.invoke(cli, ["scan", str(SAMPLES / "transformers-4.48.0"), "-o", str(path)])
        assert done.exit_code == 1, done.output
        assert path.read_text().startswith(start)
        again = runner.invoke(cli, ["scan", str(SAMPLES / "transformers-4.48.0"), "-o", str(path)])
        assert again.exit_code == 3
        assert "exists already" in again.output
    done = runner.invoke(cli, ["scan", str(SAMPLES / "transformers-4.57.6")])
    assert done.exit_code == 0
    assert "4 healthy" in done.output


@pytest.mark.parametrize("args", [["--since", "soon"], ["--filter", "nonsense"], ["--jobs", "0"]])
def test_wrong_usage(args):
    done = CliRunner().invoke(cli, ["scan", ".", *args])
    assert done.exit_code == 2


def test_a_dask_cluster_gives_the_same(client, monkeypatch):
    distributed = pytest.importorskip("distributed")
    with serving(three_experiments()) as stub:
        for name, value in environment(stub.url, client.folder).items():
            monkeypatch.setenv(name, value)
        here = client.ga_audit(stub, "scan", "team/proj", str(SAMPLES), "--format", "json")
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            address = cluster.scheduler_address
            there = client.ga_audit(stub, "scan", "team/proj", str(SAMPLES), "--format", "json", "--dask", address)
        assert json.loads(there.out) == json.loads(here.out)
        assert len(json.loads(here.out)["rows"]) == 24
        done = client.ga_audit(stub, "scan", "team/proj", "--dask", "tcp://127.0.0.1:9")
        assert done.status == 3
        assert "no Dask scheduler answers" in done.err


@pytest.mark.parametrize("suffix", [".txt", ".json", ".csv", ".html"])
def test_force_replaces_a_survey_of_ours_and_never_a_log(tmp_path, suffix):
    runner, logs, out = CliRunner(), tmp_path / "runs", tmp_path / f"s{suffix}"
    shutil.copytree(SAMPLES / "transformers-4.48.0", logs)
    for _ in range(2):
        done = runner.invoke(cli, ["scan", str(logs), "-o", str(out), "--force"])
        assert done.exit_code == 1, done.output
    out.write_text("mine")
    done = runner.invoke(cli, ["scan", str(logs), "-o", str(out), "--force"])
    assert done.exit_code == 3
    assert done.stderr.startswith(f"error: {out}: exists already, and ga-audit did not write it\n")
    assert out.read_text() == "mine"


def test_force_never_replaces_an_input(tmp_path):
    logs = tmp_path / "runs"
    shutil.copytree(SAMPLES / "transformers-4.48.0", logs)
    log = logs / "ga8" / "trainer_state.json"
    before = log.read_bytes()
    for target, said in (
        (logs, f"exists already, within the input {logs}, where only a new output is written"),
        (log, f"the output would replace the input {log}"),
    ):
        done = CliRunner().invoke(cli, ["scan", str(target), "-o", str(log), "--force"])
        assert done.exit_code == 2
        assert done.stderr.startswith(f"error: {log}: {said}\n")
        assert log.read_bytes() == before
