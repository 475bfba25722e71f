"""The Trainer on two ranks under torchrun: a right model is silent, a summed classifier is named on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, os, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from guards import tiny
from guards.stock import bert, llama, train
from transformers import Trainer

class LocalMean(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False

found = {{}}
for name, model, trainer in (("llama", llama, Trainer), ("bert", bert, Trainer), ("means", llama, LocalMean)):
    more = dict(ddp_backend="gloo", ddp_find_unused_parameters=False)
    plain, _, numbers = train(sys.argv[1], model, trainer, watched=False, ga=3, **more)
    built, callback, watched = train(sys.argv[1], model, trainer, ga=3, **more)
    m, reading = callback.measurements[-1], callback.reading
    found[name] = [reading.fault, reading.gradient, reading.loss, callback.reason, m.world_size, m.micro_batches,
                   tiny.same(plain.model, built.model) and numbers == watched]
rank = torch.distributed.get_rank()
json.dump(found, open(f"{{sys.argv[1]}}/{{rank}}.json", "w"))
torch.distributed.barrier()
os._exit(0)
"""


def test_two_ranks(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(ROOT / "tests")), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=180, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found["llama"] == [None, [0, 0], [0, 0], None, 2, 3, True]
        assert found["bert"][1:] == [[1, 1], [1, 1], None, 2, 3, True]
        assert found["means"] == ["unequal-weights", [0, 0], [0, 0], None, 2, 3, True]
    assert done.stderr.count("ga-audit: step") == 2  # by the first rank only, one for each fault
