"""The columns of W&B's history hold what the SDK's own messages hold, however the rows are laid out."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Target, wandb_file
from ga_audit.logs.formats._values import number as number_of
from ga_audit.logs.formats._wandb import decode, framing
from ga_audit.logs.formats._wandb import run as wandb_run
from ga_audit.run import Role

SAMPLES = sorted((Path(__file__).parents[3] / "sample_logs").rglob("*.wandb"))


def message(row, number=None, *, old=False):
    """A history message of (key, JSON text) pairs, as the SDK writes it; a key with dots as a nested one."""
    from wandb.proto import wandb_internal_pb2 as pb

    history = pb.HistoryRecord()
    for key, text in row:
        item = history.item.add(value_json=text)
        if old:
            item.key = key
        else:
            item.nested_key.extend(key.split("."))
    if number is not None:
        history.step.num = number
    return history.SerializeToString()


def by_the_sdk(messages):
    """The rows by the SDK's own messages."""
    from wandb.proto import wandb_internal_pb2 as pb

    histories = [pb.HistoryRecord.FromString(data) for data in messages]
    return [{".".join(i.nested_key) or i.key: decode.json_value(i.value_json) for i in h.item} for h in histories]


def columns(messages, wanted=lambda _: True):
    """Name -> {row: value}, as decoded."""
    history = decode.History(wanted)
    for data in messages:
        history.add(data)
    history.flush()
    assert history.broken == {}
    return {
        name: {
            int(row): value
            for rows, values in column.pieces()
            for row, value in zip(rows, values if isinstance(values, list) else values.tolist(), strict=True)
        }
        for name, column in history.columns.items()
    }


def expected(rows):
    """What `columns` has to give: no objects and lists, keys by first appearance."""
    found = {name: {} for row in rows for name in row}
    for number, row in enumerate(rows):
        for name, value in row.items():
            if not isinstance(value, dict | list):
                found[name][number] = value
    return found


def as_text(found):
    """For a comparison that takes NaN for NaN and 1 for 1.0; null is no value."""
    return repr(
        [(name, {row: plain(v) for row, v in column.items() if v is not None}) for name, column in found.items()]
    )


def plain(value):
    return number_of(value) if type(value) in (int, float) else value


def check(messages):
    assert as_text(columns(messages)) == as_text(expected(by_the_sdk(messages)))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda p: p.stem)
def test_files_that_the_sdk_wrote(sample):
    from wandb.proto import wandb_internal_pb2 as pb

    records = map(pb.Record.FromString, framing.payloads(sample.read_bytes(), [], ""))
    messages = [r.history.SerializeToString() for r in records if r.WhichOneof("record_type") == "history"]
    assert len(messages) > 40
    check(messages)


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(json.dumps), st.integers(-(10**30), 10**30).map(json.dumps)
)
TEXTS = st.one_of(
    NUMBERS, st.text(max_size=9).map(json.dumps),
    st.sampled_from(["null", "true", '"NaN"', '"Infinity"', "", "nan", "1,2", "[1", "2]", '{"_type": "histogram"}', " 1 ",
                     "1_0", "1" * 400, "9" * 5000, "\x00", "[" * 3000]),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from(["train/loss", "train/grad_norm", "train/global_step", "_step", "a.b", "a", "b.c.d", "k" * 63, "k" * 70,
                     "k" * 200, "", "é", ".".join("abcdefghijk")]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)  # fmt: skip
ROWS = st.lists(st.lists(st.tuples(KEYS, TEXTS), max_size=6), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(ROWS, st.booleans(), st.booleans())
def test_any_keys_in_any_order_with_any_values(rows, numbered, old):
    check([message(row, i if numbered else None, old=old) for i, row in enumerate(rows)])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_rows_of_numbers_take_the_fast_path_in_any_order(rows, random):
    messages = []
    for i, (loss, norm) in enumerate(rows):
        row = [("train/loss", loss), ("train/grad_norm", norm), ("train/global_step", str(i)), ("_step", str(i))]
        random.shuffle(row)
        messages.append(message(row, i))
    assert not np.any(decode._Items.of(messages).odd)
    check(messages)


def test_rows_over_several_batches(monkeypatch):
    monkeypatch.setattr(decode, "_ROWS", 7)
    check([message([("train/loss", str(i / 7)), *([("eval/loss", "2")] if i % 5 == 0 else [])]) for i in range(50)])


def test_keys_that_share_a_digest_are_kept_apart(monkeypatch):
    monkeypatch.setattr(decode, "_FACTORS", np.zeros(8, np.uint64))
    check([message([("train/loss", "1"), ("train/lose", "2"), ("a", "3")]) for _ in range(5)])


def test_of_a_key_that_comes_twice_in_a_row_the_last_value_counts():
    rows = [[("a.b", "1"), ("c", "2"), ("a.b", "3")], [("a.b", "4"), ("a.b", "[]")], [("a.b", "5")]]
    messages = [message(row) for row in rows]
    messages.append(message([("a.b", "6")], old=True) + message([("a.b", "7")]))
    assert columns(messages) == {"a.b": {0: 3.0, 2: 5.0, 3: 7.0}, "c": {0: 2.0}}


def test_of_a_key_that_is_not_wanted_the_numbers_are_counted():
    rows = [
        [("loss", "1.5"), ("other", text)] for text in ("1", "-2.5", "NaN", "Infinity", '"x"', "null", "[1]", "true")
    ]
    found = columns([message(row) for row in rows], wanted=lambda name: name == "loss")
    assert found == {"loss": dict.fromkeys(range(8), 1.5), "other": {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0}}


def test_a_row_that_is_no_message_is_counted():
    history = decode.History(lambda _: True)
    for data in (message([("a", "1")]), b"\x0a\x7fcut", message([("a", "2")])):
        history.add(data)
    history.flush()
    assert (history.count, history.broken) == (3, {1: "cut off"})
    assert [rows.tolist() for rows, _ in history.columns["a"].pieces()] == [[0, 2]]


# --- files -----------------------------------------------------------------------------------------------------------


def record(row, number):
    """A whole record of the file."""
    from wandb.proto import wandb_internal_pb2 as pb

    return pb.Record(num=number, history=pb.HistoryRecord.FromString(message(row))).SerializeToString()


def framed(payloads):
    """A `.wandb` file of these records."""
    data = bytearray(framing.HEADER)
    for payload in payloads:
        rest, first = payload, True
        while rest or first:
            left = 32768 - len(data) % 32768
            if left < 7:
                data += bytes(left)
                continue
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if first else 4) if not rest else (2 if first else 3)
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
    return bytes(data)


def losses(path):
    (run,) = wandb_file.read(Target(str(path)))
    series = run.get(Role.LOSS)
    return dict(zip(series.position.tolist(), series.value.tolist(), strict=True)), {note.code for note in run.notes}


def logged(step):
    return [("train/loss", str(1 / step)), ("train/global_step", str(step))]


@pytest.mark.parametrize("left", [*range(60), 32760, 32767])
def test_a_record_at_each_place_of_a_block_boundary(tmp_path, left):
    filler = record([("note", json.dumps("x" * (32768 - 7 - 7 - 80 + left)))], 1)
    path = tmp_path / "run-x.wandb"
    path.write_bytes(framed([filler, *(record(logged(step), step) for step in range(1, 5))]))
    found, notes = losses(path)
    assert (found, notes) == ({step: 1 / step for step in range(1, 5)}, {"unfinished", "no-step"})


def test_damage_at_each_byte_of_a_small_file_is_the_same_points_or_a_counted_loss(tmp_path):
    whole = framed([record(logged(step), step) for step in range(1, 6)])
    path = tmp_path / "run-x.wandb"
    path.write_bytes(whole)
    points, notes = losses(path)
    assert (points, notes) == ({step: 1 / step for step in range(1, 6)}, {"unfinished"})
    for at in range(len(framing.HEADER), len(whole)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                found, notes = losses(path)
            except AuditError:
                continue
            assert found.items() <= points.items()
            ends_between_records = any(damaged == whole[:end] for end in ends(whole))
            assert found == points or ends_between_records or notes & {"truncated", "wrong-checksum", "broken-record"}


def ends(data):
    """Where the records of a file of one block end."""
    at = len(framing.HEADER)
    while at < len(data):
        at += 7 + struct.unpack_from("<IHB", data, at)[1]
        yield at


def test_columns_of_rows_are_columns_of_messages():
    rows = [{"train/loss": 1.5, "train_loss": 2, "train_runtime": 1}, {"train/loss": "NaN", "x": None, "y": [1]}]
    messages = [message([(key, json.dumps(value)) for key, value in row.items()]) for row in rows]
    history = wandb_run.columns_of(rows)
    found = {
        name: {int(r): v for rows, values in column.pieces() for r, v in zip(rows, values, strict=True)}
        for name, column in history.columns.items()
    }
    assert found == columns(messages)
    assert history.count == 2
