"""Speed as ratios against a peer in the same run: `python -m tests.bench`.

CPU seconds (user and system) of whole processes, medians of interleaved runs, so that a busy machine slows both sides.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

GA_AUDIT = str(Path(sys.executable).with_name("ga-audit"))
ROUNDS = 5

ACCUMULATOR = """
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
ea = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}); ea.Reload()
print(sum(len(ea.Scalars(t)) for t in ea.Tags()["scalars"]))
"""
OURS = """
import sys
from ga_audit.logs.formats import tensorboard, Target
(run,) = tensorboard.read(Target(sys.argv[1]))
print(sum(len(s) for s in run.series))
"""
CORRECTED = """
import sys, tempfile
from pathlib import Path
import numpy as np
from ga_audit.logs.formats import Rescale, Rewrite, Target, tensorboard
from ga_audit.run import Role, Source
rescale = Rescale("train/loss", Role.LOSS, np.zeros(1, np.int64), np.array([8.0]))
with tempfile.TemporaryDirectory() as out:
    tensorboard.write(Source("tensorboard", sys.argv[1]), Rewrite([rescale], {}), Path(out))
"""
PROTOBUF = """
import json, sys
from wandb.proto import wandb_internal_pb2 as pb
from ga_audit.logs.formats._wandb.framing import payloads
n = 0
for payload in payloads(open(sys.argv[1], "rb").read(), [], ""):
    record = pb.Record.FromString(payload)
    if record.WhichOneof("record_type") == "history":
        n += len({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
print(n)
"""
OURS_WANDB = """
import sys
from ga_audit.logs.formats import wandb_file, Target
(run,) = wandb_file.read(Target(sys.argv[1]))
print(sum(len(s) for s in run.series))
"""


def cpu_seconds(command: list[str]) -> float:
    """CPU of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=False, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(name: str, ours: list[str], peer: list[str], rounds: int = ROUNDS) -> None:
    """Print the medians and their ratio."""
    cpu_seconds(ours), cpu_seconds(peer)  # warm caches
    pairs = [(cpu_seconds(ours), cpu_seconds(peer)) for _ in range(rounds)]
    mine, theirs = (statistics.median(p[i] for p in pairs) for i in range(2))
    print(f"{name:<58} {mine:7.3f} s  {theirs:7.3f} s  ours/peer {mine / theirs:6.2f}", flush=True)


def trainer_state(folder: Path, steps: int) -> Path:
    """A trainer_state.json of so many logged steps, GA said beside it."""
    rows = [{"epoch": i / steps, "grad_norm": 1.0, "learning_rate": 1e-4, "loss": 2.0 + 1 / (i + 1), "step": i + 1}
            for i in range(steps)]  # fmt: skip
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows, "global_step": steps, "logging_steps": 1}))
    return path


def events(folder: Path, scalars: int) -> Path:
    """An event file of four interleaved tags, as a Trainer writes them."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for step in range(scalars // 4):
            for tag in ("train/loss", "train/grad_norm", "train/learning_rate", "train/epoch"):
                writer.add_scalar(tag, 1.0 + step, step)
    return folder


def wandb_run(folder: Path, rows: int) -> Path:
    """An offline run of the installed SDK."""
    import wandb

    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
    with wandb.init(mode="offline", dir=str(folder), project="p", settings=settings) as run:
        for i in range(rows):
            run.log({"train/loss": 1.0, "train/grad_norm": 2.0, "train/learning_rate": 1e-4, "train/global_step": i,
                     **{f"system/{k}": i for k in range(8)}})  # fmt: skip
    return next(folder.rglob("*.wandb"))


def four_runs(folder: Path, steps: int) -> Path:
    """Logs of four GA, their loss and gradient norm summed, GA said beside each."""
    for ga in (1, 2, 4, 8):
        run = folder / f"ga{ga}"
        run.mkdir(parents=True)
        rng = random.Random(ga)
        rows = [{"epoch": i / steps, "grad_norm": ga * math.exp(rng.gauss(0, 0.3)), "learning_rate": 1e-4,
                 "loss": ga * (2 + 8 * math.exp(-i / 200) + rng.gauss(0, 0.1)), "step": i + 1} for i in range(steps)]  # fmt: skip
        (run / "trainer_state.json").write_text(
            json.dumps({"log_history": rows, "global_step": steps, "logging_steps": 1})
        )
        (run / "train.yaml").write_text(
            f"gradient_accumulation_steps: {ga}\nper_device_train_batch_size: {16 // ga}\nmax_grad_norm: 1.0\n"
        )
    return folder


def main() -> None:
    """Print the table."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = str(trainer_state(folder, 1000))
        compare("ga-audit --help | import click", [GA_AUDIT, "--help"], [python, "-c", "import click"])
        compare(
            "inspect 1,000 steps | import numpy",
            [GA_AUDIT, "inspect", log, "--ga", "8"],
            [python, "-c", "import numpy"],
        )
        report = [GA_AUDIT, "report", str(four_runs(folder / "four", 1000)), "--force", "-o", str(folder / "report")]
        compare("report, 4 runs x 1,000 steps | import matplotlib", report, [python, "-c", "import matplotlib"])
        pyplot = "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot"
        compare("report, 4 runs x 1,000 steps | import pyplot", report, [python, "-c", pyplot])
        logs = events(folder / "tb", 200_000)
        compare("200,000 TensorBoard scalars | EventAccumulator", [python, "-c", OURS, str(logs)],
                [python, "-c", ACCUMULATOR, str(logs)], 3)  # fmt: skip
        run = wandb_run(folder / "wb", 10_000)
        compare("200,000 TensorBoard scalars corrected | read", [python, "-c", CORRECTED, str(logs)],
                [python, "-c", OURS, str(logs)])  # fmt: skip
        compare("10,000 W&B rows | the SDK's own messages", [python, "-c", OURS_WANDB, str(run)],
                [python, "-c", PROTOBUF, str(run)], 3)  # fmt: skip


if __name__ == "__main__":
    main()
