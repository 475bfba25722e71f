"""The metadata of the engines, and that it agrees with their code."""

import json
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


def test_variants_models_and_faults_have_descriptions():
    stock, loop = engine.engines()["transformers"], engine.engines()["torch"]
    assert next(iter(stock.variants.items())) == ("A", "the model takes loss arguments and uses them")
    assert stock.variants["B2-flagged"] == "B2 with accepts_loss_kwargs = False on the model"
    assert stock.models["t5-seq2seq"] == "T5ForConditionalGeneration"
    assert stock.variant_needs["liger"] == "liger_kernel"
    assert engine.engines()["trl"].models == {}
    assert loop.variants == {}
    assert loop.faults["sum-grad"] == "loss and gradient are summed over GA"
    assert loop.options["fault"] == tuple(loop.faults)
    assert loop.options["sink"] == ("json", "tensorboard", "wandb")
    assert engine.describe("transformers", "t5-seq2seq") == "T5ForConditionalGeneration as it stands"
    assert engine.describe("transformers", "C2") == "compute_loss_func returns a mean"
    assert engine.describe("torch", "sum-grad") == "loss and gradient are summed over GA"
    assert engine.describe("script", "") == ""


NEW = '''"""An engine."""
# /// script
# dependencies = ["torch", "a-library"]
#
# [tool.ga-audit]
# name = "lightning"
# preload = ["torch"]
# options = ["ga", "out", "device"]
# [tool.ga-audit.choices]
# device = ["cpu", "cuda"]
# [tool.ga-audit.variants]
# plain = "a module as it stands"
# ///
raise SystemExit("never run")
'''


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SCRIPTS", tmp_path)
    engine.engines.cache_clear()
    yield tmp_path
    engine.engines.cache_clear()


def test_a_new_script_is_a_new_engine(scripts):
    (scripts / "lightning_fit.py").write_text(NEW)
    (made,) = engine.engines().values()
    assert (made.name, made.needs, made.preload) == ("lightning", ("torch", "a_library"), ("torch",))
    assert made.variants == {"plain": "a module as it stands"}
    assert made.options == {"ga": (), "out": (), "device": ("cpu", "cuda"), "variant": ("plain",)}
    digest = made.digest
    (scripts / "_helper.py").write_text("x = 1\n")
    engine.engines.cache_clear()
    assert engine.engines()["lightning"].digest != digest


def test_a_script_without_metadata_is_an_error(scripts):
    (scripts / "broken.py").write_text("import torch\n")
    with pytest.raises(ValueError, match=r"^broken\.py has no `# /// script` block$"):
        engine.engines()


# what the code of an engine takes and trains; run in one process, which imports torch once
ASK = r"""
import argparse, json, runpy, sys
sys.path.insert(0, sys.argv[1])

class Parsed(BaseException):
    pass

def parse_args(parser):
    raise Parsed({a.option_strings[0][2:]: list(a.choices or ()) for a in parser._actions if a.dest != "help"})

argparse.ArgumentParser.parse_args = parse_args
found = {}
for script in sys.argv[2:]:
    names = runpy.run_path(script, run_name="engine")
    try:
        names["main"]()
    except Parsed as parsed:
        options = parsed.args[0]
    stock = sys.modules["_variants"] if script.endswith("hf_trainer.py") else None
    variants = names.get("VARIANTS") or (stock.VARIANTS if stock else {})
    needs = stock.VARIANT_NEEDS if stock else {}
    models = {k: v.model for k, v in sys.modules["_families"].FAMILIES.items()} if stock else {}
    found[script] = {"options": options, "variants": {k: v.what for k, v in variants.items()},
                     "faults": list(names.get("FAULTS", ())), "models": models, "needs": needs}
print(json.dumps(found))
"""


@pytest.mark.torch
def test_the_metadata_agrees_with_the_code():
    pytest.importorskip("trl")
    every = engine.engines().values()
    words = [str(engine.SCRIPTS), *(str(each.script) for each in every)]
    done = subprocess.run([sys.executable, "-c", ASK, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = json.loads(done.stdout.splitlines()[-1])
    for each in every:
        found = code[str(each.script)]
        assert {k: set(v) for k, v in each.options.items()} == {k: set(v) for k, v in found["options"].items()}
        assert dict(each.variants) == found["variants"], each.name
        assert list(each.variants) == list(found["variants"])
        assert list(each.faults) == found["faults"]
        assert (dict(each.models), dict(each.variant_needs)) == (found["models"], found["needs"])


def test_engines_are_read_without_torch():
    code = "import sys; from ga_audit.repro import engine; engine.engines(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_models_and_variants_are_chosen_by_name():
    assert engine.chosen("model", "all") == [
        (name, {"model": name}) for name in engine.engines()["transformers"].models
    ]
    with pytest.raises(AuditError, match="no model 'gpt9'"):
        engine.chosen("model", "t5-seq2seq,gpt9")
