import json
from pathlib import Path

import jsonschema
import pytest
from conftest import make_run, twins

import ga_audit.output
from ga_audit import pipeline
from ga_audit.errors import UnreadableLog
from ga_audit.output import json_v1
from ga_audit.run import ReadFailure

SCHEMA = json.loads((Path(ga_audit.output.__file__).parent / "schema_v1.json").read_text())


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize(
    "runs",
    [
        twins(1),
        twins(0),
        twins(0, 1),
        [make_run("a", loss=[float("nan")] * 5)],
        [make_run("a", ga=8, loss=[3.0])],
        [],
    ],
    ids=["scaled", "healthy", "gradients", "nan", "one point", "nothing"],
)
def test_output_follows_the_schema(runs, explain):
    failure = ReadFailure("x", UnreadableLog("broken", where="x:1", remedy="mend"))
    text = json_v1.render(pipeline.audit_runs(runs, [failure]), explain=explain)
    jsonschema.validate(json.loads(text), SCHEMA)


def test_the_schema_itself_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_what_scripts_need_is_there():
    result = json_v1.as_json(pipeline.audit_runs(twins(1)))
    (diagnosis,) = result["diagnoses"]
    assert diagnosis["verdict"] == "scaled"
    assert [run["factor"] for run in diagnosis["runs"]] == [
        {"loss": 1.0, "grad_norm": 1.0},
        {"loss": 8.0, "grad_norm": 8.0},
    ]


def test_codes_and_commands_stand_beside_the_sentences():
    (diagnosis,) = json_v1.as_json(pipeline.audit_runs(twins(1)))["diagnoses"]
    assert diagnosis["impact"] == diagnosis["reach"] == "gradients"
    assert diagnosis["retrain_facts"] == {
        "answer": "gradients", "clipping": "unknown", "optimizer": "unknown", "optimizers": [],
        "effective_rate": None, "weight_decay": None,
    }  # fmt: skip
    assert [(step["action"], step["argv"][:2]) for step in diagnosis["actions"]] == [
        ("write-corrected", ["ga-audit", "fix"]), ("write-report", ["ga-audit", "report"]),
        ("measure", ["ga-audit", "repro"]),
    ]  # fmt: skip
    assert len(diagnosis["actions"]) == len(diagnosis["next_steps"])


def test_why_a_verdict_is_open_is_a_code():
    runs = [make_run("a", ga=1, loss=[3.0, 2.0, 1.0])]
    (diagnosis,) = json_v1.as_json(pipeline.audit_runs(runs))["diagnoses"]
    assert [why["reason"] for why in diagnosis["undecided"]] == ["nothing-scales"]
