"""What MLflow 3.17 wrote (`tests/golden/trackers/make.py`): a store of files and a database of the same runs."""

import json
import math
import sqlite3
from pathlib import Path

import pytest

from ga_audit.errors import AuditError
from ga_audit.logs.discovery import find_runs
from ga_audit.logs.formats import Claim, Target, mlflow_store
from ga_audit.pipeline import audit
from ga_audit.run import ReadFailure, Role

GOLDEN = Path(__file__).parents[2] / "golden/trackers"


@pytest.fixture
def store(tmp_path):
    for name, text in json.loads((GOLDEN / "mlruns.json").read_text()).items():
        path = tmp_path / "mlruns" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "mlruns"


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((GOLDEN / "mlflow.sql").read_text())
    connection.close()
    return path


@pytest.fixture(params=["store", "database"])
def either(request):
    return request.getfixturevalue(request.param)


def by_name(path):
    return {run.name: run for run in mlflow_store.read(Target(str(path)))}


def test_runs_settings_and_series(either):
    assert mlflow_store.claim(Target(str(either))) is Claim.YES
    runs = by_name(either)
    assert set(runs) == {"ga1", "ga8"}  # the third is deleted
    run = runs["ga8"]
    assert run.settings.ga == 8
    assert run.settings.micro_batch_size.value == 2
    assert run.settings.learning_rate.value == 1e-5
    assert run.settings.packages["transformers"].value == "4.48.0"
    assert run.get(Role.LOSS).position.tolist() == list(range(1, 13))
    assert run.get(Role.LOSS).value[:2].tolist() == [32.0, 30.4]
    assert run.get(Role.EVAL_LOSS).value.tolist() == [3.5]
    assert math.isnan(run.get(Role.ENTROPY).value[0])
    assert math.isinf(run.get(Role.PERPLEXITY).value[0])


def test_the_audit_of_either_says_the_same(either):
    (diagnosis,) = audit([str(either)]).diagnoses
    assert diagnosis.verdict.value == "scaled"
    assert [run.name for run in diagnosis.runs] == ["ga1", "ga8"]


def test_on_a_walk_and_one_run_or_experiment_alone(store):
    names = [run.name.rpartition("/")[2] for run in find_runs([str(store.parent)])]
    assert sorted(names) == ["ga1", "ga8"]
    run = next(p.parent for p in store.rglob("metrics") if p.is_dir())
    assert len(by_name(run)) == 1
    assert len(by_name(run.parent)) == 2
    assert mlflow_store.claim(Target(str(store.parent))) is Claim.NO


def test_the_database_is_not_written(database):
    before = database.read_bytes()
    by_name(database)
    assert database.read_bytes() == before
    assert [p.name for p in database.parent.iterdir()] == ["mlflow.db"]


def test_a_run_without_a_loss_is_a_failure_and_stops_no_other(database):
    with sqlite3.connect(database) as connection:
        connection.execute("delete from metrics where run_uuid = (select run_uuid from runs where name = 'ga1')")
    connection.close()
    kinds = [type(item).__name__ for item in mlflow_store.read(Target(str(database)))]
    assert sorted(kinds) == ["ReadFailure", "Run"]


def test_damage_is_an_error_or_less(database):
    data = database.read_bytes()
    for cut in range(100, len(data), 4001):
        database.write_bytes(data[:cut])
        target = Target(str(database))
        try:
            items = list(mlflow_store.read(target)) if mlflow_store.claim(target) is Claim.YES else []
        except AuditError as error:
            assert error.remedy
        else:
            assert all(isinstance(item, ReadFailure) or item.series for item in items)


def test_other_databases_are_not_claimed(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table runs (x)")
    connection.close()
    assert mlflow_store.claim(Target(str(path))) is Claim.NO
    (failure,) = find_runs([str(path)])
    assert "no log format recognises" in failure.error.message


def test_the_installed_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with mlflow.start_run(run_name="mine"):
        mlflow.log_param("gradient_accumulation_steps", 4)
        for step in range(5):
            mlflow.log_metric("loss", 2.0 - step / 10, step=step)
    assert by_name(tmp_path / "mlflow.db")["mine"].settings.ga == 4
