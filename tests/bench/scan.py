"""A scan of 1,000 runs of a stub server: time, memory, requests. `python -m tests.bench.scan [RUNS] [STEPS]`.

The server answers from another process and at once; a real one adds its latency, divided by `--jobs`.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from wandb_stub import environment, serving, trainer_rows

GA_AUDIT = str(Path(sys.executable).with_name("ga-audit"))


def runs(count: int, steps: int) -> dict:
    """Ten models, five seeds and four GA; every other model is summed."""
    found = {}
    for i in range(count):
        ga, model = (1, 2, 4, 8)[i % 4], i % 10
        found[("team", "proj", f"run{i:05d}")] = {
            "config": {"gradient_accumulation_steps": ga, "per_device_train_batch_size": 16 // ga, "seed": i // 40 % 5,
                       "learning_rate": 1e-4, "_name_or_path": f"model{model}", "dataset": "same",
                       "transformers_version": "4.48.0"},
            "name": f"model{model}-ga{ga}-{i}", "rows": trainer_rows(steps, ga if model % 2 else 1.0, seed=i // 40 % 5),
            "files": {"requirements.txt": "transformers==4.48.0\naccelerate==1.2.1\n"},
        }  # fmt: skip
    return found


def main() -> None:
    """Print the figures of a first scan and of a second, from the cache."""
    count, steps = (int(text) for text in (sys.argv[1:] + ["1000", "500"][len(sys.argv) - 1 :]))
    with serving(runs(count, steps)) as stub, tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, **environment(stub.url, Path(folder)), "OMP_NUM_THREADS": "1"}
        for what in ("first", "from the cache"):
            stub.operations.clear()
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            done = subprocess.run(
                [GA_AUDIT, "scan", "team/proj", "--format", "json"], env=env, capture_output=True, text=True
            )
            wall = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            content = json.loads(done.stdout)
            print(f"{what}: {len(content['rows'])} runs of {steps} steps, {wall:.0f} s, "
                  f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.0f} s CPU, "
                  f"{after.ru_maxrss / 1024:.0f} MiB, {sum(stub.operations.values())} requests")  # fmt: skip
            print("   ", content["counts"], dict(stub.operations), flush=True)


if __name__ == "__main__":
    main()
