"""Object stores through fsspec's own stores in memory and on disk; a missing backend, place or right is said."""

import shutil
from pathlib import Path

import pytest

from ga_audit.logs import object_store
from ga_audit.logs.discovery import Log, find_logs, find_runs, read_log
from ga_audit.pipeline import audit
from ga_audit.run import ReadFailure

SAMPLES = Path(__file__).parents[2] / "sample_logs"


pytest.importorskip("fsspec")


@pytest.fixture
def store():
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(SAMPLES / "transformers-4.48.0"), "/bucket/runs", recursive=True)
    memory.pipe("/bucket/runs/ga1/model.safetensors", b"weights" * 1000)
    yield memory
    memory.rm("/bucket", recursive=True)
    object_store._place.cache_clear()


def test_a_tree_in_a_store_is_audited_as_on_disk(store):
    found = audit(["memory://bucket/runs"])
    here = audit([str(SAMPLES / "transformers-4.48.0")])
    assert [d.findings for d in found.diagnoses] == [d.findings for d in here.diagnoses]
    assert [run.name for run in found.diagnoses[0].runs] == [run.name for run in here.diagnoses[0].runs]
    assert [run.settings.ga for run in found.diagnoses[0].runs] == [1, 2, 4, 8]


def test_weights_stay_where_they_are(store):
    copy = object_store.fetch("memory://bucket/runs", lambda name: not name.endswith(".safetensors"))
    assert copy.name == "runs"
    assert not list(copy.rglob("*.safetensors"))
    assert len(list(copy.rglob("trainer_state.json"))) == 4


def test_one_file(store):
    (run,) = find_runs(["memory://bucket/runs/ga8/trainer_state.json"])
    assert len(run.series) > 2


def test_a_worker_on_another_machine_fetches_for_itself(store):
    logs = [log for log in find_logs(["memory://bucket/runs"]) if isinstance(log, Log)]
    shutil.rmtree(logs[0].target.options["copy"])
    assert not any(isinstance(piece, ReadFailure) for log in logs for piece in read_log(log))


def test_file_addresses():
    (failure,) = [x for x in find_runs([f"file://{SAMPLES}/nothing"]) if isinstance(x, ReadFailure)]
    assert "there is nothing there" in failure.error.message
    assert len(list(find_runs([f"file://{SAMPLES}/transformers-4.48.0"]))) == 4


@pytest.mark.parametrize(
    ("url", "words"),
    [("memory://no/such/place", "there is nothing there"), ("gopher://x/y", "no kind of address"),
     ("dropbox://x/y", "no backend here")],
)  # fmt: skip
def test_what_is_not_there(url, words):
    (failure,) = find_runs([url])
    assert words in failure.error.message
    assert failure.error.remedy


def test_secrets_in_an_address_are_not_shown():
    (failure,) = find_runs(["memory2://me:secret@bucket/x"])
    assert "secret" not in str(failure.error)


def test_what_is_no_store():
    for text in ("https://wandb.ai/a/b", "wandb://a/b/c", "runs/x", "C:\\x", "team/proj"):
        assert not object_store.is_remote(text)
