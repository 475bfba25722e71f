import json
import math
from pathlib import Path

import numpy as np
import pytest

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Claim, Rescale, Rewrite, Target, trainer_state
from ga_audit.run import Role

SAMPLE = Path(__file__).parents[3] / "sample_logs/transformers-4.48.0/ga8/trainer_state.json"


def read(path):
    (run,) = trainer_state.read(Target(str(path)))
    return run


def state(path, rows, **more):
    path.write_text(json.dumps({"log_history": rows, "global_step": 3, **more}))
    return path


def test_what_a_real_trainer_wrote():
    run = read(SAMPLE)
    assert {s.role for s in run.series} == {
        Role.LOSS, Role.GRAD_NORM, Role.LEARNING_RATE, Role.EPOCH, Role.EVAL_LOSS, Role.SUMMARY_LOSS,
    }  # fmt: skip
    assert run.get(Role.LOSS).value[0] == 33.3967
    assert len(run.get(Role.LOSS)) == 40
    assert run.get(Role.EVAL_LOSS).position.tolist() == [10, 20, 30, 40]
    assert run.settings.micro_batch_size.value == 2
    assert run.settings.ga is None  # it is not in this file


def test_nan_and_infinity_as_python_writes_them(tmp_path):
    run = read(state(tmp_path / "trainer_state.json", [
        {"step": 1, "loss": 1.0, "grad_norm": float("nan")}, {"step": 2, "loss": float("inf"), "grad_norm": 1.0},
    ]))  # fmt: skip
    assert np.isnan(run.get(Role.GRAD_NORM).value[0])
    assert np.isinf(run.get(Role.LOSS).value[1])


def test_a_step_that_comes_twice_keeps_its_last_value_and_a_note(tmp_path):
    rows = [{"step": s, "loss": v} for s, v in [(1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0), (3, 30.0)]]
    series = read(state(tmp_path / "trainer_state.json", rows)).get(Role.LOSS)
    assert series.position.tolist() == [1, 2, 3]
    assert series.value.tolist() == [1.0, 20.0, 30.0]
    assert series.notes[0].count == 2
    assert (series.notes[0].code, series.notes[0].facts["backwards"]) == ("repeated-steps", 1)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"), (b"{", "broken JSON"), (b"[1]", "no object"), (b"{}", "log_history"),
        (b'{"log_history": []}', "nothing has been logged"), (b'{"log_history": [{"step": 1, "x": 2}]}', "no training loss"),
        (b"\xff\xfe\x00", "UTF-8"), (b"version https://git-lfs.github.com/spec/v1", "git-lfs"),
        (b'{"log_history": ' + b"[" * 100_000, "nested"),
    ],
)  # fmt: skip
def test_bad_input_says_file_place_and_remedy(tmp_path, content, word):
    path = tmp_path / "trainer_state.json"
    path.write_bytes(content)
    with pytest.raises(AuditError, match=word) as caught:
        read(path)
    assert "trainer_state.json" in caught.value.where
    assert caught.value.remedy


def test_cut_anywhere_it_is_an_error_never_a_crash(tmp_path):
    data = SAMPLE.read_bytes()
    path = tmp_path / "trainer_state.json"
    for at in range(0, len(data) - 3, 257):
        path.write_bytes(data[:at])
        with pytest.raises(AuditError):
            read(path)


def test_claim_by_content():
    assert trainer_state.claim(Target("x.json", text=b'{"a": 1, "log_history": []}')) is Claim.YES
    assert trainer_state.claim(Target("x.json", text=b'{"a": 1}')) is Claim.NO


def test_a_corrected_copy_changes_the_rescaled_values_only(tmp_path):
    source = read(SAMPLE).sources[0]
    rescales = [Rescale("loss", Role.LOSS, np.array([0]), np.array([8.0])),
                Rescale("train_loss", Role.SUMMARY_LOSS, np.array([0]), np.array([8.0]))]  # fmt: skip
    (path,) = trainer_state.write(source, Rewrite(rescales, {"version": "1"}), tmp_path)
    before, after = json.loads(SAMPLE.read_text()), json.loads(path.read_text())
    assert after.pop("ga_audit") == {"version": "1"}
    for old, new in zip(before["log_history"], after["log_history"], strict=True):
        for key in old:
            expected = old[key] / 8 if key in {"loss", "train_loss"} else old[key]
            assert new[key] == pytest.approx(expected, rel=1e-12)
    assert {k: v for k, v in before.items() if k != "log_history"} == {
        k: v for k, v in after.items() if k != "log_history"
    }
    assert read(path).corrected_by == "1"


def test_rows_of_several_kinds_are_read_as_one_by_one(tmp_path):
    rows = [
        {"loss": 3.0, "grad_norm": 1, "step": 1},
        {"eval_loss": "2.5", "step": 1},
        {"own": True, "loss": None, "step": 2},
        [1],
        {"loss": 2.0, "grad_norm": "nan", "step": "3"},
        {"train_loss": 2.4, "train_runtime": 9.0, "step": 3},
        {"train_loss": 1.5, "step": 4},
        {"loss": 10**400, "step": 5.0},
        {"loss": 7.0, "step": True},
        {"loss": 8.0},
        {"train_loss": "x", "train_runtime": 9.0, "step": 6},
    ]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows, "global_step": 9}))
    (run,) = trainer_state.read(Target(str(path)))
    found = {s.name: dict(zip(s.position.tolist(), s.value.tolist(), strict=True)) for s in run.series}
    assert found["loss"] == {1: 3.0, 3: 2.0, 5: math.inf}
    assert found["eval_loss"] == {1: 2.5}
    assert found["train_loss"] == {3: 2.4}
    assert (found["grad_norm"][1], math.isnan(found["grad_norm"][3])) == (1.0, True)
    left = {note.code: note.count for note in run.left_out}
    assert left == {"no-role": 1, "second-name": 1, "not-a-number": 1}
    assert [(note.code, dict(note.facts)) for note in run.notes] == [("unlogged-end", {"last": 6, "total": 9})]
