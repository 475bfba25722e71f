"""Real single runs of transformers at GA 8: a BERT or Llama of a masked or causal checkpoint, with a new head for two classes.

`bert-*` hold what a Trainer saves; `llama-5.24.0` is what it logs to TensorBoard, where the model is still called by the class
of its checkpoint. Truth, by `ga-audit repro --models all`: 5.24.0 sums (1, 1, 1), 4.57.6 does not.
"""

from pathlib import Path

import pytest

from ga_audit import pipeline
from ga_audit.finding import Verdict
from ga_audit.run import Role

LOGS = Path(__file__).parents[1] / "golden" / "classifiers"


def diagnosis(name):
    (found,) = pipeline.audit([str(LOGS / name)], pipeline.Options()).diagnoses
    return found


@pytest.mark.parametrize(("name", "verdict", "bugs"), [
    ("bert-5.24.0", Verdict.SCALED, {"GA004"}), ("bert-4.57.6", Verdict.HEALTHY, set()),
])  # fmt: skip
def test_one_run_of_a_classifier_is_judged_by_where_it_starts(name, verdict, bugs):
    found = diagnosis(name)
    assert found.verdict is verdict
    assert {bug.bug for bug in found.bugs if bug.fit == "matches"} == bugs


def test_a_classifier_that_began_as_a_language_model_is_not_taken_for_one():
    found = diagnosis("llama-5.24.0")
    other = found.runs[0].settings.other
    assert other["base_architectures"].value == ["LlamaForCausalLM"]
    assert "architectures" not in other
    assert found.verdict is Verdict.INCONCLUSIVE
    below = sum(p for h, p in found.posterior[Role.LOSS].items() if h.name.startswith("divided"))
    assert below < 0.05
