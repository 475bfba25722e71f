"""What reaches a server, through the installed SDK and the stub: nothing by itself, and what is asked for once and whole."""

import json
import os
import shutil
from pathlib import Path

import pytest
from wandb_client import sdk_client
from wandb_stub import KEY, project, serving

from ga_audit.files.manifest import foreign
from ga_audit.logs.formats import wandb_file

SAMPLES = Path(__file__).parents[2] / "sample_logs"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with sdk_client(tmp_path_factory.mktemp("sdk")) as running:
        yield running


def annotated_project():
    runs = project((1, 8))
    for run in runs.values():
        run.update(group="g1", tags=["mine"], notes="my words")
    return runs


def test_without_the_flag_nothing_is_sent(client, tmp_path):
    with serving(annotated_project()) as stub:
        done = client.ga_audit(stub, "fix", "team/proj", cwd=tmp_path)
        assert done.status == 0, done.err
        assert not stub.uploads
        assert not {"UpsertBucket", "file_stream", "CreateRunFiles", "PUT"} & set(stub.operations)
        # beside us under the name of the project, not in a folder `team`
        assert [p.name for p in tmp_path.iterdir()] == ["proj-ga-audit"]
        (file,) = tmp_path.rglob("*.wandb")
        content = wandb_file._content(file)
        assert content.run["name"] == "ga8 (corrected)"
        assert content.run["entity"] == "team"
        assert content.run["group"] == "g1"
        assert content.tags == ["mine", "ga-audit"]
        assert content.config["ga_audit"]["original"] == "wandb://team/proj/run00008"
        assert not any(KEY.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        # and a fix of the fixed does nothing
        again = client.ga_audit(stub, "fix", str(tmp_path / "proj-ga-audit"), cwd=tmp_path)
        assert "already corrected" in again.out


def test_upload_and_annotate(client, tmp_path):
    runs = annotated_project()
    original = runs[("team", "proj", "run00008")]
    with serving(runs) as stub:
        done = client.ga_audit(stub, "fix", "team/proj", "--upload", "--annotate", "--format", "json", cwd=tmp_path)
        assert done.status == 0, done.err
        ((_, new_id),) = json.loads(done.out)["uploaded"].items()
        sent = stub.uploads[("team", "proj", new_id)]
        assert len(sent["rows"]) == len(original["rows"])
        for got, was in zip(sent["rows"], original["rows"], strict=True):
            for name, value in was.items():
                if name in {"train/loss", "train/grad_norm"}:
                    assert got[name] == value / 8
                elif name != "_runtime":
                    assert got[name] == value, name
        assert sent["groupName"] == "g1"
        assert sent["tags"] == ["mine", "ga-audit"]
        assert sent["config"]["ga_audit"]["original"] == "wandb://team/proj/run00008"
        assert sent["config"]["gradient_accumulation_steps"] == 8

        noted = stub.uploads[("team", "proj", "run00008")]
        assert noted["rows"] == []  # its history is not touched
        assert noted["config"] == original["config"]
        assert {k: v for k, v in noted["summary"].items() if not k.startswith("ga_audit/")} == original["rows"][-1]
        assert noted["summary"]["ga_audit/factor/train/loss"] == 8
        assert noted["summary"]["ga_audit/corrected_run"] == new_id
        first, second = noted["notes"].split("\n")
        assert first == "my words"
        assert second.startswith("ga-audit ")
        assert new_id in second
        assert ("team", "proj", "run00001") not in stub.uploads  # a run that is right stays as it is


@pytest.mark.parametrize("names", [("y" * 121 + "2", "y" * 121 + "8"), ("a?b", "a:b"), ("same", "same"), ("a", "a/b")])
def test_each_corrected_run_is_sent_once_whatever_its_name(client, tmp_path, names):
    runs = project((1, 2, 8))
    for ga, name in zip((2, 8), names, strict=True):
        runs[("team", "proj", f"run{ga:05}")]["name"] = name
    with serving(runs) as stub:
        done = client.ga_audit(stub, "fix", "team/proj", "--upload", "--format", "json", cwd=tmp_path)
        assert done.status == 0, done.err
        result = json.loads(done.out)
        sent = [upload["config"]["ga_audit"]["original"] for upload in stub.uploads.values()]
        assert sorted(sent) == ["wandb://team/proj/run00002", "wandb://team/proj/run00008"]
        assert sorted(result["uploaded"].values()) == sorted(new_id for _, _, new_id in stub.uploads)
        out = tmp_path / "proj-ga-audit"
        assert len(set(result["written"])) == len(result["written"])
        assert all(os.path.lexists(out / name) for name in result["written"])
        assert foreign(out) == []  # what `wandb sync` leaves is no one else's


def test_annotating_again_says_it_once(client, tmp_path):
    runs = annotated_project()
    with serving(runs) as stub:
        for _ in range(2):
            done = client.ga_audit(stub, "fix", "team/proj", "--annotate", "--force", cwd=tmp_path)
            assert done.status == 0, done.err
            runs[("team", "proj", "run00008")]["notes"] = stub.uploads[("team", "proj", "run00008")]["notes"]
        assert runs[("team", "proj", "run00008")]["notes"].count("ga-audit") == 1


def test_a_run_that_is_going_on_is_not_annotated(client, tmp_path):
    runs = annotated_project()
    runs[("team", "proj", "run00008")]["state"] = "running"
    with serving(runs) as stub:
        done = client.ga_audit(stub, "fix", "team/proj", "--annotate", cwd=tmp_path)
        assert done.status == 3
        assert "the run is going on" in done.err
        assert not stub.uploads


def test_a_local_run_is_sent_by_wandb_sync_and_its_points_arrive_equal(client, tmp_path):
    shutil.copytree(SAMPLES / "wandb-4.48.0", tmp_path / "logs")
    with serving({}) as stub:
        done = client.ga_audit(stub, "fix", "logs", "--upload", cwd=tmp_path)
        assert done.status == 0, done.err
        (file,) = (tmp_path / "logs-ga-audit").rglob("*.wandb")
        ((_, sent),) = stub.uploads.items()
        corrected = wandb_file._content(file).rows
        assert len(corrected) > 40
        assert [
            {k: v for k, v in row.items() if k != "_runtime"} for row in sorted(sent["rows"], key=lambda r: r["_step"])
        ] == [{k: v for k, v in row.items() if k != "_runtime"} for row in corrected]
        before = wandb_file._content(next((tmp_path / "logs/ga8").rglob("*.wandb"))).rows
        assert [r["train/loss"] * 8 for r in corrected if "train/loss" in r] == pytest.approx(
            [r["train/loss"] for r in before if "train/loss" in r]
        )


def test_what_is_no_wandb_run_cannot_be_sent(client, tmp_path):
    with serving({}) as stub:
        for option, word in (("--upload", "sent"), ("--annotate", "annotated")):
            source = str(SAMPLES / "transformers-4.48.0")
            done = client.ga_audit(stub, "fix", source, option, "-o", str(tmp_path / word), cwd=tmp_path)
            assert done.status == 3
            assert f"only W&B runs can be {word}" in done.err
        assert not stub.uploads


def test_an_upload_that_fails_says_so_and_how_to_go_on(client, tmp_path):
    with serving(annotated_project()) as stub:
        stub.status["UpsertBucket"] = 403
        done = client.ga_audit(stub, "fix", "team/proj", "--upload", cwd=tmp_path)
        assert done.status == 3
        assert "not sent" in done.err
        assert "wandb sync" in done.err
        assert KEY not in done.err + done.out


def test_half_a_history_is_not_corrected(client, tmp_path):
    runs = annotated_project()
    rows = [{"train/loss": 8.0 - i / 1e4, "train/global_step": i, "_step": i} for i in range(12_000)]
    runs[("team", "proj", "run00008")]["rows"] = rows
    with serving(runs) as stub:
        stub.cut_from = 10_000
        args = ("fix", "team/proj/run00008", "--assume", "loss=1", "--timeout", "3")
        done = client.ga_audit(stub, *args, cwd=tmp_path)
        assert done.status == 3
        assert "the rest is missing" in done.err
        assert not list(tmp_path.rglob("*.wandb"))
