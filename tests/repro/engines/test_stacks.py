"""axolotl and LLaMA-Factory, through their own entry points, where they are installed; what is given to them, anywhere."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from ga_audit.repro import engine, measurement
from ga_audit.repro import plan as planning
from ga_audit.repro import verdict as verdicts

STACKS = ("axolotl", "llamafactory")


_CONFIGS = """
import json, runpy, sys
from pathlib import Path
engines, out = sys.argv[1], Path(sys.argv[2])
sys.path.insert(0, engines)
found = {}
for script in sys.argv[3:]:
    names = runpy.run_path(script, run_name="read")
    for variant in names["VARIANTS"]:
        sys.argv[1:] = ["--variant", variant, "--ga", "4", "--effective-batch-size", "32", "--steps", "7", "--lr", "0.5",
                        "--max-grad-norm", "2.5", "--seed", "3", "--optimizer", "sgd", "--out", str(out)]
        args = names["_stack"].arguments("", names["VARIANTS"], variant)
        found[f"{Path(script).stem.partition('_')[0]} {variant}"] = names["_config"](args, names["VARIANTS"][variant])
sys.argv[1:] = ["--ga", "3", "--effective-batch-size", "16", "--out", str(out)]
try:
    names["_stack"].arguments("", names["VARIANTS"], variant)
except SystemExit as error:
    found["refused"] = str(error)
print(json.dumps(found))
"""


@pytest.mark.torch
def test_every_option_reaches_the_config_of_every_variant(tmp_path):
    scripts = [str(engine.engines()[name].script) for name in STACKS]
    argv = [sys.executable, "-c", _CONFIGS, str(engine.SCRIPTS), str(tmp_path / "out"), *scripts]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "no multiple of GA" in found.pop("refused")
    assert set(found) == {f"{name} {variant}" for name in STACKS for variant in engine.engines()[name].variants}
    for settings in found.values():
        assert settings["gradient_accumulation_steps"] == 4
        assert {settings.get("micro_batch_size"), settings.get("per_device_train_batch_size")} == {None, 8}
        assert [settings[k] for k in ("max_steps", "learning_rate", "max_grad_norm", "seed")] == [7, 0.5, 2.5, 3]
        assert "sgd" in (settings.get("optim"), settings.get("optimizer"))
        assert settings["output_dir"] == str(tmp_path / "out")
    assert found["axolotl lora"]["adapter"] == "lora"
    assert found["llamafactory dpo"]["stage"] == "dpo"
    assert "tiny" in found["llamafactory pt"]["dataset"]


_ROWS = """
import sys
sys.path.insert(0, {engines!r})
import torch, _stack
batch = {{"input_ids": torch.tensor([[5, 6, 7], [5, 6, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}}
part = {{"input_ids": torch.tensor([[0, 5, 6]]), "attention_mask": torch.tensor([[0, 1, 1]])}}
assert not _stack.rows_of(part) - _stack.rows_of(batch)  # padded on the other side: the same row
part["input_ids"][0, 2] = 9
assert _stack.rows_of(part) - _stack.rows_of(batch)
try:
    _stack.rows_of({{"pixel_values": torch.zeros(1)}})
except SystemExit as error:
    print(error)
"""


@pytest.mark.torch
def test_rows_are_compared_without_their_padding():
    code = _ROWS.format(engines=str(engine.SCRIPTS))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing to compare" in done.stdout


# a package of our own: reads what it is given, makes a Trainer of its own kind, trains; a fault in each forked child
_STAND_IN = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch, transformers, _stack, _task, _tokenizer
top = Path(sys.argv[2])

class Rows(torch.utils.data.Dataset):
    def __init__(self, rows): self.rows = rows
    def __len__(self): return len(self.rows)
    def __getitem__(self, i): return self.rows[i]

class Own(transformers.Trainer):
    pass

def train(fault):
    sys.argv[1:] = ["--ga", "2", "--effective-batch-size", "4", "--steps", "2", "--measure-every", "1", "--out", str(top / fault)]
    variant = _stack.Variant("", lambda sequences: [{"text": _tokenizer.words(s)} for s in sequences], {})
    args = _stack.arguments("", {"plain": variant}, "plain")

    def run(config):
        texts = [row["text"] for row in json.loads((config.parent / "data.json").read_text())]
        tokenizer = transformers.AutoTokenizer.from_pretrained(config.parent / "model")
        rows = [tokenizer(text)["input_ids"] for text in texts][: 6 if fault == "few" else 8]
        settings = transformers.TrainingArguments(
            output_dir=str(config.parent), per_device_train_batch_size=2, max_steps=2, use_cpu=True, report_to=[],
            gradient_accumulation_steps=1 if fault == "ga" else 2, logging_steps=1, save_strategy="no",
            remove_unused_columns=False, disable_tqdm=True)
        trainer = Own(
            model=transformers.AutoModelForCausalLM.from_pretrained(config.parent / "model"), args=settings,
            train_dataset=Rows(rows), data_collator=_task.collate)
        if fault == "rows":
            trainer.data_collator = lambda part: _task.collate(part if len(part) > 2 else [rows[-1]] * len(part))
        if fault != "never":
            trainer.train()

    _stack.train(args, variant, {"gradient_accumulation_steps": 2}, run, {"package": "1.0+cpu"})

for fault in ("none", "few", "ga", "rows", "never"):
    (top / fault).mkdir()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    try:
        train(fault)
    except BaseException as error:
        (top / fault / "said").write_text(str(error))
    os._exit(0)
"""


@pytest.mark.torch
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_whatever_trainer_a_package_makes_is_measured_and_one_on_other_rows_is_refused(tmp_path):
    argv = [sys.executable, "-c", _STAND_IN, str(engine.SCRIPTS), str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = {path.parent.name: path.read_text() for path in tmp_path.glob("*/said")}
    assert set(said) == {"few", "ga", "rows", "never"}, said
    assert "made 6 rows of 8 sequences" in said["few"]
    assert "GA 2 became 1" in said["ga"]
    assert "rows that do not belong" in said["rows"]
    assert "without a Trainer of transformers" in said["never"]
    assert [path.parent.name for path in tmp_path.glob("*/truth.json")] == ["none"]
    kept = json.loads((tmp_path / "none" / "truth.json").read_text())
    assert (kept["trainer"], kept["packages"]["package"]) == ("Own", "1.0")
    assert [row["step"] for row in kept["measured"]] == [1, 2]
    found = measurement.read_truth(tmp_path / "none" / "truth.json")
    assert found.gradient == pytest.approx(1, abs=1e-4)
    assert found.held_out_loss is not None
    assert (tmp_path / "none" / "config.yaml").read_text() == "gradient_accumulation_steps: 2\n"


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), [(name, v) for name in STACKS for v in engine.engines()[name].variants])
def test_a_package_that_is_installed_is_trained_and_measured(name, variant, tmp_path):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    cells = planning.plan_cells(tmp_path, (1, 4), (1,), 16)
    planning.run(planning.Plan(name, cells, 16, {"steps": 3, "measure-every": 1, "variant": variant}))
    found = verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in cells])
    assert abs(found.gradient - round(found.gradient)) < 0.03
    if "ignoring-count" not in variant:  # which releases know of such a model and which do not: RELEASES.md
        assert found.verdict == "healthy"
