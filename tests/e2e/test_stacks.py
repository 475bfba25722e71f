"""Real logs of axolotl 0.21.0 and LLaMA-Factory 0.9.5 at GA 1 and 4, of a model that ignores the count (measured: 1, 1, 1)."""

from pathlib import Path

import pytest

from ga_audit import pipeline

LOGS = Path(__file__).parents[1] / "golden" / "stacks"


@pytest.mark.parametrize(("package", "parts"), [
    ("axolotl", {"trainer_state.json", "debug.log"}),
    ("llamafactory", {"trainer_state.json", "trainer_log.jsonl", "console.txt"}),
])  # fmt: skip
def test_the_parts_of_a_training_are_one_run_with_the_settings_of_its_config(package, parts):
    (diagnosis,) = pipeline.audit([str(LOGS / package)], pipeline.Options()).diagnoses
    assert [run.settings.ga for run in diagnosis.runs] == [1, 4]
    for run in diagnosis.runs:
        assert {Path(source.path).name for source in run.sources} == parts
        assert run.settings.seed.value == 42
    assert diagnosis.verdict.value == "scaled"
