"""The table of public logs keeps its promises; the logs themselves are not here."""

import json
from pathlib import Path

import pytest
from conftest import make_run

from ga_audit.finding import Verdict
from ga_audit.run import Role

from . import public_logs
from .public_logs import CLASSIFIERS, TABLE, card_run, confusion, judge, planted, verdict_alone

ROWS = json.loads(TABLE.read_text("utf-8"))
CARD = """\
This model is a fine-tuned version of [gpt2](https://huggingface.co/gpt2) on the None dataset.

### Training hyperparameters

- learning_rate: 2e-05
- train_batch_size: 8
- gradient_accumulation_steps: 8

### Training results

| Training Loss | Epoch | Step | Validation Loss |
|:-------------:|:-----:|:----:|:---------------:|
| No log        | 1.0   | 250  | 3.0387          |
| 3.1144        | 2.0   | 500  | 2.9952          |
| 3.0144        | 3.0   | 750  | 2.9606          |
| 2.9844        | 4.0   | 1000 | 2.9406          |
"""


def test_no_healthy_run_is_convicted_and_no_sum_acquitted():
    assert not [r for r in ROWS if (r["truth"], r["verdict"]) in {("healthy", "scaled"), ("summed", "healthy")}]


def test_there_are_enough_logs_of_enough_people():
    accumulated = [r for r in ROWS if r["ga"] > 1]
    assert len(accumulated) >= 100
    assert len({r["repository"] for r in accumulated}) >= 40
    assert len({(r["repository"], r["path"]) for r in ROWS}) == len(ROWS)


def test_the_classifiers_say_where_they_are_and_of_how_many_classes():
    rows = json.loads(CLASSIFIERS.read_text("utf-8"))
    assert len({row["repository"] for row in rows}) >= 60
    assert all(len(row["commit"]) == 40 and row["model"].endswith("Classification") for row in rows)
    assert all(row["step"] >= 1 for row in rows)


def test_classifiers_are_judged_as_if_of_another_ga(tmp_path, monkeypatch):
    place = tmp_path / "owner+name"
    place.mkdir()
    golden = Path(__file__).parents[1] / "golden" / "classifiers" / "bert-4.57.6"
    for file in golden.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    table = tmp_path / "table.json"
    table.write_text(json.dumps([{"repository": "owner/name"}, {"repository": "not/here"}]))
    monkeypatch.setattr(public_logs, "CLASSIFIERS", table)
    found = {ga: (n, dict(right), dict(summed)) for ga, n, right, summed in public_logs.classifiers(tmp_path)}
    assert found[8] == (1, {"healthy": 1}, {"scaled": 1})


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['repository']}:{r['path']}")
def test_each_row_says_where_the_log_is_and_why_it_is_judged_so(row):
    assert row["repository"].count("/") == 1
    assert len(row["commit"]) == 40
    assert row["truth"] in {"healthy", "summed", "unknown"}
    assert row["why"]
    assert row["verdict"] in set(Verdict)


def test_a_project_is_judged_run_by_run(tmp_path):
    rows = [{"loss": 2 - i / 10, "step": 10 * (i + 1)} for i in range(5)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(json.dumps({"log_history": rows, "global_step": 50}))
    assert not list(judge(tmp_path))  # GA unknown
    found = list(judge(tmp_path, 4))
    assert [paths for paths, *_ in found] == [("one/trainer_state.json",), ("two/trainer_state.json",)]
    assert {verdict for _, _, verdict, _ in found} == {Verdict.INCONCLUSIVE}


def test_a_card_is_a_run_and_a_planted_sum_is_seen(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(CARD)
    run = card_run(file)
    assert run.settings.ga == 8
    assert run.get(Role.LOSS).position.tolist() == [500, 750, 1000]
    assert verdict_alone(run)[0] is Verdict.HEALTHY
    assert verdict_alone(planted(run))[0] is Verdict.SCALED
    assert planted(make_run("r", ga=4, loss=[1.0, 2.0])).get(Role.LOSS).value.tolist() == [4.0, 8.0]


def test_the_table_counts_decided_and_right():
    rows = [{"truth": "healthy", "task": "DPO", "ga": 2, "verdict": v} for v in ("healthy", "healthy", "inconclusive")]
    assert "| healthy | DPO | 3 | 2 | 0 | 1 | 67% | 100% |" in confusion(rows)
