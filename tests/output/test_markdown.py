import dataclasses

from conftest import twins

from ga_audit import pipeline
from ga_audit.conclusion import Retrain, RetrainAnswer
from ga_audit.output import markdown


def test_verdict_table_and_exponents():
    out = markdown.render(pipeline.audit_runs(twins(1)))
    assert out.startswith("**SCALED**")
    assert "| ga8 | 8 | 2 | 1 |" in out
    assert "| loss | 1.000 |" in out


def test_a_hostile_name_is_no_markup():
    runs = twins(1)
    runs[1] = dataclasses.replace(runs[1], name="x|y](http://evil)<script>`")
    out = markdown.render(pipeline.audit_runs(runs))
    assert "<script>" not in out
    assert "x\\|y\\](http" in out


def test_diagnosis_of_a_correction_says_what_it_does_not_do():
    rows = [{"run": "a", "series": "grad_norm", "factor": [8.0], "first_logged": 8.0, "first_corrected": 1.0,
             "last_logged": None, "last_corrected": None}]  # fmt: skip
    out = markdown.corrections(rows, None, ["assumed"])
    assert "not a repaired run" in out
    assert "| a | grad\\_norm | 8 | 8 to 1 | nan to nan |" in out


def test_commands_inside_the_answer_on_retraining_are_code():
    (diagnosis,) = pipeline.diagnose(twins(1.0))
    unknown = Retrain(answer=RetrainAnswer.UNKNOWN)
    text = "\n".join(markdown.diagnosis_lines(dataclasses.replace(diagnosis, retrain=unknown)))
    assert "sum the gradient too. `ga-audit repro` measures it on the installed stack." in text
