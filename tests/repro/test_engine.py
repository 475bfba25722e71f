"""What engines say of themselves is read from their source."""

import subprocess
import sys

import pytest

from ga_audit.errors import AuditError
from ga_audit.repro import engine


def test_every_script_without_an_underscore_is_an_engine():
    scripts = {path.name for path in engine.SCRIPTS.glob("[!_]*.py")}
    assert {e.script.name for e in engine.engines().values()} == scripts
    assert {"torch", "transformers", "trl"} <= set(engine.engines())


def test_an_engine_names_what_it_needs_and_takes():
    for each in engine.engines().values():
        assert "torch" in each.needs
        assert {"ga", "world-size", "effective-batch-size", "steps", "seed", "out"} <= set(each.options)
        assert {"cpu", "cuda"} <= set(each.options["device"])


def test_variants_and_models_stand_in_the_script_or_in_a_helper_that_it_imports():
    stock = engine.engines()["transformers"]
    assert {"A", "B2", "B3", "D-flagged", "lora"} <= set(stock.variants)
    assert {"t5-seq2seq", "bert-sequence-classification"} <= set(stock.models)
    assert stock.variant_needs["lora"] == "peft"
    assert engine.engines()["trl"].variants[:2] == ("sft", "dpo")
    assert engine.engines()["trl"].models == {}
    assert stock.models["t5-seq2seq"] == "T5ForConditionalGeneration"
    assert "sum-grad" in engine.engines()["torch"].options["fault"]
    assert engine.engines()["torch"].options["sink"] == ("json", "tensorboard", "wandb")
    assert engine.engines()["torch"].variants == ()


def test_a_new_script_is_a_new_engine(tmp_path, monkeypatch):
    (tmp_path / "_shared.py").write_text("VARIANTS = {'plain': 1, **{'computed': 2}}\nNEEDS = ('torch',)\n")
    (tmp_path / "lightning_fit.py").write_text(
        "import _shared\nENGINE = 'lightning'\nNEEDS = ('torch', 'lightning')\nraise SystemExit('never run')\n"
        "parser.add_argument('--ga', type=int)\nparser.add_argument('--out')\n"
    )
    monkeypatch.setattr(engine, "SCRIPTS", tmp_path)
    engine.engines.cache_clear()
    try:
        (made,) = engine.engines().values()
    finally:
        engine.engines.cache_clear()
    assert (made.name, made.needs, made.variants) == ("lightning", ("torch", "lightning"), ("plain",))
    assert made.options == {"ga": (), "out": ()}


def test_engines_are_read_without_torch():
    code = "import sys; from ga_audit.repro import engine; engine.engines(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_models_and_variants_are_chosen_by_name():
    assert engine.chosen("model", "all") == [
        (name, {"model": name}) for name in engine.engines()["transformers"].models
    ]
    with pytest.raises(AuditError, match="no model 'gpt9'"):
        engine.chosen("model", "t5-seq2seq,gpt9")
