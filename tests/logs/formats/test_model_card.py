import shutil
from pathlib import Path

import pytest

from ga_audit.errors import UnreadableLog
from ga_audit.logs import discovery
from ga_audit.logs.formats import Claim, Target, model_card, yaml_config
from ga_audit.run import Counted, Role

CARD = Path(__file__).parents[2] / "golden" / "cases" / "model-card" / "README.md"
STATE = Path(__file__).parents[3] / "sample_logs" / "transformers-4.57.6" / "ga8" / "trainer_state.json"


def test_a_card_with_results_is_a_run():
    assert model_card.claim(Target(str(CARD))) is Claim.YES
    (run,) = model_card.read(Target(str(CARD)))
    assert run.name == "whisper-small-x"
    assert run.get(Role.LOSS).position.tolist() == [5, 10, 15, 20]
    assert run.get(Role.LOSS).counted is Counted.OPTIMIZER_STEP
    assert run.get(Role.EVAL_LOSS).value.tolist() == [1.5048, 1.4559, 1.4259, 1.4059]
    assert (run.settings.ga, run.settings.micro_batch_size.value) == (8, 4)
    assert {name: one.value for name, one in run.settings.packages.items()} == {
        "transformers": "4.46.1",
        "torch": "2.5.0",
    }


def test_rows_without_a_logged_loss_keep_their_evaluation():
    text = CARD.read_text().replace("| 12.5521       |", "| No log        |")
    (run,) = model_card.read(Target("README.md", text=text.encode()))
    assert run.get(Role.LOSS).position.tolist() == [10, 15, 20]
    assert run.get(Role.EVAL_LOSS).position.tolist() == [5, 10, 15, 20]


def test_a_card_without_a_table_is_a_configuration():
    text = CARD.read_text().partition("### Training results")[0]
    target = Target("README.md", text=text.encode())
    assert model_card.claim(target) is Claim.NO
    assert yaml_config.claim(target) is Claim.YES


def test_a_card_beside_the_state_of_its_training_is_its_configuration(tmp_path):
    shutil.copy(CARD, tmp_path / "README.md")
    shutil.copy(STATE, tmp_path / "trainer_state.json")
    for target in (tmp_path, tmp_path / "trainer_state.json"):
        (run,) = discovery.find_runs([str(target)])
        assert [source.format for source in run.sources] == ["trainer_state"]
        assert run.settings.ga == 8


def test_a_table_without_a_loss_is_an_error():
    text = CARD.read_text()
    text = text[: text.index("| 12.5521")]
    with pytest.raises(UnreadableLog) as refused:
        list(model_card.read(Target("README.md", text=text.encode())))
    assert refused.value.message == "its table holds no training loss"
