"""The vectorised reading of event files against one record at a time and protobuf's own decoder."""

import io
import struct
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util import tensor_util

from ga_audit.errors import UnreadableLog
from ga_audit.formats import _tb_frames, _tb_groups
from ga_audit.formats._tb_crc import masked_crc
from ga_audit.formats._tb_reader import EventReader
from ga_audit.formats._tfrecord import Chunks, Damage, frame


@pytest.fixture(scope="module")
def vectors_for_small_files():
    """Lanes and groups also where a file is too small to need them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tb_frames, "_LANES_FROM", 1)
        patch.setattr(_tb_frames, "_LANE", (64, 256))
        patch.setattr(_tb_groups, "_FEWEST", 2)
        yield


def one_by_one(data):
    """(points by tag, damage): each header followed, each payload decoded by protobuf."""
    points, damage, at = defaultdict(list), Damage(), 0
    while at < len(data):
        if len(data) - at < 12:
            damage.truncated_at = at
            break
        length = valid(data, at)
        if length is None:
            damage.at(at)
            found = (s for s in range(at + 1, len(data) - 11) if valid(data, s))
            following = next(found, len(data))
            damage.skipped_bytes += following - at
            at = following
            continue
        end = at + length + 16
        if end > len(data):
            damage.truncated_at = at
            break
        payload = data[at + 12 : end - 4]
        if masked_crc(payload) == int.from_bytes(data[end - 4 : end], "little"):
            event = Event.FromString(payload)
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                if kind == "simple_value":
                    points[value.tag].append((event.step, value.simple_value, event.wall_time))
                elif kind == "tensor" and value.tensor.dtype != 7:
                    number = tensor_util.make_ndarray(value.tensor)
                    if number.size == 1:
                        points[value.tag].append((event.step, float(number.reshape(())), event.wall_time))
        else:
            damage.wrong_payloads += 1
            damage.at(at)
        at = end
    return {tag: bits(found) for tag, found in points.items()}, damage


def valid(data, at):
    length, check = struct.unpack_from("<QI", data, at)
    return length if length < 1 << 31 and masked_crc(data[at : at + 8]) == check else None


def bits(points):
    """Comparable where NaN is equal to itself."""
    step, value, wall = zip(*points, strict=True)
    return list(step), [repr(float(v)) for v in value], list(wall)


def vectorised(data, chunk=1 << 20):
    reader = EventReader(walls={}, chunks=Chunks(chunk=chunk))
    reader.read(io.BytesIO(data))
    return content(reader), reader.damage


def content(reader):
    assert reader.counts == {tag: len(points) for tag, points in reader.points.items()}
    return {
        tag: bits(list(zip(points.step, points.value, reader.walls[tag], strict=True)))
        for tag, points in reader.points.items()
    }


def scalar(tag, value, step, wall=1.5):
    return event(Summary.Value(tag=tag, simple_value=value), step=step, wall=wall)


def event(*values, step=0, wall=1.5):
    return frame(Event(wall_time=wall, step=step, summary=Summary(value=values)).SerializeToString())


def mixed(steps=40, start=0):
    """Scalars of both kinds, an evaluation now and then, a histogram, a text, several values in one event."""
    out = [frame(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())]
    for step in range(start, start + steps):
        out += [scalar("train/loss", 8.0 / (step + 1), step, wall=1e9 + step / 7), scalar("train/lr", 1e-4, step)]
        tensor = Summary.Value(tag="train/grad_norm", tensor=tensor_util.make_tensor_proto(np.float32(step / 3)),
                               metadata=SummaryMetadata(data_class=1))  # fmt: skip
        out.append(event(tensor, step=step))
        if step % 5 == 0:
            out.append(scalar("eval/loss", 2.5, step))
            histogram = HistogramProto(min=0, max=1, num=step, bucket_limit=list(range(step % 7)))
            out.append(event(Summary.Value(tag="weights", histo=histogram), step=step))
            pair = (Summary.Value(tag=f"{name}/x", simple_value=float(step)) for name in ("a", "b"))
            out.append(event(*pair, step=step))
    return b"".join(out)


def test_a_mixed_file_is_what_protobuf_reads(vectors_for_small_files):
    data = mixed(steps=300)
    for chunk in (100, 1000, 1 << 20):
        assert vectorised(data, chunk) == one_by_one(data)


def test_a_large_file_is_what_protobuf_reads():
    data = mixed(steps=3000, start=16000)
    for chunk in (1 << 17, 1 << 23):
        assert vectorised(data, chunk) == one_by_one(data)


def test_points_come_in_the_order_of_the_file_whatever_their_length(vectors_for_small_files):
    steps = [1, 300, 2, 20000, 3, 300, 1, 0] * 20
    data = b"".join(scalar("loss", float(i), step) for i, step in enumerate(steps))
    found, _ = vectorised(data)
    assert found["loss"][0] == steps
    assert found["loss"][1] == [repr(float(i)) for i in range(len(steps))]


@pytest.mark.parametrize("tags", [["loss"], [f"layer_{i:04}" for i in range(300)], [f"{i}" for i in range(9000)]])
def test_any_number_of_tags(tags):
    rng = np.random.default_rng(0)
    data = b"".join(scalar(tags[i % len(tags)], i / 3, i) for i in rng.permutation(max(2000, len(tags))).tolist())
    assert vectorised(data) == one_by_one(data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_order_of_tags_steps_and_kinds(vectors_for_small_files, data):
    number = st.floats(width=32)
    step = st.one_of(st.integers(0, 300), st.sampled_from([-1, 127, 128, 16383, 16384, 2**21, 2**35, 2**61]))
    tag = st.sampled_from(["loss", "lr", "grad", "", "e", "ünï", "x" * 120, "x" * 127, "x" * 128, "x" * 300])
    simple = st.builds(lambda t, v: Summary.Value(tag=t, simple_value=v), tag, number)
    tensor = st.builds(
        lambda t, v, d: Summary.Value(tag=t, tensor=tensor_util.make_tensor_proto(np.array(v).astype(d))),
        tag, st.floats(0, 100), st.sampled_from(["f2", "f4", "f8", "i4", "i8", "u1", "i2", "i1"]),
    )  # fmt: skip
    text = st.builds(lambda t: Summary.Value(tag=t, tensor=TensorProto(dtype=7, string_val=[b"a" * 9])), tag)
    other = st.builds(lambda t, n: Summary.Value(tag=t, histo=HistogramProto(num=n)), tag, st.floats(0, 1))
    values = st.lists(st.one_of(simple, simple, simple, tensor, text, other), max_size=3)
    events = data.draw(st.lists(st.tuples(values, step), max_size=40))
    content = b"".join(event(*v, step=s) for v, s in events) * data.draw(st.integers(1, 4))
    assert vectorised(content, data.draw(st.sampled_from([64, 500, 1 << 20]))) == one_by_one(content)


@pytest.mark.parametrize("size", [*range(1, 20), *range(120, 135), *range(16375, 16390)])
def test_record_sizes_at_the_boundaries_of_a_varint(size, vectors_for_small_files):
    data = b"".join(scalar("t" * size, float(i), i) for i in range(126, 132)) * 3
    assert vectorised(data) == one_by_one(data)


@pytest.mark.parametrize(
    ("dtype", "fields"),
    [
        (1, {"float_val": [2.5]}), (1, {"tensor_content": struct.pack("<f", 2.5)}), (2, {"double_val": [8 / 3]}),
        (2, {"tensor_content": struct.pack("<d", 8 / 3)}), (3, {"int_val": [-7]}), (9, {"int64_val": [1 << 40]}),
        (4, {"int_val": [200]}), (6, {"tensor_content": b"\xff"}), (19, {"half_val": [0x3E00]}),
        (19, {"tensor_content": b"\x00\x3e"}), (17, {"tensor_content": b"\xff\xff"}),
    ],
)  # fmt: skip
def test_a_tensor_of_one_number_of_any_type(dtype, fields, vectors_for_small_files):
    value = Summary.Value(tag="loss", tensor=TensorProto(dtype=dtype, **fields))
    data = b"".join(event(value, step=step) for step in range(10))
    assert vectorised(data) == one_by_one(data)
    assert len(vectorised(data)[0]["loss"][0]) == 10


@pytest.mark.parametrize(
    ("dtype", "fields", "number"),
    [
        (14, {"half_val": [0x4020]}, 2.5), (14, {"tensor_content": b"\x20\x40"}, 2.5),
        (22, {"uint32_val": [1 << 31]}, float(1 << 31)), (23, {"uint64_val": [1 << 63]}, float(1 << 63)),
    ],
)  # fmt: skip
def test_types_that_tensorboards_own_decoder_refuses(dtype, fields, number):
    data = event(Summary.Value(tag="loss", tensor=TensorProto(dtype=dtype, **fields)), step=3) * 9
    assert vectorised(data)[0]["loss"][1] == [repr(number)] * 9


@pytest.mark.parametrize("sizes", [[0], [2], [2, 3], [3, 0]])
def test_a_tensor_of_another_size_is_no_point(sizes):
    shape = {"dim": [{"size": n} for n in sizes]}
    tensor = TensorProto(dtype=1, float_val=[1.0], tensor_shape=shape)
    assert vectorised(event(Summary.Value(tag="loss", tensor=tensor)) * 9)[0] == {}


def test_lists_of_one_and_two_values_in_records_of_one_length(vectors_for_small_files):
    """128 takes two bytes, as 1 and 2 do together."""
    one, two = (
        event(Summary.Value(tag="loss", tensor=TensorProto(dtype=3, int_val=values)), step=1)
        for values in ([200], [1, 2])
    )
    assert len(one) == len(two)
    for order in ([two] * 9 + [one] * 9, [one] * 9 + [two] * 9):
        assert vectorised(b"".join(order))[0]["loss"][1] == ["200.0"] * 9


def test_damage_at_every_byte_loses_what_the_counts_say(vectors_for_small_files):
    whole = mixed(steps=6)
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        assert vectorised(bytes(data)) == one_by_one(bytes(data)), at


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 255)), max_size=12), st.sampled_from([64, 700, 1 << 20]))
def test_damage_in_several_places(vectors_for_small_files, places, chunk):
    data = bytearray(mixed(steps=12))
    for at, change in places:
        data[at % len(data)] ^= change
    assert vectorised(bytes(data), chunk) == one_by_one(bytes(data))


def test_a_file_cut_at_every_byte(vectors_for_small_files):
    whole = mixed(steps=6)
    for end in range(len(whole)):
        assert vectorised(whole[:end]) == one_by_one(whole[:end]), end


def test_headers_inside_a_payload_are_no_records(vectors_for_small_files):
    inner = mixed(steps=20)
    nested = Summary.Value(tag="file", tensor=TensorProto(dtype=7, string_val=[inner]))
    data = (mixed(steps=5) + event(nested, step=1)) * 3
    for chunk in (300, 1 << 20):
        assert vectorised(data, chunk) == one_by_one(data)


def test_zeros_behind_the_records_are_counted_as_skipped():
    data = mixed(steps=5)
    damage = vectorised(data + bytes(100_000), 5000)[1]
    assert damage == Damage(skipped_bytes=100_000, first=len(data))


def test_a_growing_file_is_read_on_from_where_the_reading_ended(tmp_path, vectors_for_small_files):
    whole, path = mixed(steps=60), tmp_path / "events.out.tfevents.1.host"
    reader = EventReader(walls={})
    for end in [*range(0, len(whole), 97), len(whole)]:
        path.write_bytes(whole[:end])
        reader.read_path(path)
        assert reader.damage == one_by_one(whole[:end])[1]
    assert content(reader) == one_by_one(whole)[0]


def test_a_growing_file_with_damage(tmp_path):
    whole = bytearray(mixed(steps=30))
    whole[700] ^= 1
    whole[1500:1512] = b"\xff" * 12
    reader, file = EventReader(walls={}), io.BytesIO()
    for at in range(0, len(whole), 61):
        file.seek(0, io.SEEK_END)
        file.write(whole[at : at + 61])
        reader.read(file)
    assert (content(reader), reader.damage) == one_by_one(bytes(whole))


def test_a_file_that_has_become_shorter_is_an_error():
    reader, data = EventReader(), mixed(steps=5)
    reader.read(io.BytesIO(data))
    with pytest.raises(UnreadableLog, match="shorter"):
        reader.read(io.BytesIO(data[:100]))


def test_tags_that_are_not_wanted_are_counted_and_not_kept():
    reader = EventReader(wanted=lambda tag: tag == "train/loss")
    reader.read(io.BytesIO(mixed(steps=40)))
    assert list(reader.points) == ["train/loss"]
    assert reader.counts == {
        "train/loss": 40,
        "train/lr": 40,
        "train/grad_norm": 40,
        "eval/loss": 8,
        "a/x": 8,
        "b/x": 8,
    }


def test_texts_are_kept_where_asked_for():
    text = Summary.Value(tag="args/text_summary", tensor=TensorProto(dtype=7, string_val=[b"{}"]))
    data = mixed(steps=3) + event(text) + mixed(steps=3)
    reader = EventReader(raw=lambda tag: tag.endswith("/text_summary"))
    reader.read(io.BytesIO(data))
    assert reader.texts == {"args/text_summary": "{}"}


def test_a_record_that_is_no_event_is_said_and_passed_over():
    data = scalar("loss", 1.0, 1)
    reader = EventReader()
    reader.read(io.BytesIO(data + frame(b"\x0b\x00") + data))
    assert reader.broken == [(len(data), "wire type 3")]
    assert len(reader.points["loss"]) == 2
