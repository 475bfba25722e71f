from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from factories import make_run

from ga_audit.errors import AuditError, WrongUsage
from ga_audit.run import Source
from ga_audit.scan.selection import Condition, Selection, parse_condition, parse_since


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("learning_rate>1e-4", Condition("learning_rate", ">", 1e-4)),
        ("state=finished", Condition("state", "=", "finished")),
        ("config.model!=tiny model", Condition("config.model", "!=", "tiny model")),
        ("gradient_accumulation_steps >= 8", Condition("gradient_accumulation_steps", ">=", 8)),
        ("flag=true", Condition("flag", "=", True)),
        ("name=", Condition("name", "=", "")),
    ],
)
def test_conditions(text, condition):
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["", "state", "=finished", "a<>b", ">1"])
def test_what_is_no_condition(text):
    with pytest.raises(ValueError):
        parse_condition(text) if text != "a<>b" else (_ for _ in ()).throw(ValueError)


def test_since():
    assert parse_since("2026-11-01T12:00:00+00:00") == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert parse_since("2026-11-01").tzinfo is not None
    assert abs(parse_since("7d") - (datetime.now(UTC) - timedelta(days=7))) < timedelta(seconds=5)
    with pytest.raises(ValueError):
        parse_since("yesterday")


def test_what_a_server_is_asked_for():
    since = datetime(2026, 11, 1, tzinfo=UTC)
    chosen = Selection(since, ("good",), (parse_condition("state=finished"), parse_condition("seed>3")))
    assert chosen.for_server() == {
        "$and": [{"createdAt": {"$gte": "2026-11-01T00:00:00Z"}}, {"tags": {"$in": ["good"]}},
                 {"state": {"$eq": "finished"}}, {"config.seed": {"$gt": 3}}]
    }  # fmt: skip
    assert Selection().for_server() == {}


def test_what_is_on_disk_is_held_against_the_conditions(tmp_path):
    path = tmp_path / "log.csv"
    path.touch()
    run = replace(make_run("a", ga=8, loss=[1.0], seed=4, model="tiny"), sources=(Source("table", str(path)),))

    def fits(*texts, **fields):
        return Selection(conditions=tuple(map(parse_condition, texts)), **fields).fits(run)

    assert fits()
    assert fits("seed=4", "model=tiny", "gradient_accumulation_steps=8", "accumulate_grad_batches>4")
    assert not fits("seed>4")
    assert not fits("unknown=1")
    assert fits("unknown!=1")
    assert not fits("model>3")  # a text is neither more nor less than a number
    assert fits(since=datetime.now(UTC) - timedelta(hours=1))
    assert not fits(since=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(AuditError, match="have tags"):
        fits(tags=("x",))


def test_a_condition_on_a_setting_that_no_run_has_is_refused():
    runs = [make_run("a", ga=8, seed=4), make_run("b", ga=1, packages={"trl": "0.12"})]
    for text in ("seed>4", "name=c", "seeed!=4", "trl=0.12", "gradient_accumulation_steps=2"):
        Selection(conditions=(parse_condition(text),)).check(runs)
    with pytest.raises(WrongUsage) as refused:
        Selection(conditions=(parse_condition("seeed=4"),)).check(runs)
    assert refused.value.message == "--filter seeed: no run has such a setting"
    assert refused.value.remedy == "The settings are: gradient_accumulation_steps, name, seed, trl."
    on_a_server = replace(runs[0], sources=(Source("wandb_cloud", "wandb://a/b/c"),))
    Selection(conditions=(parse_condition("state=finished"),)).check([on_a_server])
    Selection(conditions=(parse_condition("state=finished"),)).check([])
