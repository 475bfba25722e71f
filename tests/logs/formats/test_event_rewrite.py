"""Corrected event files, as protobuf's own decoder reads them."""

import struct

import numpy as np
import pytest
from event_files import event, mixed, one_by_one, scalar
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from ga_audit.logs.formats import Rescale, Rewrite
from ga_audit.logs.formats._tensorboard.rewrite import rewritten
from ga_audit.logs.formats._tensorboard.tfrecord import Damage
from ga_audit.run import Role

NAME = "events.out.tfevents.1.host"


def corrected(tmp_path, data, *rescales, **options):
    (tmp_path / NAME).write_bytes(data)
    (tmp_path / "out").mkdir()
    (path,) = rewritten([tmp_path / NAME], Rewrite(rescales, {"version": "1"}, **options), tmp_path / "out")
    return path.read_bytes()


def divide(name, factor, **options):
    return Rescale(name, Role.LOSS, np.zeros(1, np.int64), np.array([factor]), **options)


def single(number):
    return repr(float(np.float32(number)))


def divided(points, factor):
    step, value, wall = points
    return step, [single(float(v) / factor) for v in value], wall


def test_values_steps_and_wall_times_of_a_large_file(tmp_path):
    data = mixed(steps=4000, start=14000)
    before, _ = one_by_one(data)
    after, damage = one_by_one(corrected(tmp_path, data, divide("train/loss", 8.0), divide("a/x", 3.0)))
    assert damage == Damage()
    changed = {"train/loss": divided(before["train/loss"], 8.0), "a/x": divided(before["a/x"], 3.0)}
    assert after == before | changed


def test_the_logged_values_are_kept_where_asked_for(tmp_path):
    data = mixed(steps=300)
    before, _ = one_by_one(data)
    rescales = [divide(name, 4.0) for name in ("train/loss", "train/grad_norm", "b/x")]
    after, damage = one_by_one(corrected(tmp_path, data, *rescales, include_original=True))
    assert damage == Damage()
    expected = dict(before)
    for rescale in rescales:
        expected[rescale.name] = divided(before[rescale.name], 4.0)
        expected[f"original/{rescale.name}"] = before[rescale.name]
    assert after == expected


def test_a_factor_by_step(tmp_path):
    data = b"".join(scalar("loss", 8.0, step) for step in range(40))
    rescale = Rescale("loss", Role.LOSS, np.array([0, 20]), np.array([2.0, 4.0]))
    after, _ = one_by_one(corrected(tmp_path, data, rescale))
    assert after["loss"][1] == ["4.0"] * 20 + ["2.0"] * 20


@pytest.mark.parametrize(
    ("dtype", "fields", "number"),
    [
        (1, {"float_val": [5.0]}, 2.5), (1, {"tensor_content": struct.pack("<f", 5.0)}, 2.5),
        (2, {"double_val": [16 / 3]}, 8 / 3), (2, {"tensor_content": struct.pack("<d", 16 / 3)}, 8 / 3),
        (3, {"int_val": [5]}, 2.5), (19, {"half_val": [0x4500]}, 2.5), (9, {"int64_val": [300]}, 150.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("original", [False, True])
def test_tensors_of_any_type(tmp_path, dtype, fields, number, original):
    value = Summary.Value(tag="loss", tensor=TensorProto(dtype=dtype, **fields))
    other = Summary.Value(tag="lr", simple_value=1.0)
    data = b"".join(event(other, value, step=step) for step in range(20))
    after, damage = one_by_one(corrected(tmp_path, data, divide("loss", 2.0), include_original=original))
    assert damage == Damage()
    assert after["loss"][1] == [repr(number)] * 20
    assert after["lr"][1] == ["1.0"] * 20
    assert ("original/loss" in after) is original


def test_what_cannot_be_read_is_passed_on(tmp_path):
    whole = bytearray(mixed(steps=100))
    whole[3000] ^= 1
    whole[5000:5012] = b"\xff" * 12
    data = bytes(whole[:-7])
    before, lost = one_by_one(data)
    copy = corrected(tmp_path, data, divide("train/loss", 8.0))
    after, still_lost = one_by_one(copy)
    note = len(copy) - len(data)
    assert after == before | {"train/loss": divided(before["train/loss"], 8.0)}
    assert still_lost == Damage(
        lost.wrong_payloads, lost.skipped_bytes, lost.truncated_at + note, lost.first + note
    )  # the note of what was done comes before all of these


def test_a_value_beyond_single_precision_becomes_infinite(tmp_path):
    data = scalar("loss", 3e38, 1) * 10
    after, _ = one_by_one(corrected(tmp_path, data, divide("loss", 0.1)))
    assert after["loss"][1] == ["inf"] * 10
