"""A path that does not exist is no W&B run, unless it has the form of one and is no slip of the keyboard."""

import os
from pathlib import Path

import pytest

from ga_audit.logs import missing_path
from ga_audit.logs.discovery import find_runs
from ga_audit.logs.formats import Claim, Target, wandb_cloud
from ga_audit.run import ReadFailure


@pytest.fixture
def logs(tmp_path, monkeypatch):
    for name in (
        "sample_logs/transformers-4.48.0/ga8",
        "sample_logs/transformers-4.57.6/ga8",
        "trainlogs",
        "Team/proj",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sample_logs/transformers-4.48.0/ga8/trainer_state.json").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("sample_logs/transformers-4.48", "sample_logs/transformers-4.48.0"),
        ("sample_log/transformers-4.48.0/ga8", "sample_logs/transformers-4.48.0/ga8"),
        ("sample_logs/transformers-4.48.0/ga8x", "sample_logs/transformers-4.48.0/ga8"),
        ("sample_logs/transformers-4.48.0/ga8/trainer-state.json", "sample_logs/transformers-4.48.0/ga8/trainer_state.json"),
        ("./Sample_Logs/Transformers-4.57.6", "sample_logs/transformers-4.57.6"),
        ("sample_log/transformers-4.48.0/zzz", "sample_logs/transformers-4.48.0"),  # as far as it goes
        ("sample_logs/zzz", None),
        ("sample_logs/transformers-4.48.0/ga8/trainer_state.json/x", None),  # below a file
        ("zzz/ga8", None),
        ("a\x00b", None),
    ],
)  # fmt: skip
def test_the_nearest_path(logs, text, near):
    assert missing_path.find_similar(text) == near


def test_of_an_absolute_path(logs):
    assert missing_path.find_similar(str(logs / "trainlog")) == str(logs / "trainlogs")


@pytest.mark.parametrize(
    "text",
    ["sample_logs/ga8", "sample_logs/proj/ab12cd34", "sample_logs/proj/runs/ab12cd34", "sample_log/transformers-4.48.0",
     "sample_log/transformers-4.48.0/ga8", "trainlog", "team/proj"],
)  # fmt: skip
def test_what_exists_in_part_or_nearly_is_a_path(logs, text):
    assert wandb_cloud.claim(Target(text)) is Claim.NO
    (failure,) = find_runs([text])
    assert isinstance(failure, ReadFailure)
    assert failure.error.message == "no such file or directory"


@pytest.mark.parametrize(
    ("text", "claim"),
    [("ab12cd34", Claim.MAYBE), ("entity/project", Claim.MAYBE), ("entity/project/ab12cd34", Claim.MAYBE),
     ("entity/project/a run of mine", Claim.MAYBE), ("entity/project/runs/ab12cd34", Claim.MAYBE),
     ("sample_log/other", Claim.MAYBE), ("Team/proj?group=g", Claim.YES), ("wandb://Team/other", Claim.YES),
     ("https://wandb.ai/Team/proj", Claim.YES)],
)  # fmt: skip
def test_what_has_the_form_of_an_address_is_one(logs, text, claim):
    assert wandb_cloud.claim(Target(text)) is claim


def test_the_remedy_names_the_near_path_and_the_address(logs):
    remedies = {
        text: next(iter(find_runs([text]))).error.remedy for text in ("sample_logs/transformers-4.48", "a.json", "./x")
    }
    assert remedies == {
        "sample_logs/transformers-4.48": "Did you mean sample_logs/transformers-4.48.0? A W&B run of this name is"
        " wandb://sample_logs/transformers-4.48.",
        "a.json": "Check the path: give a log, a run directory or a tree, or a W&B run as entity/project/id.",
        "./x": "Check the path: give a log, a run directory or a tree, or a W&B run as entity/project/id.",
    }


def test_without_a_key_both_readings_are_given(logs, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.create_connection", lambda *args, **kwargs: pytest.fail("a connection was opened"))
    monkeypatch.setenv("HOME", str(logs))
    for text in ("runs/ga8", "ab12cd34", "entity/project/ab12cd34"):
        (failure,) = find_runs([text])
        places = f", no run of this id in {Path('wandb')}" if "/" not in text else ""
        assert failure.error.message == (
            f"no such file or directory{places}; as a W&B run it needs a login: no W&B API key for this server"
            " (https://api.wandb.ai)"
        )
        assert failure.error.remedy.startswith("Run `wandb login` once")
