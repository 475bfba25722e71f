"""DeepSpeed's ZeRO 1 and 2 under the callback, where deepspeed is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[2]

SCRIPT = """
import importlib, json, os, sys
sys.path.insert(0, {tests!r})
os.environ.setdefault("DS_ACCELERATOR", "cpu")
importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
import torch
torch.set_num_threads(1)
from guards import tiny
from guards.stock import bert, llama, train
from transformers import Trainer

def config(stage):
    names = ("gradient_accumulation_steps", "gradient_clipping", "train_batch_size", "train_micro_batch_size_per_gpu")
    return {{**dict.fromkeys(names, "auto"), "zero_optimization": {{"stage": stage}},
            "zero_allow_untested_optimizer": True, "fp16": {{"enabled": "auto"}}, "bf16": {{"enabled": "auto"}}}}

found = {{}}
for name, model, stage in (("llama 1", llama, 1), ("llama 2", llama, 2), ("bert 2", bert, 2)):
    plain, _, numbers = train(sys.argv[1], model, watched=False, ga=3, deepspeed=config(stage))
    built, callback, watched = train(sys.argv[1], model, ga=3, deepspeed=config(stage))
    m, reading = callback.measurements[-1] if callback.measurements else None, callback.reading
    found[name] = [reading and reading.fault, reading and reading.gradient, reading and reading.loss, callback.reason,
                   m and m.micro_batches, m and m.world_size,
                   tiny.same(plain.model, built.model) and numbers == watched]
    print(name, m, callback.message)
json.dump(found, open(f"{{sys.argv[1]}}/{{os.environ.get('RANK', 0)}}.json", "w"))
os._exit(0)
"""


@pytest.mark.parametrize("world", [1, 2])
def test_zero(world, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(ROOT / "tests")), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", str(script),
         str(tmp_path)],
        capture_output=True, text=True, timeout=280, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    print(done.stdout[-3000:])
    for rank in range(world):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found["llama 1"] == [None, [0, 0], [0, 0], None, 3, world, True]
        assert found["llama 2"] == [None, [0, 0], [0, 0], None, 3, world, True]
        power = [1, 1] if world > 1 else [1, 0]
        assert found["bert 2"] == ["summed", power, power, None, 3, world, True]
