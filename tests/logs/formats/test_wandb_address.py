import pytest

from ga_audit.logs.formats._wandb.address import SAAS, Address, local_runs, parse

RUN = Address("team", "proj", "ab12cd34")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ab12cd34", Address(run="ab12cd34", certain=False)),
        ("proj/ab12cd34", Address(project="proj", run="ab12cd34", certain=False)),
        ("team/proj/ab12cd34", Address("team", "proj", "ab12cd34", certain=False)),
        ("team/proj/a run of mine", Address("team", "proj", "a run of mine", certain=False)),
        ("team/proj/runs/ab12cd34", Address("team", "proj", "ab12cd34", certain=False)),
        ("wandb://team/proj/runs/ab12cd34", RUN),
        ("wandb://team/proj/x.json", Address("team", "proj", "x.json")),
        ("wandb://team/proj/ab12cd34", RUN),
        ("wandb://my-own-id", Address(run="my-own-id")),
        ("https://wandb.ai/team/proj/runs/ab12cd34", Address("team", "proj", "ab12cd34", base_url=SAAS)),
        (
            "https://wandb.ai/team/proj/runs/ab12cd34/overview?nw=nwuserx",
            Address("team", "proj", "ab12cd34", base_url=SAAS),
        ),
        ("wandb.ai/team/proj/runs/ab12cd34", Address("team", "proj", "ab12cd34", base_url=SAAS)),
        (
            "https://forge.coreweave.com/wandb/team/proj/runs/ab12cd34",
            Address("team", "proj", "ab12cd34", base_url=SAAS),
        ),
        ("https://wandb.acme.io/team/proj/runs/x1", Address("team", "proj", "x1", base_url="https://wandb.acme.io")),
        ("http://127.0.0.1:8080/team/proj/runs/x1", Address("team", "proj", "x1", base_url="http://127.0.0.1:8080")),
        ("https://wandb.ai/team/proj/workspace?nw=1", Address("team", "proj", base_url=SAAS)),
        ("https://wandb.ai/team/proj", Address("team", "proj", base_url=SAAS)),
        ("https://wandb.ai/team/proj/sweeps/s1w2", Address("team", "proj", sweep="s1w2", base_url=SAAS)),
        ("https://wandb.ai/team/proj/groups/g%201/workspace", Address("team", "proj", group="g 1", base_url=SAAS)),
        ("https://wandb.ai/team/proj/reports/Title--Vmlldzo", Address("team", "proj", base_url=SAAS)),
        ("team/proj?group=g%201", Address("team", "proj", group="g 1")),
        ("wandb://proj?tag=a&sweep=b", Address(None, "proj", tag="a", sweep="b")),
    ],
)
def test_every_way_to_name_a_run(text, address):
    assert parse(text) == address


@pytest.mark.parametrize(
    "text",
    ["runs", "model.json", "./ab12cd34", "../x/y", "a/../b", "/abs/path", "~/x", "-", "dir/", "a\\b", "a/b/c/d", "s3://b/k",
     "team/proj?color=red", "runs/ga?", "runs/ga*", "runs/ga8.json",
     "runs/x.jsonl", "team/proj/train.log", "out/console.txt", "x/data.csv", "x/run-ab12cd34.wandb", "run.wandb/files",
     "runs/events.out.tfevents.1.host", "a/b/..",
     "https://wandb.ai/", "https://[bad/x/y", "https://wandb.ai/team", "", "a/b\x00c",
     "https://huggingface.co/user/model/blob/main/trainer_state.json"],
)  # fmt: skip
def test_what_is_no_address(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    "address",
    [RUN, Address("team", "my proj", "100% run"), Address("team", "proj", group="a&b c"), Address("t", "p", tag="x", sweep="s"),
     Address("t", "p", "i d", base_url="https://acme.io"), Address("t", "p", "i", base_url=SAAS),
     Address("t", "p", group="g", base_url=SAAS)],
)  # fmt: skip
def test_an_address_as_text_is_the_same_address(address):
    assert parse(str(address)) == address


def test_a_name_and_password_in_a_url_are_dropped():
    address = parse("https://me:secret@acme.io/t/p/runs/i")
    assert address == Address("t", "p", "i", base_url="https://acme.io")
    assert "secret" not in str(address)


def test_local_runs_of_an_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    for name in ("elsewhere/wandb/run-20260101_000000-ab12cd34", "elsewhere/wandb/run-20260102_000000-ab12cd34"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run-ab12cd34.wandb").touch()
    assert [p.name for p in local_runs("ab12cd34")] == ["run-20260101_000000-ab12cd34", "run-20260102_000000-ab12cd34"]
    (tmp_path / "wandb/offline-run-20260103_000000-ab12cd34").mkdir(parents=True)
    assert len(local_runs("ab12cd34")) == 2  # an empty directory is no run
    (tmp_path / "wandb/offline-run-20260103_000000-ab12cd34/run-ab12cd34.wandb").touch()
    assert [p.parent.name for p in local_runs("ab12cd34")] == ["wandb"]  # the working directory comes first
    assert local_runs("*") == []
