import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Claim, Rescale, Rewrite, Target, table
from ga_audit.output.wording.notes import note as words
from ga_audit.run import Role


def read(text, name="log.jsonl", **options):
    data = text if isinstance(text, bytes) else text.encode()
    return list(table.read(Target(name, text=data, **options)))


def one(text, name="log.jsonl", **options):
    (run,) = read(text, name, **options)
    return run


def test_json_lines():
    run = one('{"step": 1, "loss": 2.5, "grad_norm": 1}\n{"step": 2, "loss": NaN}\n')
    assert run.get(Role.LOSS).position.tolist() == [1, 2]
    assert np.isnan(run.get(Role.LOSS).value[1])


def test_llamafactory_with_progress_rows_and_lr():
    rows = [{"current_steps": 10, "total_steps": 20, "loss": 1.5, "lr": 1e-5, "epoch": 0.5},
            {"current_steps": 15, "total_steps": 20, "percentage": 75.0},
            {"current_steps": 20, "total_steps": 20, "eval_loss": 1.2}]  # fmt: skip
    run = one("\n".join(map(json.dumps, rows)), "trainer_log.jsonl")
    assert run.get(Role.LOSS).position.tolist() == [10]
    assert run.get(Role.LEARNING_RATE).value.tolist() == [1e-5]
    assert run.get(Role.EVAL_LOSS).position.tolist() == [20]


def test_ms_swift_has_its_step_inside_a_text():
    line = (
        '{"loss": 2.09, "token_acc": 0.47, "grad_norm": 6.08, "global_step/max_steps": "5/2046", "percentage": "0.05%"}'
    )
    run = one(line, "logging.jsonl")
    assert run.get(Role.LOSS).position.tolist() == [5]
    assert run.get(Role.TOKEN_ACCURACY).value.tolist() == [0.47]


def test_a_broken_line_is_skipped_and_named():
    run = one('{"step": 1, "loss": 2}\n{"step": 2, "lo\n{"step": 3, "loss": 1}\n')
    assert run.get(Role.LOSS).position.tolist() == [1, 3]
    assert run.notes[0].where.endswith(":2")


def test_closing_summary_is_no_curve():
    run = one('{"step": 1, "loss": 8.0}\n{"step": 1, "train_loss": 8.0, "train_runtime": 3}\n')
    assert len(run.get(Role.LOSS)) == 1
    assert run.get(Role.SUMMARY_LOSS).value.tolist() == [8.0]


def test_wandb_chart_export_is_one_run_for_each_column():
    text = ('"Step","ga1 - train/loss","ga1 - train/loss__MIN","ga1 - train/loss__MAX","ga8 - train/loss"\n'
            '"1","2.5","2.5","2.5","20"\n"2","2.4","2.4","2.4",""\n')  # fmt: skip
    runs = read(text, "wandb_export.csv")
    assert [run.name for run in runs] == ["ga1", "ga8"]
    assert [run.get(Role.LOSS).value.tolist() for run in runs] == [[2.5, 2.4], [20.0]]


def test_tensorboard_download():
    run = one("Wall time,Step,Value\n1.7,10,2.5\n1.8,20,2.25\n", "run-ga8-tag-train_loss.csv")
    assert run.name == "ga8"
    assert run.get(Role.LOSS).position.tolist() == [10, 20]


def test_lightning_metrics_have_blank_cells():
    run = one("epoch,step,train_loss,val_loss\n0,9,2.5,\n0,9,,2.1\n0,19,2.2,\n", "metrics.csv")
    assert run.get(Role.LOSS).position.tolist() == [9, 19]
    assert run.get(Role.EVAL_LOSS).value.tolist() == [2.1]


def test_ragged_rows_are_read_and_noted():
    run = one("iter,train/loss,x\n100.0,2.5,1\n200.0,2.4\n", "log.csv")
    assert run.get(Role.LOSS).position.tolist() == [100, 200]
    assert run.notes[0].code == "ragged-rows"


def test_the_users_key():
    run = one('{"step": 1, "my_objective": 2.0, "loss": 9}', loss_key="my_objective")
    assert run.get(Role.LOSS).name == "my_objective"


@pytest.mark.parametrize(
    ("text", "name"),
    [("", "a.jsonl"), ("{}", "a.jsonl"), ("nonsense", "a.jsonl"), ("step,loss\n", "a.csv"), ("a,b\n1,2\n", "a.csv"),
     (b"\xff\xfe,\n1,2\n", "a.csv"), ("[1, 2]", "a.json")],
)  # fmt: skip
def test_bad_input(text, name):
    with pytest.raises(AuditError) as caught:
        read(text, name)
    assert caught.value.remedy


@given(st.binary(max_size=300), st.sampled_from(["a.jsonl", "a.csv", "a.json"]))
def test_any_bytes_are_an_error_or_runs(data, name):
    target = Target(name, text=data)
    assert table.claim(target) in Claim
    try:
        list(table.read(target))
    except AuditError as error:
        assert error.where


def rewrite(name, role=Role.LOSS, **options):
    return Rewrite([Rescale(name, role, np.array([0]), np.array([8.0]))], {"version": "1"}, **options)


def written(tmp_path, name, text, change):
    path = tmp_path / name
    path.write_text(text)
    runs = list(table.read(Target(str(path))))
    (out := tmp_path / "out").mkdir()
    (new,) = table.write(runs[0].sources[0], change, out)
    return new


def test_corrected_json_lines_keep_other_lines_to_the_byte(tmp_path):
    text = '{"step": 1, "loss": 8.0, "x": "é"}\n{"current":   "other"}\nbroken {\n{"step": 2, "loss": "16.0"}\n'
    lines = written(tmp_path, "a.jsonl", text, rewrite("loss")).read_text().splitlines()
    assert lines[1:3] == ['{"current":   "other"}', "broken {"]
    assert json.loads(lines[0])["loss"] == 1.0
    assert json.loads(lines[3])["loss"] == "2.000"
    assert one("\n".join(lines)).corrected_by == "1"


def test_corrected_csv_of_a_chart_changes_one_run(tmp_path):
    text = "Step,ga1 - train/loss,ga8 - train/loss\n1,2.5,20\n2,2.4,19.2\n"
    new = written(tmp_path, "a.csv", text, rewrite("ga8 - train/loss"))
    runs = list(table.read(Target(str(new))))
    assert [run.get(Role.LOSS).value.tolist() for run in runs] == [[2.5, 2.4], [2.5, 2.4]]
    assert all(run.corrected_by for run in runs)


def test_originals_are_kept_where_asked_for(tmp_path):
    import pandas as pd

    new = written(tmp_path, "a.csv", "step,loss\n1,8\n2,16\n", rewrite("loss", include_original=True))
    frame = pd.read_csv(new)
    assert frame["loss"].tolist() == [1, 2]
    assert frame["original/loss"].tolist() == [8, 16]


# --- a row for each run ----------------------------------------------------------------------------------------------


def test_wandbs_table_of_runs_is_no_curve():
    text = (
        "Name,State,Runtime,gradient_accumulation_steps,train/global_step,train/loss\n"
        "one,finished,12,1,100,2.5\ntwo,finished,13,8,100,20.1\nthree,crashed,1,4,,\n"
    )
    found = [(run.name, run.settings.ga, run.get(Role.LOSS).value.tolist()) for run in read(text, "wandb_export.csv")]
    assert found == [("one", 1, [2.5]), ("two", 8, [20.1])]


def test_a_column_of_ga_that_differs_makes_each_row_a_run():
    found = read("GA,loss\n2,2.715\n8,10.848\n", "table.csv")
    assert [(run.name, run.settings.ga, run.get(Role.LOSS).value.tolist()) for run in found] == [
        ("GA 2", 2, [2.715]),
        ("GA 8", 8, [10.848]),
    ]


def test_ga_that_changes_beside_a_step_is_one_run():
    run = one("step,gradient_accumulation_steps,loss\n1,2,2.5\n2,8,2.4\n", "log.csv")
    assert not run.settings.gradient_accumulation_steps.value.is_constant


# --- what is no log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "claim"),
    [
        ("train.csv", "question,answer,label\na,b,1\n", Claim.MAYBE),
        ("data.jsonl", '{"prompt": "a", "completion": "b"}\n', Claim.MAYBE),
        ("steps.jsonl", '{"step": "mix the flour", "text": "b"}\n', Claim.MAYBE),
        ("log.csv", "step,loss\n1,2\n", Claim.YES),
        ("log.jsonl", '{"step": 1, "objective": 2.0}\n', Claim.YES),
        ("history.json", '{"loss": [1.0, 2.0]}', Claim.YES),
        ("index.json", '{"files": ["a", "b"]}', Claim.NO),
    ],
)
def test_a_data_set_is_no_log_that_failed(name, text, claim):
    assert table.claim(Target(name, text=text.encode())) is claim


def test_a_header_that_the_user_names_is_a_log():
    assert table.claim(Target("log.csv", text=b"n,objective\n1,2\n", loss_key="objective")) is Claim.YES


def test_columns_that_are_shorter_are_named():
    run = one('{"loss": [3, 2, 1], "val_loss": [2], "layers": ["a", "b"]}', "history.json")
    assert run.get(Role.LOSS).value.tolist() == [3.0, 2.0, 1.0]
    assert [(n.code, words(n)) for n in run.notes] == [
        ("short-columns", "shorter than the other columns and left out: val_loss")
    ]
