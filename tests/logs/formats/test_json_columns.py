import json
from pathlib import Path

import pytest

from ga_audit.errors import UnreadableLog
from ga_audit.logs import discovery
from ga_audit.logs.formats import Claim, Target, json_columns
from ga_audit.run import Counted, Role

HISTORY = {"loss": [0.6911, 0.6898, 0.6876], "acc": [0.5279, 0.5485, 0.5471], "val_loss": [0.6785, 0.6689, 0.6712]}


def read(content):
    target = Target("history.json", text=json.dumps(content).encode())
    assert json_columns.claim(target) is Claim.YES
    (run,) = json_columns.read(target)
    return run


def test_a_history_of_keras_counts_epochs(tmp_path):
    (file := Path(tmp_path, "history.json")).write_text(json.dumps(HISTORY))
    (run,) = discovery.find_runs([str(file)])
    for role, name in ((Role.LOSS, "loss"), (Role.EVAL_LOSS, "val_loss")):
        one = run.get(role)
        assert (one.counted, one.position.tolist(), one.value.tolist()) == (Counted.EPOCH, [1, 2, 3], HISTORY[name])


def test_a_column_of_steps_places_the_rows():
    loss = read({**HISTORY, "step": [10, 20, 30]}).get(Role.LOSS)
    assert (loss.counted, loss.position.tolist()) == (Counted.OPTIMIZER_STEP, [10, 20, 30])


def test_columns_of_different_length_are_an_error():
    with pytest.raises(UnreadableLog) as refused:
        read({"loss": [1.0, 2.0], "val_loss": [1.0]})
    assert refused.value.message == "its columns differ in length"


@pytest.mark.parametrize("content", [{"loss": 1.0}, [1.0], {"vocab": [1, 2]}, {"loss": []}])
def test_other_json_is_not_claimed(content):
    assert json_columns.claim(Target("x.json", text=json.dumps(content).encode())) is Claim.NO
