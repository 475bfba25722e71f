"""What a log may hold where a number is due, and what each reader makes of it."""

import json
import math
import sqlite3
import struct
import zipfile
from datetime import date

import pytest

from ga_audit.errors import UnreadableLog
from ga_audit.logs import roles, settings
from ga_audit.logs.discovery import find_runs
from ga_audit.logs.formats import (
    Target,
    _counters,
    _values,
    mlflow_store,
    trackio_file,
    trainer_state,
    training_args,
    wandb_file,
)
from ga_audit.logs.formats._points import Rows
from ga_audit.logs.formats._text import banner
from ga_audit.logs.formats._text.pairs import record_of
from ga_audit.logs.formats._text.pieces import clean
from ga_audit.logs.formats._wandb import run as wandb_run
from ga_audit.output.wording.notes import note as words
from ga_audit.run import ReadFailure, Role, Trust

HUGE = 16**5000  # Python writes no integer of more than 4,300 digits as text
ODD = [
    None, True, "", "x", "²", "nan", "inf", "9" * 5000, HUGE, -HUGE, math.inf, -math.inf, math.nan, 1e308, b"8", [], [8], [None],
    {}, {"a": 1}, {"value": 8}, {1: 2}, (1,), date(2026, 1, 1), "8,", ",",
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "number", "finite", "step", "count"),
    [
        (8, 8.0, 8.0, 8, 8),
        ("8.5", 8.5, 8.5, 8, 8),
        ("1,000", None, None, 1000, 1000),
        (0, 0.0, 0.0, 0, None),
        (-3, -3.0, -3.0, -3, None),
        (True, None, None, None, None),
        ("²", None, None, None, None),
        (",", None, None, None, None),
        ("inf", math.inf, None, None, None),
        (HUGE, math.inf, None, None, None),
        (-HUGE, -math.inf, None, None, None),
        ("9" * 5000, math.inf, None, None, None),
        (1e300, 1e300, 1e300, None, None),
        (b"8", None, None, None, None),
        (None, None, None, None, None),
    ],
    ids=lambda v: type(v).__name__,
)
def test_one_kind_or_none(value, number, finite, step, count):
    found = (_values.number(value), _values.finite(value), _values.step(value), _values.count(value))
    assert found == (number, finite, step, count)


def test_texts_and_mappings():
    assert [_values.text(v) for v in ("a", b"a\xff", 8, None)] == ["a", "a�", None, None]
    assert _values.mapping({1: 2, date(2026, 1, 1): 3, HUGE: 4, None: 5}) == {"1": 2, "2026-01-01": 3, "None": 5}
    assert [dict(_values.mapping(v)) for v in ([1], "a", None)] == [{}, {}, {}]


@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__)
def test_no_value_of_a_setting_or_a_row_breaks_a_reader(value):
    tables = (roles.CONFIG_KEYS, roles.OTHER_KEYS, roles.PACKAGE_KEYS)
    keys = [key for table in tables for names in table.values() for key in names]
    keys += [*roles.TOTAL_BATCH_KEYS, *roles.TOTAL_TOKENS_KEYS]
    for key in keys:
        for mapping in (
            {key: value},
            {"a": {key: value}},
            {key: {"value": value}},
            {key: value, "micro_batch_size": 2},
        ):
            settings.from_mapping(mapping, source="test", trust=Trust.RECORDED)
    rows = Rows("test", "test")
    for name in ("loss", "step", "train_loss", "gradient_accumulation_steps"):
        row = {name: value, "loss": 2.0, "train_runtime": value, "global_step/max_steps": value}
        placed = _counters.place([row, {"step": 1, "loss": 2.0}], "test")
        rows.add(name, placed.positions[0], value)
        wandb_run.series_of([row], Target("a"), "test")
        wandb_run.step_after(wandb_run.columns_of([row]), 0)
    rows.settings()
    rows.series(Target("a"))
    wandb_run.settings_of({"a": value}, "", {"gpu_count": value}, "test")


def test_settings_of_odd_kinds_are_unknown_and_those_beside_them_known():
    odd = {"gradient_accumulation_steps": 8, "seed": HUGE, "model": HUGE, "warmup_steps": HUGE, "dataset": [HUGE, "c4"]}
    found = settings.from_mapping(odd, source="a", trust=Trust.RECORDED)
    assert (found.ga, found.seed, found.model, found.dataset.value, dict(found.other)) == (8, None, None, "c4", {})


def test_nesting_and_aliases_are_bounded():
    deep = {"gradient_accumulation_steps": 8}
    for _ in range(5000):
        deep = {"a": deep}
    assert roles.flatten({"b": 1, **deep}) == {"b": 1}
    wide = {"x": 1}
    for _ in range(25):
        wide = {"a": wide, "b": wide}
    assert len(roles.flatten(wide)) <= 100_000
    empty = {}
    for _ in range(25):
        empty = {"a": empty, "b": empty}
    assert roles.flatten(empty) == {}


# --- readers ---------------------------------------------------------------------------------------------------------


def state(tmp_path, rows, **more):
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows, **more}))
    return path


@pytest.mark.parametrize("step", ["2", None, "x", [1], math.inf, 1e300, True])
def test_a_step_of_another_kind(tmp_path, step):
    rows = [{"loss": 3.0, "step": 1}, {"loss": 2.5, "step": step}, {"loss": 2.0, "step": 3}]
    (run,) = trainer_state.read(Target(str(state(tmp_path, rows, global_step=9, logging_steps=1))))
    found = run.get(Role.LOSS).position.tolist()
    assert found == ([1, 2, 3] if step == "2" else [1, 3])
    assert [words(note) for note in run.notes] == ["logged to step 3 of 9"]


@pytest.mark.parametrize("value", [None, "high", [1]])
def test_a_closing_loss_that_is_no_number_is_a_note(tmp_path, value):
    rows = [{"loss": 3.0, "step": 1}, {"train_loss": value, "train_runtime": 3, "step": 1}]
    (run,) = trainer_state.read(Target(str(state(tmp_path, rows))))
    assert run.get(Role.SUMMARY_LOSS) is None
    assert "'train_loss', the closing mean: 1 values are no numbers" in [words(note) for note in run.left_out]


@pytest.mark.parametrize("field", ["logging_steps", "train_batch_size", "max_steps", "num_train_epochs", "global_step"])
@pytest.mark.parametrize("value", [math.inf, math.nan, -1, 10**400, "x", [], True], ids=lambda v: type(v).__name__)
def test_counts_of_a_state_that_count_nothing(tmp_path, field, value):
    path = state(tmp_path, [{"loss": 3.0, "step": 1}, {"loss": 2.5, "step": 2}], **{field: value})
    (run,) = trainer_state.read(Target(str(path)))
    assert (len(run.get(Role.LOSS)), run.settings.micro_batch_size) == (2, None)


def test_an_integer_of_thousands_of_digits_is_an_error(tmp_path):
    path = tmp_path / "trainer_state.json"
    path.write_text(f'{{"log_history": [{{"loss": 1.0, "step": {"9" * 5000}}}]}}')
    with pytest.raises(UnreadableLog) as refused:
        list(trainer_state.read(Target(str(path))))
    assert refused.value.message == "holds an integer of thousands of digits"


@pytest.mark.parametrize(
    "line",
    [
        "num_updates=nan, loss=2.3",
        "num_updates=inf, loss=2.3",
        f"Step {'9' * 5000} | loss:2.3",
        f"iter {'9' * 5000}: loss 2.3, time 3ms",
        f"iteration {'9' * 5000}/ 10 | lm loss: 2.3 |",
        f"Iter {'9' * 5000}: Train loss 2.3",
        f"{'9' * 5000} train 2.3",
        f"step {'9' * 5000} loss 2.3",
        f"step: {'9' * 5000} loss: 2.3",
    ],
)
def test_a_line_without_a_step_that_counts_is_no_line(line):
    assert record_of(clean(line.encode(), 0)) is None


def test_header_numbers():
    assert banner.of_line("Num examples = 1,234").values == {"num_examples": 1234}
    assert banner.of_line("Num examples = ,").values == {}
    assert banner.of_line(f"Gradient Accumulation steps = {'9' * 5000}").values == {}


def archive(path, name="archive/data.pkl", method=zipfile.ZIP_STORED, flag=0):
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr(name, b"\x80\x02}q\x00." * 40)
    data = bytearray(path.read_bytes())
    if flag:
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = data.index(signature) + offset
            struct.pack_into("<H", data, at, flag)
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "damage", ["no data.pkl", "encrypted", "compressed otherwise", "damaged deflate", "damaged bzip2", "damaged lzma"]
)
def test_an_archive_that_torch_did_not_write(tmp_path, damage):
    path = tmp_path / "training_args.bin"
    if damage == "no data.pkl":
        archive(path, "other")
    elif damage == "encrypted":
        archive(path, flag=1)
    else:
        methods = {"damaged bzip2": zipfile.ZIP_BZIP2, "damaged lzma": zipfile.ZIP_LZMA}
        archive(path, method=methods.get(damage, zipfile.ZIP_DEFLATED))
        data = bytearray(path.read_bytes())
        if damage == "compressed otherwise":
            for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
                struct.pack_into("<H", data, data.index(signature) + offset, 97)
        else:
            start = data.index(b"data.pkl") + len("data.pkl")
            data[start + 10 : start + 20] = b"\xff" * 10
        path.write_bytes(data)
    with pytest.raises(UnreadableLog) as refused:
        list(training_args.read(Target(str(path))))
    assert refused.value.message.startswith("is damaged or no torch file: ")
    assert refused.value.remedy == "Give --ga NAME=N instead."


def mlflow(path, rows):
    with sqlite3.connect(path) as made:
        made.executescript(
            "create table experiments (a); create table params (key, value, run_uuid);"
            "create table runs (run_uuid, name, status, lifecycle_stage, start_time);"
            "create table metrics (key, value, step, is_nan, run_uuid, timestamp);"
            "insert into runs values ('r1', null, 'FINISHED', 'active', 1);"
        )
        made.executemany("insert into metrics values (?, ?, ?, 0, 'r1', 1)", rows)
    made.close()
    return path


def test_values_and_steps_of_other_kinds_in_a_database(tmp_path):
    rows = [("loss", 3.0, 1), ("loss", None, 2), ("loss", "high", 3), ("loss", b"\xff", 4), ("loss", 2.5, "5"),
            ("loss", 2.0, 6.0), ("loss", 1.5, 7), ("loss", 1.7976931348623157e308, 8)]  # fmt: skip
    (run,) = mlflow_store.read(Target(str(mlflow(tmp_path / "mlflow.db", rows))))
    loss = run.get(Role.LOSS)
    assert (loss.position.tolist(), loss.value.tolist()) == ([1, 5, 6, 7, 8], [3.0, 2.5, 2.0, 1.5, math.inf])
    assert "'loss': 2 values are no numbers" in [words(note) for note in run.left_out]


def test_steps_of_other_kinds_in_a_database_are_numbered(tmp_path):
    rows = [("loss", 3.0, None), ("loss", 2.5, "x"), ("loss", 2.0, b"1")]
    (run,) = mlflow_store.read(Target(str(mlflow(tmp_path / "mlflow.db", rows))))
    assert run.get(Role.LOSS).position.tolist() == [1, 2, 3]


def test_steps_in_other_digits_in_a_directory(tmp_path):
    run = tmp_path / "mlruns" / "0" / "r1"
    (run / "metrics").mkdir(parents=True)
    for folder in (run, run.parent):
        (folder / "meta.yaml").write_text("lifecycle_stage: active\n")
    (run / "metrics" / "loss").write_text(f"1 3.0 1\n² 2.5 ²\n{'9' * 5000} 2.0 {'9' * 5000}\n")
    (found,) = mlflow_store.read(Target(str(tmp_path / "mlruns")))
    loss = found.get(Role.LOSS)
    assert (loss.position.tolist(), loss.value.tolist()) == ([1], [3.0])
    assert [words(note) for note in loss.notes] == ["'loss': 2 points have no step and are left out"]


def test_rows_of_other_kinds_in_trackio(tmp_path):
    path = tmp_path / "project.db"
    with sqlite3.connect(path) as made:
        made.execute("create table metrics (id integer primary key, run_name, step, metrics)")
        made.execute("create table configs (run_name, config)")
        rows = [(1, '{"loss": 3.0}'), (None, '{"loss": 2.5}'), ("x", '{"loss": 2.0}'), (4, None), (5, 7), (6, '{"loss": "²"}'),
                ("7", b'{"loss": 1.5, "a": "\xff"}'), (8, "[1]")]  # fmt: skip
        made.executemany("insert into metrics (run_name, step, metrics) values ('one', ?, ?)", rows)
        made.execute("insert into configs values ('one', 8)")
    made.close()
    (run,) = trackio_file.read(Target(str(path)))
    loss = run.get(Role.LOSS)
    assert (loss.position.tolist(), loss.value.tolist()) == ([1, 7], [3.0, 1.5])
    assert [words(note) for note in run.notes] == ["2 rows have no _step and are left out"]


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000,
        "day: 2026-99-99\n",
        f"1: {{value: 2}}\n2026-01-01: x\nseed: {'9' * 5000}\n",
        "? [1]\n: 2\n",
        "- 1\n",
    ],
)
def test_odd_configurations_of_wandb(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert wandb_file._yaml(path) == {}


def test_keys_of_other_kinds_in_a_configuration_of_wandb(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("1: {value: 2}\n2026-01-01: x\ngradient_accumulation_steps: {value: 8}\n")
    found = wandb_file._yaml(path)
    assert found == {"1": {"value": 2}, "2026-01-01": "x", "gradient_accumulation_steps": {"value": 8}}
    assert wandb_run.settings_of(found, "", {}, "test").ga == 8


@pytest.mark.parametrize(
    "content", ['{"a":' * 3000 + "1" + "}" * 3000, f'{{"seed": {"9" * 5000}}}', "[1]", '{"seed": Infinity}']
)
def test_odd_files_beside_a_log_end_nothing(tmp_path, content):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.5}\n')
    (tmp_path / "config.json").write_text(content)
    found = list(find_runs([str(tmp_path)]))
    assert [run.name for run in found if not isinstance(run, ReadFailure)] == ["log"]
    assert all(failure.source.endswith("config.json") for failure in found if isinstance(failure, ReadFailure))
