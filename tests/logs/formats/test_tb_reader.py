"""The vectorised reading of event files against one record at a time and protobuf's own decoder."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
from event_files import bits, event, mixed, one_by_one, scalar
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util import tensor_util

from ga_audit.errors import UnreadableLog
from ga_audit.logs.formats._points import NO_STEP
from ga_audit.logs.formats._tensorboard import frames as _tb_frames
from ga_audit.logs.formats._tensorboard import groups as _tb_groups
from ga_audit.logs.formats._tensorboard.reader import EventReader
from ga_audit.logs.formats._tensorboard.tfrecord import Chunks, Damage, frame


@pytest.fixture(scope="module")
def vectors_for_small_files():
    """Lanes and groups also where a file is too small to need them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tb_frames, "_LANES_FROM", 1)
        patch.setattr(_tb_frames, "_LANE", (64, 256))
        patch.setattr(_tb_groups, "_FEWEST", 2)
        yield


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


def test_records_of_any_length(vectors_for_small_files):
    """Also above 64 KiB, and larger than a chunk."""
    rng = np.random.default_rng(0)
    parts = []
    for step, size in enumerate([10, 70_000, 300, 200_000, 65_535 - 40, 65_536, 100, 1_100_000, 5] * 2):
        media = Summary.Value(tag="media", tensor=TensorProto(dtype=7, string_val=[rng.bytes(size)]))
        parts += [event(media, step=step), *(scalar("loss", float(step), step) for _ in range(200))]
    data = b"".join(parts)
    for chunk in (5000, 1 << 18, 1 << 23):
        assert vectorised(data, chunk) == one_by_one(data)


@pytest.mark.parametrize("filler", [b"\0\0\0\0\0\0\0\1", b"\1\0\0\0\0", b"\0\0\0\0\7\0\0"])
def test_a_long_gap_that_looks_like_many_headers(filler):
    data = mixed(steps=5) + filler * 3000 + mixed(steps=5)
    for chunk in (5000, 1 << 20):
        assert vectorised(data, chunk) == one_by_one(data)


def test_a_gap_that_ends_anywhere_about_the_end_of_a_chunk():
    data = bytearray(mixed(steps=4))
    data[200:203] = b"\xff" * 3
    for chunk in range(40, 400):
        assert vectorised(bytes(data), chunk) == one_by_one(bytes(data)), chunk


def test_a_long_gap_before_a_large_record():
    media = Summary.Value(tag="media", tensor=TensorProto(dtype=7, string_val=[b"x" * 70_000]))
    data = b"\0\0\0\0\7" * 30 + event(media) + scalar("loss", 1.0, 1)
    assert vectorised(data) == one_by_one(data)
    assert vectorised(data)[1].skipped_bytes == 150


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


@pytest.mark.parametrize(("step", "kept"), [(2**62 - 1, 2**62 - 1), (2**62, NO_STEP), (-(2**62), NO_STEP), (-1, -1)])
def test_a_step_beyond_62_bits_is_no_step(step, kept):
    reader = EventReader()
    reader.read(io.BytesIO(scalar("loss", 1.0, step)))
    assert reader.points["loss"].step.tolist() == [kept]


def test_a_file_that_is_cut_while_it_is_read_is_a_truncated_one():
    whole = mixed(steps=50)

    class Cut(io.BytesIO):
        def seek(self, offset, whence=io.SEEK_SET):
            return len(whole) if whence == io.SEEK_END else super().seek(offset, whence)

    reader = EventReader(walls={})
    reader.read(Cut(whole[:1000]))
    assert (content(reader), reader.damage) == one_by_one(whole[:1000])


def test_memory_does_not_grow_with_the_file_where_nothing_is_wanted(tmp_path):
    block = mixed(steps=1000)
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(block * 100)
    reader = EventReader(wanted=lambda tag: False, chunks=Chunks(chunk=1 << 18))
    tracemalloc.start()
    reader.read_path(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.counts["train/loss"] == 100_000
    assert peak < 8 << 20 < path.stat().st_size
