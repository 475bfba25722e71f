"""What Trackio 0.43 wrote (`tests/golden/trackers/make.py`)."""

import math
import sqlite3
from pathlib import Path

import pytest

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Claim, Target, trackio_file
from ga_audit.pipeline import audit
from ga_audit.run import Role

GOLDEN = Path(__file__).parents[2] / "golden/trackers"


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "proj.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((GOLDEN / "trackio.sql").read_text())
    connection.close()
    return path


def by_name(path):
    return {run.name: run for run in trackio_file.read(Target(str(path)))}


def test_runs_settings_and_series(database):
    assert trackio_file.claim(Target(str(database))) is Claim.YES
    runs = by_name(database)
    assert set(runs) == {"ga1", "ga8"}
    run = runs["ga8"]
    assert run.settings.ga == 8
    assert run.settings.packages["transformers"].value == "4.48.0"
    assert run.get(Role.LOSS).position.tolist() == list(range(1, 13))  # train/global_step, not the count of rows
    assert run.get(Role.LOSS).value[0] == 32.0
    assert run.get(Role.EVAL_LOSS).position.tolist() == [12]
    assert math.isnan(run.get(Role.ENTROPY).value[0])
    (diagnosis,) = audit([str(database)]).diagnoses
    assert diagnosis.verdict.value == "scaled"


def test_the_tables_of_older_releases_know_a_run_by_its_name(tmp_path, database):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "create table metrics (id integer primary key, timestamp text, run_name text, step integer, metrics text)"
        )
        connection.execute("create table configs (id integer primary key, run_name text, config text, created_at text)")
        connection.executemany(
            "insert into metrics (timestamp, run_name, step, metrics) values ('', 'a', ?, ?)",
            [(i, f'{{"train/loss": {3 - i / 10}}}') for i in range(5)],
        )
        connection.execute("insert into configs values (1, 'a', '{\"gradient_accumulation_steps\": 4}', '')")
    connection.close()
    run = by_name(path)["a"]
    assert run.settings.ga == 4
    assert len(run.get(Role.LOSS)) == 5


def test_a_database_that_is_being_written_is_read(database):
    writer = sqlite3.connect(database)
    writer.execute("pragma journal_mode=wal")
    writer.execute("update metrics set step = step + 0")
    assert set(by_name(database)) == {"ga1", "ga8"}
    writer.rollback()
    writer.close()


def test_rows_that_are_no_objects_and_no_runs(database):
    with sqlite3.connect(database) as connection:
        connection.execute("update metrics set metrics = '[1' where id = 1")
    assert len(by_name(database)["ga1"].get(Role.LOSS)) == 11
    with sqlite3.connect(database) as connection:
        connection.execute("delete from metrics")
    with pytest.raises(AuditError, match="holds no runs"):
        by_name(database)
    connection.close()


def test_damage_is_an_error(database):
    data = bytearray(database.read_bytes())
    for at in range(100, len(data), 997):
        damaged = bytearray(data)
        damaged[at : at + 40] = b"\xff" * 40
        database.write_bytes(damaged)
        target = Target(str(database))
        try:
            if trackio_file.claim(target) is Claim.YES:
                list(trackio_file.read(target))
        except AuditError as error:
            assert error.remedy


def test_the_installed_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    trackio.init(project="mine", name="a", config={"gradient_accumulation_steps": 4})
    for step in range(5):
        trackio.log({"train/loss": 2.0 - step / 10})
    trackio.finish()
    assert by_name(tmp_path / "mine.db")["a"].settings.ga == 4
