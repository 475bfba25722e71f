"""The real SDK against the stub: what comes in, how often it asks, and what is said when it does not come."""

import io
import json
import stat

import pytest
from wandb_client import sdk_client
from wandb_stub import KEY, project, serving, trainer_rows


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with sdk_client(tmp_path_factory.mktemp("sdk")) as running:
        yield running


def one(steps=40, **fields):
    runs = project((8,), 1)
    run = next(iter(runs.values()))
    run |= {"rows": trainer_rows(steps, 8.0), **fields}
    return runs


def test_complete_history_where_train_and_eval_rows_never_share_a_row(client):
    runs = one(2500)
    with serving(runs) as stub:
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False)
        assert run.rows == runs[("team", "proj", "run00008")]["rows"]  # 2,750 rows: not the 500 of history()
        assert not any("train/loss" in row and "eval/loss" in row for row in run.rows)
        assert run.config["gradient_accumulation_steps"] == 8
        assert run.files["requirements.txt"].startswith("transformers==4.48.0")
        assert run.url.endswith("/team/proj/runs/run00008")


def test_of_a_run_with_hundreds_of_keys_those_with_a_role_are_fetched(client):
    rows = [{**row, **({f"layer{i}/activation": 0.5 for i in range(300)} if "train/loss" in row else {})}
            for row in trainer_rows(30, 8.0)]  # fmt: skip
    with serving(one(rows=rows)) as stub:
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False)
        assert stub.operations["HistoryPage"] == 0
        names = {name for row in run.rows for name in row}
        assert names == {"_step", "train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "train/global_step",
                         "eval/loss"}  # fmt: skip
        assert run.rows == [{k: v for k, v in row.items() if k in names} for row in rows]
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False, every_key=True)
        assert run.rows == rows


def test_requests_of_a_run_of_100_000_steps_are_bounded(client):
    rows = [{"train/loss": 1.0, "train/global_step": i, "_step": i} for i in range(100_000)]
    with serving(one(rows=rows)) as stub:
        client.fetch(stub, "team/proj/run00008")  # logs in
        stub.operations.clear()
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False)
        assert len(run.rows) == 100_000
        assert stub.operations["HistoryPage"] == 10
        # Run, RunHistoryKeys, RunParquetHistory, RunFiles, two small files; the login adds Viewer and GetDefaultEntity
        assert sum(stub.operations.values()) == 16, stub.operations


def test_a_finished_run_is_not_fetched_twice_and_one_that_grew_is(client, tmp_path):
    runs = one()
    env = {"GA_AUDIT_CACHE": str(tmp_path)}
    with serving(runs) as stub:
        (first,) = client.fetch(stub, "team/proj/run00008", env)
        stub.operations.clear()
        (again,) = client.fetch(stub, "team/proj/run00008", env)
        assert again == first
        assert set(stub.operations) <= {"Run"}, stub.operations
        (file,) = tmp_path.rglob("*.gz")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        # resumed: more rows
        runs[("team", "proj", "run00008")]["rows"] = trainer_rows(60, 8.0)
        (grown,) = client.fetch(stub, "team/proj/run00008", env)
        assert len(grown.rows) == 66
        stub.operations.clear()
        client.fetch(stub, "team/proj/run00008", env, use_cache=False)
        assert stub.operations["HistoryPage"] == 1
        # a damaged cache is fetched again
        for cached in tmp_path.rglob("*.gz"):
            cached.write_bytes(cached.read_bytes()[:50])
        assert client.fetch(stub, "team/proj/run00008", env) == [grown]


def test_a_running_run_is_fetched_each_time(client):
    with serving(one(state="running")) as stub:
        client.fetch(stub, "team/proj/run00008")
        stub.operations.clear()
        (run,) = client.fetch(stub, "team/proj/run00008")
        assert stub.operations["HistoryPage"] == 1
        assert not run.ended


def test_rate_limits_are_waited_for(client):
    with serving(one()) as stub:
        client.fetch(stub, "team/proj/run00008")
        stub.refuse_next = 1
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False)
        assert len(run.rows) == 44
        assert stub.operations["429"] == 1


def test_a_line_that_breaks_in_the_middle_leaves_what_came_before(client):
    rows = [{"train/loss": 1.0, "train/global_step": i, "_step": i} for i in range(25_000)]
    with serving(one(rows=rows)) as stub:
        client.fetch(stub, "team/proj/run00008", use_cache=False)
        stub.cut_from = 20_000
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False, timeout=4)
        assert len(run.rows) == 20_000
        assert "after 20000 rows: the rest is missing" in run.incomplete
        # and is not kept for later
        stub.cut_from = None
        (run,) = client.fetch(stub, "team/proj/run00008")
        assert len(run.rows) == 25_000


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_the_user_says(client):
    with serving(one()) as stub:
        stub.hang["HistoryPage"] = 30
        (error,) = client.fetch(stub, "team/proj/run00008", use_cache=False, timeout=3)
        assert "no answer within 3 s" in error.message
        assert "--timeout" in error.remedy


@pytest.mark.parametrize(
    ("status", "message"), [(403, "no permission"), (404, "no such run"), (401, "refused the API key")]
)
def test_refusals(client, status, message):
    with serving(one()) as stub:
        stub.status["Run"] = status
        (error,) = client.fetch(stub, "team/proj/run00008", timeout=20)
        assert message in str(error)
        assert error.remedy


def test_a_wrong_key(client):
    with serving(one()) as stub:
        wrong = "f" * 40
        (error,) = client.fetch(stub, "team/proj/run00008", {"WANDB_API_KEY": wrong}, timeout=20)
        assert error.message == "the server refused the API key"
        assert "wandb login" in error.remedy
        assert wrong not in str(error)


def test_no_key_and_no_server(client):
    with serving(one()) as stub:
        (error,) = client.fetch(stub, "team/proj/run00008", {"WANDB_API_KEY": None})
        assert "no W&B API key" in error.message
        (error,) = client.fetch(stub, "team/proj/run00008", {"WANDB_BASE_URL": "http://127.0.0.1:9"})
        assert "cannot be reached" in error.message


def test_the_key_of_the_environment_goes_to_no_other_server(client):
    with serving(one()) as mine, serving(one()) as other:
        (error,) = client.fetch(mine, f"{other.url}/team/proj/runs/run00008")
        assert "no W&B API key for this server" in error.message
        assert not other.operations
        # a key for it in netrc is used
        netrc = client.folder / "netrc"
        netrc.write_text(f"machine {other.url.removeprefix('http://')} login user password {KEY}\n")
        netrc.chmod(0o600)
        try:
            (run,) = client.fetch(mine, f"{other.url}/team/proj/runs/run00008")
        finally:
            netrc.unlink()
        assert len(run.rows) == 44
        assert not mine.operations


def test_projects_groups_tags_sweeps_and_names(client):
    runs = project((1, 2, 8))
    runs[("team", "proj", "run00001")] |= {"group": "g 1", "tags": ["keep"], "sweep": "s1"}
    with serving(runs) as stub:
        for text, ids in (
            ("team/proj", ["run00001", "run00002", "run00008"]),
            ("wandb://team/proj?group=g%201", ["run00001"]),
            ("team/proj?tag=keep", ["run00001"]),
            ("team/proj?sweep=s1", ["run00001"]),
            ("proj/ga2", ["run00002"]),  # a display name, in the default entity
            (f"{stub.url}/team/proj/groups/g%201/workspace", ["run00001"]),
        ):
            assert [run.id for run in client.fetch(stub, text)] == ids, text
        (run,) = client.fetch(stub, "run00008", {"WANDB_PROJECT": "proj"})
        assert run.id == "run00008"


def test_what_is_not_there(client):
    runs = project((1, 2))
    runs[("team", "proj", "run00002")]["name"] = "ga1"
    with serving(runs) as stub:
        for text, words in (
            ("team/proj/nothere1", "by id and by display name"),
            ("team/empty", "project team/empty: no runs there"),
            ("nobody/nothing", "project nobody/nothing: there is no such run or project"),
            ("team/proj?tag=none", "no runs there"),
            ("proj/ga1", "2 runs of team/proj have this name"),
            ("ab12cd34", "the project of the run is not known"),
        ):
            (error,) = client.fetch(stub, text)
            assert words in error.message, (text, error.message)
            assert error.remedy


def test_pages_where_steps_jump(client):
    rows = [{"train/loss": 1.0, "_step": step} for step in (0, 5, 9_999, 10_000, 31_000)]
    with serving(one(rows=rows)) as stub:
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False)
        assert [row["_step"] for row in run.rows] == [0, 5, 9_999, 10_000, 31_000]


def test_values_that_are_no_plain_numbers(client):
    rows = [{"train/loss": "NaN", "a": {"b": {"c": 1}}, "image": {"_type": "image-file", "path": "x"}, "_step": 0},
            {"train/loss": "Infinity", "list": [1, 2], "_step": 1}]  # fmt: skip
    with serving(one(rows=rows)) as stub:
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False)
        assert str(run.rows[0]["train/loss"]) == "nan"
        assert run.rows[0]["a.b.c"] == 1
        assert "image" not in run.rows[0]
        assert run.rows[1] == {"train/loss": float("inf"), "_step": 1}


def test_an_export_of_the_server_is_read_and_its_live_tail_too(client):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = trainer_rows(300, 8.0)
    exported = rows[:200]
    names = sorted({k for row in exported for k in row})
    table = pyarrow.table({name: [row.get(name) for row in exported] for name in names})
    file = io.BytesIO()
    parquet.write_table(table, file)
    with serving(one(rows=rows, parquet=file.getvalue(), parquet_last=199)) as stub:
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False)
        got = [{k: v for k, v in row.items() if v is not None} for row in run.rows]
        assert [row["_step"] for row in got] == list(range(330))
        assert [row.get("train/loss") for row in got] == [row.get("train/loss") for row in rows]
        assert [row.get("eval/loss") for row in got] == [row.get("eval/loss") for row in rows]
        assert stub.operations["GET"] == 3  # the export and two small files


def test_keys_of_an_export_are_read_by_ranges(client):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{**row, **({f"layer{i}/activation": 0.5 for i in range(300)} if "train/loss" in row else {})}
            for row in trainer_rows(60, 8.0)]  # fmt: skip
    names = sorted({k for row in rows for k in row})
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({name: [row.get(name) for row in rows[:40]] for name in names}), file)
    with serving(one(rows=rows, parquet=file.getvalue(), parquet_last=39)) as stub:
        (run,) = client.fetch(stub, "team/proj/run00008", use_cache=False)
        for name in ("train/loss", "eval/loss", "train/global_step"):
            assert [r[name] for r in run.rows if name in r] == [r[name] for r in rows if name in r], name


def test_no_key_is_written(client):
    with serving(one()) as stub:
        client.fetch(stub, "team/proj/run00008")
        for file in client.folder.rglob("*"):
            if file.is_file():
                assert KEY.encode() not in file.read_bytes(), file
        assert KEY not in json.dumps(dict(stub.operations))
