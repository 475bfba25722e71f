import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Claim, Target, yaml_config


def read(text, name):
    target = Target(name, text=text.encode())
    assert yaml_config.claim(target) is Claim.YES
    (run,) = yaml_config.read(target)
    return run.settings


def test_axolotl_and_llamafactory_yaml():
    s = read(
        "base_model: x/y\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\nlearning_rate: 2e-5\n", "axolotl.yaml"
    )
    assert (s.ga, s.micro_batch_size.value, s.model.value) == (4, 2, "x/y")
    assert read("gradient_accumulation_steps: 8\nper_device_train_batch_size: 1\n", "train.yml").ga == 8


def test_lightning_and_torchtune():
    assert read("accumulate_grad_batches: 16\n", "hparams.yaml").ga == 16
    assert read("gradient_accumulation_steps: 2\nbatch_size: 4\n", "torchtune_config.yaml").ga == 2


def test_json_configurations():
    s = read(json.dumps({"transformers_version": "4.46.1", "vocab_size": 32000, "model_type": "llama"}), "config.json")
    assert s.packages["transformers"].value == "4.46.1"
    assert s.vocab_size.value == 32000
    assert read(json.dumps({"gradient_accumulation_steps": "auto", "seed": 1}), "ds_config.json").ga is None
    assert read(json.dumps({"gradient_accumulation_steps": 4}), "args.json").ga == 4


def test_model_cards():
    card = ("### Training hyperparameters\n\n- learning_rate: 5e-05\n- train_batch_size: 2\n- seed: 42\n{}\n"
            "### Framework versions\n\n- Transformers 4.45.2\n- Pytorch 2.4.1+cu121\n")  # fmt: skip
    s = read(card.format("- gradient_accumulation_steps: 4\n- total_train_batch_size: 8"), "README.md")
    assert (s.ga, s.packages["transformers"].value, s.packages["torch"].value) == (4, "4.45.2", "2.4.1+cu121")
    assert read(card.format(""), "README.md").ga == 1  # the card leaves out what is 1


def test_other_files_are_not_claimed():
    assert yaml_config.claim(Target("a.yaml", text=b"x: 1")) is Claim.NO
    assert yaml_config.claim(Target("README.md", text=b"# hello")) is Claim.NO
    assert yaml_config.claim(Target("a.json", text=b'{"log_history": []}')) is Claim.NO


def test_yaml_cannot_make_objects(tmp_path):
    text = f"gradient_accumulation_steps: 4\nx: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n"
    with pytest.raises(AuditError, match="broken configuration"):
        read(text, "a.yaml")
    assert not (tmp_path / "ran").exists()


@given(st.binary(max_size=300), st.sampled_from(["a.yaml", "config.json", "README.md"]))
def test_any_bytes_are_an_error_or_settings(data, name):
    try:
        list(yaml_config.read(Target(name, text=data)))
    except AuditError as error:
        assert error.where == name
