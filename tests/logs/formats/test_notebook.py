import json

import pytest

from ga_audit.errors import UnreadableLog
from ga_audit.logs import discovery
from ga_audit.logs.formats import Claim, Target, notebook
from ga_audit.run import Counted, Role

HTML = """<div><progress value='30' max='30'></progress> [30/30 00:10, Epoch 1/1]</div>
<table border="1" class="dataframe"><thead><tr style="text-align: left;"><th>Step</th><th>Training Loss</th>
<th>Validation Loss</th></tr></thead><tbody><tr><td>10</td><td>11.461600</td><td>1.4512</td></tr>
<tr><td>20</td><td>11.102300</td><td>1.431200</td></tr></tbody></table><p>"""


def cells(
    *outputs,
    source="args = TrainingArguments(\n    gradient_accumulation_steps=8,\n    per_device_train_batch_size=2,\n)",
):
    code = {"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": list(outputs)}
    return json.dumps({"cells": [{"cell_type": "markdown", "source": ["# Fine-tuning"]}, code], "nbformat": 4})


def read(text):
    target = Target("x.ipynb", text=text.encode())
    assert notebook.claim(target) is Claim.YES
    return list(notebook.read(target))


def test_the_table_of_a_trainer(tmp_path):
    (file := tmp_path / "x.ipynb").write_text(cells({"output_type": "display_data", "data": {"text/html": [HTML]}}))
    (run,) = discovery.find_runs([str(file)])
    loss, evaluation = run.get(Role.LOSS), run.get(Role.EVAL_LOSS)
    assert (loss.counted, loss.position.tolist(), loss.value.tolist()) == (
        Counted.OPTIMIZER_STEP, [10, 20], [11.4616, 11.1023],
    )  # fmt: skip
    assert evaluation.value.tolist() == [1.4512, 1.4312]
    assert (run.settings.ga, run.settings.micro_batch_size.value) == (8, 2)


def test_printed_lines():
    text = ["{'loss': 2.5, 'grad_norm': 1.0, 'epoch': 0.5}\n", "{'loss': 2.25, 'grad_norm': 0.9, 'epoch': 1.0}\n"]
    (run,) = read(cells({"output_type": "stream", "name": "stdout", "text": text}))
    assert run.get(Role.LOSS).value.tolist() == [2.5, 2.25]
    assert run.get(Role.LOSS).counted is Counted.ORDER


@pytest.mark.parametrize("text", [cells(), json.dumps({"cells": None}), json.dumps({"cells": [1, {"outputs": 3}]})])
def test_a_notebook_without_a_loss_is_an_error(text):
    with pytest.raises(UnreadableLog) as refused:
        read(text)
    assert refused.value.message == "no cell printed a training loss"
