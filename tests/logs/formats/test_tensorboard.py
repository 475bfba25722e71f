import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Claim, Rescale, Rewrite, Target, tensorboard
from ga_audit.logs.formats._points import Rows
from ga_audit.logs.formats._tensorboard.tfrecord import Damage, frame, records
from ga_audit.run import Role

SAMPLE = next((Path(__file__).parents[3] / "sample_logs/tensorboard-4.48.0/ga8").rglob("events.out.*"))


def read(target):
    (run,) = tensorboard.read(Target(str(target)))
    return run


def accumulated(folder):
    ea = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    ea.Reload()
    return ea


def test_what_a_real_trainer_wrote_is_what_tensorboard_reads():
    run = read(SAMPLE)
    theirs = accumulated(SAMPLE.parent).Scalars("train/loss")
    assert run.get(Role.LOSS).position.tolist() == [e.step for e in theirs]
    assert run.get(Role.LOSS).value.tolist() == [e.value for e in theirs]
    assert run.settings.ga == 8
    assert "args" in run.settings.gradient_accumulation_steps.source
    assert run.settings.packages["transformers"].value == "4.48.0"


@pytest.mark.torch
def test_torchs_writer_scalars_tensors_text_and_other_records(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "a") as writer:
        writer.add_text("args", json.dumps({"gradient_accumulation_steps": 4}))
        for step in range(1, 6):
            writer.add_scalar("train/loss", 8.0 / step, step)
            writer.add_scalar("train/grad_norm", 2.0, step, new_style=True)
            writer.add_histogram("weights", np.arange(10.0), step)
    run = read(tmp_path / "a")
    assert run.settings.ga == 4
    assert run.get(Role.LOSS).value == pytest.approx([8.0 / s for s in range(1, 6)])
    assert run.get(Role.GRAD_NORM).value.tolist() == [2.0] * 5


@pytest.mark.torch
def test_several_files_of_one_run_are_joined_and_the_last_value_counts(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for number, values in enumerate(([4.0, 3.0, 2.5], [30.0, 25.0])):
        with SummaryWriter(tmp_path, filename_suffix=f".{number}") as writer:
            for i, value in enumerate(values):
                writer.add_scalar("train/loss", value, i + 1 + number)
    series = read(tmp_path).get(Role.LOSS)
    assert series.position.tolist() == [1, 2, 3]
    assert series.notes[0].count == 2


def test_truncated_tail_is_read_up_to_there_and_said(tmp_path):
    path = tmp_path / SAMPLE.name
    data = SAMPLE.read_bytes()
    path.write_bytes(data[:-20])
    run = read(path)
    assert any(n.code == "truncated" and "byte" in n.facts for n in run.notes)


def test_a_flipped_bit_in_a_payload_loses_one_record(tmp_path):
    data = bytearray(SAMPLE.read_bytes())
    at = data.index(b"train/loss") + 12
    data[at] ^= 1
    path = tmp_path / SAMPLE.name
    path.write_bytes(data)
    run = read(path)
    assert [n.code for n in run.notes] == ["wrong-checksum"]
    assert len(run.get(Role.LOSS)) == 39


def test_a_flipped_bit_in_a_length_is_passed_over(tmp_path):
    data = SAMPLE.read_bytes()
    starts = [start for start, _, _ in records(data, Damage())]
    broken = bytearray(data)
    broken[starts[10]] ^= 4
    path = tmp_path / SAMPLE.name
    path.write_bytes(broken)
    run = read(path)
    assert any(n.code == "skipped" for n in run.notes)
    assert len(run.get(Role.LOSS)) >= 38


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_is_an_error_or_a_shorter_run(data):
    content = bytearray(SAMPLE.read_bytes()[:6000])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        list(tensorboard.read(Target("events.out.tfevents.1.host", text=bytes(content))))
    except AuditError as error:
        assert error.remedy


@pytest.mark.parametrize(
    "content", [b"", frame(b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2"), b"version https://git-lfs x"]
)
def test_nothing_inside(content):
    with pytest.raises(AuditError, match="no scalar"):
        list(tensorboard.read(Target("events.out.tfevents.1.host", text=content)))


def test_claim():
    assert tensorboard.claim(Target(str(SAMPLE))) is Claim.YES
    assert tensorboard.claim(Target(str(SAMPLE.parent))) is Claim.YES
    assert tensorboard.claim(Target(str(SAMPLE.parents[2]))) is Claim.NO


def corrected(tmp_path, **options):
    run = read(SAMPLE)
    rescale = Rescale("train/loss", Role.LOSS, np.array([0]), np.array([8.0]))
    tensorboard.write(run.sources[0], Rewrite([rescale], {"version": "ga-audit 1"}, **options), tmp_path)
    return run


def test_corrected_copy_as_tensorboard_reads_it(tmp_path):
    run = corrected(tmp_path, include_original=True)
    ea = accumulated(tmp_path)
    assert [e.value for e in ea.Scalars("train/loss")] == [
        struct.unpack("<f", struct.pack("<f", v / 8))[0] for v in run.get(Role.LOSS).value
    ]
    assert [e.value for e in ea.Scalars("original/train/loss")] == run.get(Role.LOSS).value.tolist()
    assert [e.wall_time for e in ea.Scalars("train/loss")] == [
        e.wall_time for e in accumulated(SAMPLE.parent).Scalars("train/loss")
    ]
    again = read(tmp_path)
    assert again.corrected_by == "ga-audit 1"
    assert again.settings.ga == 8


def test_all_other_records_are_the_same_to_the_byte(tmp_path):
    corrected(tmp_path)
    before = [p for _, _, p in records(SAMPLE.read_bytes(), Damage())]
    after = [p for _, _, p in records(next(tmp_path.iterdir()).read_bytes(), Damage())]
    assert b"ga_audit/text_summary" in after.pop(1)
    assert len(before) == len(after)
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) == 40
    assert all(b"train/loss" in a and b"train/loss" in b for a, b in changed)


@pytest.mark.torch
def test_a_training_that_went_on_under_another_ga_has_both(tmp_path):
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    for ga, steps in ((2, range(1, 30)), (8, range(30, 60))):
        with writer(str(tmp_path), filename_suffix=f".{ga}") as w:
            w.add_text("args", json.dumps({"gradient_accumulation_steps": ga, "seed": 1}))
            for step in steps:
                w.add_scalar("train/loss", ga * 3.0, step)
    schedule = read(tmp_path).settings.gradient_accumulation_steps.value
    assert (schedule.from_step.tolist(), schedule.value.tolist()) == ([0, 30], [2, 8])
    assert read(tmp_path).settings.conflicts == ()


@pytest.mark.torch
def test_hparams_lie_in_a_folder_of_their_own(tmp_path):
    from ga_audit import pipeline

    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    with writer(str(tmp_path / "run")) as w:
        for step in range(1, 9):
            w.add_scalar("train/loss", 3.0, step)
        w.add_hparams({"gradient_accumulation_steps": 4, "lr": 1e-3, "optim": "sgd"}, {"hparam/loss": 3.0})
    (run,), failures = pipeline.read_runs([str(tmp_path)])
    assert failures == ()
    assert (run.settings.ga, run.settings.optimizer.value, run.settings.learning_rate.value) == (4, "sgd", 1e-3)
    assert "hparams" in run.settings.gradient_accumulation_steps.source


@pytest.mark.torch
def test_a_float64_tensor_stays_one(tmp_path):
    torch = pytest.importorskip("torch")
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.util import tensor_util
    from torch.utils.tensorboard import SummaryWriter

    del torch
    exact = 8 / 3
    with SummaryWriter(str(tmp_path / "a")) as w:
        for step in (1, 2, 3):
            value = Summary.Value(tag="train/loss", tensor=tensor_util.make_tensor_proto(np.float64(exact)),
                                  metadata=SummaryMetadata(data_class=1))  # fmt: skip
            w.file_writer.add_summary(Summary(value=[value]), step)
    run = read(tmp_path / "a")
    rescale = Rescale("train/loss", Role.LOSS, np.zeros(1, np.int64), np.array([8.0]))
    (tmp_path / "b").mkdir()
    tensorboard.write(run.sources[0], Rewrite([rescale], {}), tmp_path / "b")
    theirs = accumulated(tmp_path / "b").Tensors("train/loss")
    assert [tensor_util.make_ndarray(e.tensor_proto).item() for e in theirs] == [exact / 8] * 3


def test_a_setting_that_is_no_number_hides_no_other(tmp_path):
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    made = HParamsPluginData()
    for name, number in (("bad", float("nan")), ("gradient_accumulation_steps", 4.0), ("worse", float("inf"))):
        made.session_start_info.hparams[name].number_value = number
    value = Summary.Value(tag="_hparams_/session_start_info")
    value.metadata.plugin_data.content = made.SerializeToString()
    content = tensorboard._Content(Rows("test", "test"))
    tensorboard._hparams(value.SerializeToString(), content)
    assert content.hparams == {"gradient_accumulation_steps": 4.0}


# --- several trainings in one folder ---------------------------------------------------------------------------------


def event(step, loss, wall, tag="train/loss"):
    simple = b"\x15" + struct.pack("<f", loss)
    value = b"\x0a" + bytes([len(tag)]) + tag.encode() + simple
    summary = b"\x0a" + bytes([len(value)]) + value
    return frame(
        b"\x09" + struct.pack("<d", wall) + b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary
    )


def events(folder, number, steps, wall, factor=1.0, tag="train/loss"):
    folder.mkdir(exist_ok=True)
    data = b"".join(event(step, factor * (5 - step / 50), wall + i, tag) for i, step in enumerate(steps))
    (folder / f"events.out.tfevents.{1000 + number}.host.1.{number}").write_bytes(data)


@pytest.mark.parametrize(
    ("second", "runs"),
    [
        ({"steps": range(1, 11), "wall": 100.0}, 2),  # begins again
        ({"steps": range(6, 16), "wall": 100.0}, 1),  # goes on from a checkpoint
        ({"steps": range(1, 11), "wall": 5.0}, 1),  # another process of the same job
        ({"steps": [10], "wall": 100.0, "tag": "eval/loss"}, 1),
    ],
)
def test_a_file_that_begins_again_later_is_another_training(tmp_path, second, runs):
    events(tmp_path / "log", 0, range(1, 11), 0.0)
    events(tmp_path / "log", 1, factor=8.0, **second)
    found = list(tensorboard.read(Target(str(tmp_path / "log"))))
    assert [run.sources[0].part for run in found] == (["1", "2"] if runs == 2 else [""])


def test_a_corrected_copy_of_two_trainings_corrects_each_for_itself(tmp_path):
    folder = tmp_path / "log"
    events(folder, 0, range(1, 11), 0.0)
    events(folder, 1, range(1, 11), 100.0, factor=8.0)
    one, two = tensorboard.read(Target(str(folder)))
    rescale = Rescale("train/loss", Role.LOSS, np.zeros(1, np.int64), np.array([8.0]), part="2")
    out = tmp_path / "out"
    out.mkdir()
    written = tensorboard.write(two.sources[0], Rewrite([rescale], {"version": "test"}), out)
    assert len(written) == 2
    again = [run.get(Role.LOSS).value.tolist() for run in tensorboard.read(Target(str(out)))]
    assert again[0] == one.get(Role.LOSS).value.tolist()
    assert again[1] == pytest.approx(again[0], rel=1e-6)
