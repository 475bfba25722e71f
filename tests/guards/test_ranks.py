"""Two ranks on gloo: a right training is silent, an inverted no_sync and a missing reduction are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[2]

SCRIPT = """
import contextlib, json, logging, os, sys
sys.path.insert(0, {tests!r})
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from guards import tiny
import ga_audit

out = sys.argv[1]
dist.init_process_group("gloo")
rank, world, ga = dist.get_rank(), dist.get_world_size(), 3

def train(kind, watched):
    tiny.seed()
    model = torch.nn.parallel.DistributedDataParallel(tiny.TinyLM(norm=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    guard = ga_audit.guard(model, optimizer, on_fault="ignore") if watched else None
    torch.manual_seed(rank)
    for step in tiny.batches(3, ga * world):
        mine = step[rank * ga : (rank + 1) * ga]
        total = sum(map(tiny.predicted, step))
        for i, batch in enumerate(mine):
            last = i == ga - 1
            if kind == "inverted": last = not last
            if kind == "never": last = False
            with contextlib.nullcontext() if last else model.no_sync():
                loss = model(**batch)["loss"]
                n = tiny.predicted(batch)
                weight = {{"right": n / total * world, "never": n / total * world, "inverted": n / total * world,
                          "mean of means": 1 / ga, "local means": n / sum(map(tiny.predicted, mine)),
                          "not times ranks": n / total, "summed": n / total * world * ga}}[kind]
                (loss * weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return model, guard, tiny.draws()

found = {{}}
for kind in ("right", "never", "inverted", "mean of means", "local means", "not times ranks", "summed"):
    plain, _, numbers = train(kind, False)
    model, guard, watched = train(kind, True)
    reading = guard.reading
    found[kind] = [reading and reading.fault, reading and reading.gradient, guard.reason,
                   tiny.same(plain, model) and numbers == watched]
json.dump(found, open(f"{{out}}/{{rank}}.json", "w"))
dist.barrier()
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "train.py"
    script.write_text(SCRIPT.format(tests=str(ROOT / "tests")), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), str(folder)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    ("kind", "fault", "gradient"),
    [
        ("right", None, [0, 0]),
        ("never", "ranks-apart", None),
        ("inverted", "ranks-apart", None),
        ("mean of means", "unequal-weights", [0, 0]),
        ("local means", "unequal-weights", [0, 0]),
        ("not times ranks", "world-size", [0, -1]),
        ("summed", "summed", [1, 0]),
    ],
)
def test_two_ranks(kind, fault, gradient, found):
    """Both ranks say the same, and the weights, buffers and random numbers are those of a training without the guard."""
    assert [rank[kind] for rank in found] == [[fault, gradient, None, True]] * 2
