import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Claim, Rescale, Rewrite, Target, wandb_file
from ga_audit.logs.formats._wandb import framing
from ga_audit.run import Role

SAMPLE = next((Path(__file__).parents[3] / "sample_logs/wandb-4.48.0/ga8").rglob("*.wandb"))


def read(target):
    (run,) = wandb_file.read(Target(str(target)))
    return run


def test_what_the_sdk_wrote():
    run = read(SAMPLE.parent)
    assert run.name == "ga8"
    assert len(run.get(Role.LOSS)) == 40
    assert run.get(Role.LOSS).value[0] == 33.3967
    assert run.get(Role.LOSS).position[-1] == 40  # train/global_step, not W&B's row count
    assert run.get(Role.EVAL_LOSS).position.tolist() == [10, 20, 30, 40]
    assert run.settings.ga == 8
    assert run.settings.packages["transformers"].value == "4.48.0"
    assert run.settings.packages["accelerate"].value == "1.10.1"
    assert wandb_file.claim(Target(str(SAMPLE))) is Claim.YES
    assert wandb_file.claim(Target(str(SAMPLE.parent))) is Claim.YES


def test_our_walk_agrees_with_the_sdks_own_messages():
    from wandb.proto import wandb_internal_pb2 as pb

    ours = [dict(r) for r in wandb_file._content(SAMPLE).rows]
    theirs = []
    for payload in framing.payloads(SAMPLE.read_bytes(), [], "x"):
        record = pb.Record.FromString(payload)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            theirs.append(
                {".".join(i.nested_key) or i.key: wandb_file.wandb_run.json_value(i.value_json) for i in items}
            )
    assert ours == theirs
    assert len(ours) > 40


SCRIPT = """
import math, sys, wandb
with wandb.init(mode="offline", dir=sys.argv[1], project="p", name="mine", id="abcd1234",
                config={"gradient_accumulation_steps": 4}, settings=wandb.Settings(console="off", silent=True)) as run:
    for i in range(5):
        run.log({"train/loss": math.nan if i == 2 else 3.0 - i / 10, "note": "text", "big": list(range(9000))})
    run.log({"eval/loss": math.inf})
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wandb")
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], check=True, capture_output=True, timeout=120)
    return next(folder.rglob("*.wandb"))


def test_the_installed_sdk_nan_infinity_and_records_over_several_blocks(written):
    run = read(written)
    assert written.stat().st_size > 3 * 32768
    assert run.settings.ga == 4
    values = run.get(Role.LOSS).value
    assert math.isnan(values[2])
    assert values[4] == 2.6
    assert math.isinf(run.get(Role.EVAL_LOSS).value[0])


def test_cut_off_it_is_read_up_to_there_and_said(tmp_path):
    data = SAMPLE.read_bytes()
    path = tmp_path / "run-x.wandb"
    path.write_bytes(data[: len(data) // 2])
    run = read(path)
    assert {"truncated", "unfinished"} <= {n.code for n in run.notes}
    assert 0 < len(run.get(Role.LOSS)) < 40


def test_a_wrong_checksum_loses_the_rest_of_its_block_and_is_said(tmp_path):
    data = bytearray(SAMPLE.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "run-x.wandb"
    path.write_bytes(data)
    run = read(path)
    assert any(n.code == "wrong-checksum" for n in run.notes)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.integers(1, 255), st.floats(0, 1))
def test_damage_anywhere_is_an_error_or_a_shorter_run(tmp_path_factory, at, flip, end):
    content = bytearray(SAMPLE.read_bytes())
    content[int(at * (len(content) - 1))] ^= flip
    path = tmp_path_factory.mktemp("x") / "run-x.wandb"
    path.write_bytes(content[: int(end * len(content))])
    try:
        list(wandb_file.read(Target(str(path))))
    except AuditError as error:
        assert error.remedy


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "empty"), (b":W&B", "empty"), (b":W&B\xe1\xbe\x00", "no history"), (b"version https://git-lfs", "git-lfs"),
     (b"something else", "no W&B run")],
)  # fmt: skip
def test_bad_input(tmp_path, content, word):
    path = tmp_path / "run-x.wandb"
    path.write_bytes(content)
    with pytest.raises(AuditError, match=word) as caught:
        read(path)
    assert "run-x.wandb" in caught.value.where
    assert caught.value.remedy


def test_a_corrected_run_is_a_new_offline_run(tmp_path):
    run = read(SAMPLE.parent)
    rescale = Rescale("train/loss", Role.LOSS, np.array([0]), np.array([8.0]))
    change = Rewrite([rescale], {"version": "ga-audit 1"}, include_original=True)
    wandb_file.write(run.sources[0], change, tmp_path)
    file = next(tmp_path.rglob("*.wandb"))
    new = read(file)
    assert new.corrected_by == "ga-audit 1"
    assert new.name == "ga8 (corrected)"
    assert file.name != SAMPLE.name
    assert new.get(Role.LOSS).value == pytest.approx(run.get(Role.LOSS).value / 8)
    assert new.get(Role.LOSS).position.tolist() == run.get(Role.LOSS).position.tolist()
    assert new.get(Role.EVAL_LOSS).value.tolist() == run.get(Role.EVAL_LOSS).value.tolist()
    old, fresh = wandb_file._content(SAMPLE), wandb_file._content(file)
    assert [r["_step"] for r in old.rows] == [r["_step"] for r in fresh.rows]
    assert [r["_timestamp"] for r in old.rows] == [r["_timestamp"] for r in fresh.rows]
    assert fresh.rows[0]["original/train/loss"] == old.rows[0]["train/loss"]
    assert fresh.run["job_type"] == "ga-audit"


CHANGED = """
import sys, wandb
with wandb.init(mode="offline", dir=sys.argv[1], project="p", config={"gradient_accumulation_steps": 2, "seed": 1},
                settings=wandb.Settings(console="off", silent=True)) as run:
    for step in range(1, 21):
        if step == 11:
            run.config.update({"gradient_accumulation_steps": 8}, allow_val_change=True)
        run.log({"train/loss": 3.0 * (2 if step < 11 else 8), "train/global_step": 10 * step})
"""


def test_a_configuration_that_was_changed_between_rows(tmp_path):
    subprocess.run([sys.executable, "-c", CHANGED, str(tmp_path)], check=True, capture_output=True)
    (file,) = tmp_path.rglob("*.wandb")
    schedule = read(file).settings.gradient_accumulation_steps.value
    assert (schedule.from_step.tolist(), schedule.value.tolist()) == ([0, 110], [2, 8])
    assert read(SAMPLE.parent).settings.gradient_accumulation_steps.value.is_constant


def test_the_release_that_only_wandb_records():
    from ga_audit.logs.formats._wandb import run as wandb_run

    config = {"_wandb": {"value": {"huggingface_version": "4.46.1", "cli_version": "0.18.5"}}}
    (release,) = wandb_run.settings_of(config, "", {}, ".wandb").packages.items()
    assert (release[0], release[1].value, release[1].source) == (
        "transformers",
        "4.46.1",
        ".wandb: config, _wandb: transformers_version",
    )
