"""What was measured stands in the audit of the engine's logs: releases, the known bug, the command."""

import json

import pytest
from conftest import twins

from ga_audit import pipeline
from ga_audit.conclusion import Action
from ga_audit.finding import Impact, Verdict
from ga_audit.output import issue
from ga_audit.repro import as_evidence, measurement
from ga_audit.repro import verdict as verdicts


@pytest.fixture
def cells(tmp_path):
    """Logs and measurements of a sum at GA 1 and 4, as an engine writes them."""
    for ga in (1, 4):
        out = tmp_path / f"ga{ga}"
        out.mkdir()
        rows = [
            {"step": s, "loss": ga * (4 - 0.02 * s), "grad_norm": ga * (0.5 + 0.01 * (s % 3))} for s in range(1, 21)
        ]
        (out / "trainer_state.json").write_text(json.dumps({"global_step": 20, "log_history": rows}))
        (out / "args.json").write_text(
            json.dumps({"gradient_accumulation_steps": ga, "per_device_train_batch_size": 16 // ga})
        )
        measured = [
            {"step": s, "reference_loss": 4 - 0.02 * s, "reference_norm": 0.5, "ratio": ga, "cosine": 1.0}
            for s in (1, 2)
        ]
        kept = {
            "ga": ga,
            "measured": measured,
            "logged": rows,
            "packages": {"transformers": "5.23.0", "torch": "2.13.0"},
        }
        (out / "truth.json").write_text(json.dumps(kept))
    audit = pipeline.audit([str(tmp_path)], pipeline.Options())
    found = verdicts.judge([measurement.read_truth(tmp_path / f"ga{ga}" / "truth.json") for ga in (1, 4)])
    return audit, found


def test_releases_and_the_known_bug_come_from_the_measurement(cells):
    audit, found = cells
    (told,) = as_evidence.with_truth(audit, found, variant="B2").diagnoses
    assert (told.verdict, told.impact) == (Verdict.SCALED, Impact.GRADIENTS)
    assert [(bug.bug, bug.fit) for bug in told.bugs] == [("GA004", "matches")]
    assert (told.next_steps[0].action, told.next_steps[0].bug) == (Action.FIX_BUG, told.bugs[0])
    assert all(run.settings.packages["transformers"].value == "5.23.0" for run in told.runs)


def test_a_situation_in_which_no_bug_is_known_names_none(cells):
    audit, found = cells
    (told,) = as_evidence.with_truth(audit, found, variant="A").diagnoses
    assert told.bugs == ()


def test_the_issue_says_what_measured_it(cells):
    audit, found = cells
    command = ("ga-audit", "repro", "--variant", "B2", "--ga", "1,4")
    text = issue.render(as_evidence.with_truth(audit, found, variant="B2", command=command))
    assert "\nga-audit repro --variant B2 --ga 1,4\n" in text
    assert "transformers==5.23.0 torch==2.13.0" in text
    assert "- transformers 5.23.0" in text


def _compared(**exponents):
    """What is said of logs whose loss and grad_norm are summed, beside cells with these exponents, else 1."""
    (diagnosis,) = pipeline.diagnose(twins(1))
    wanted = {"loss": 1, "grad_norm": 1, "gradient": 1, **exponents}
    made = [measurement.Measured(ga, 1, *(float(ga) ** e for e in wanted.values()), 1.0, None, None) for ga in (1, 8)]
    return [(note.code, note.message) for note in as_evidence.comparison(diagnosis, verdicts.judge(made))]


def test_measurement_and_logs_are_compared_quantity_by_quantity():
    assert _compared() == [("measurement-agrees", "measurement and logs agree")]
    ((code, message),) = _compared(loss=0)
    assert code == "measurement-disagrees"
    assert "loss by the logs GA^1, measured GA^0.00" in message
    # a norm that was logged before a later division: the logs say gradients, the measurement does not
    ((code, message),) = _compared(gradient=0)
    assert code == "measurement-disagrees"
    assert "the gradients too, measured: only the log" in message


def test_a_factor_of_every_run_is_no_contradiction():
    (diagnosis,) = pipeline.diagnose(twins(0))
    made = [measurement.Measured(ga, 2, 2.0, 2.0, 2.0, 1.0, None, None) for ga in (1, 8)]
    (note,) = as_evidence.comparison(diagnosis, verdicts.judge(made))
    assert (note.code, "every run shares" in note.message) == ("measurement-decides", True)


def test_what_was_not_measured_is_not_compared(cells):
    audit, _ = cells
    empty = [measurement.Measured(ga, 1, None, None, None, None, None, None) for ga in (1, 4)]
    assert as_evidence.comparison(audit.diagnoses[0], verdicts.judge(empty)) == ()
