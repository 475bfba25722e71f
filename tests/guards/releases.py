"""What `GaAuditCallback` says in released transformers, against what `ga-audit bisect` measured there.

`python -m tests.guards.releases [--cache FOLDER] [RELEASE ...]` from the root of the repository: makes an environment for each
release, trains a causal language model, a classifier and a trainer with a mean of its own for three optimizer steps, and
prints the confusion table. Status 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from ga_audit.repro._environments import prepare

ROOT = Path(__file__).parents[2]
RELEASES = ("4.45.2", "4.46.0", "4.47.1", "4.48.0", "4.57.6", "5.3.0", "5.5.4", "5.24.0")
MEANS = ("unequal-weights", 0, 0)  # the mean of the means of micro-batches: every trainer before 4.46
SUM_OF_MEANS = ("unequal-weights", 1, 1)
SUM = ("summed", 1, 1)
RIGHT = (None, 0, 0)
# fault, exponents of loss and gradient on GA: tests/repro/releases.json. 5.2.0 to 5.5.3 divide the gradient once more
EXPECTED = {
    "llama": {"4.45.2": MEANS, "4.48.0": SUM_OF_MEANS, "5.3.0": ("divided-twice", 0, -1)},
    "bert": {"4.46.0": SUM, "4.47.1": SUM, "5.3.0": ("logged-loss", 1, 0), "5.5.4": SUM, "5.24.0": SUM},
    "own mean": {"4.45.2": MEANS, "5.3.0": ("unequal-weights", 1, 0), None: SUM_OF_MEANS},
}

SCRIPT = """
import json, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from guards import tiny
from guards.stock import Trainer, bert, llama, train
class OwnMean(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        output = model(input_ids=inputs["input_ids"])
        loss = tiny.token_loss(output.logits, inputs["labels"], "mean")
        return (loss, output) if return_outputs else loss
found = {{}}
for name, model, trainer in (("llama", llama, Trainer), ("bert", bert, Trainer), ("own mean", llama, OwnMean)):
    plain, _, _ = train({out!r}, model, trainer, watched=False)
    built, callback, _ = train({out!r}, model, trainer)
    m, reading = callback.measurements[-1] if callback.measurements else None, callback.reading
    found[name] = dict(
        fault=reading and reading.fault, gradient=reading and reading.gradient, loss=reading and reading.loss,
        miscounted=reading and reading.miscounted, reason=callback.reason, message=callback.message,
        grad_factor=m and m.grad_factor, loss_factor=m and m.loss_factor, grad_norm_factor=m and m.grad_norm_factor,
        same=tiny.same(plain.model, built.model),
        cosine=m and m.cosine, error=m and m.relative_error, bugs=[b.id for b in callback.watch.bugs][:3],
    )
print("FOUND " + json.dumps(found))
"""


def run(release: str, cache: Path | None, out: Path) -> dict:
    accelerate = "1.10.1" if release.startswith("4.") else "1.15.0"
    newest = release == "5.24.0"
    python = (
        sys.executable if newest else prepare((f"transformers=={release}", f"accelerate=={accelerate}"), cache=cache)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", SCRIPT.format(tests=str(ROOT / "tests"), out=str(out))], capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return json.loads(lines[-1].removeprefix("FOUND ")) if lines else {"failure": done.stderr[-2000:]}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("releases", nargs="*", default=RELEASES)
    options.add_argument("--cache", type=Path)
    options.add_argument("--out", type=Path, default=Path("guard-releases"))
    options.add_argument("--verbose", action="store_true")
    args = options.parse_args()
    wrong = 0
    print("| transformers | training | loss | gradient | said | known bug | right |\n|---|---|---|---|---|---|---|")
    for release in args.releases or RELEASES:
        found = run(release, args.cache, args.out)
        if "failure" in found:
            print(release, found["failure"])
            wrong += 1
            continue
        for name, one in found.items():
            wanted = EXPECTED[name].get(release, EXPECTED[name].get(None, RIGHT))
            exponents = [None if pair is None else pair[0] for pair in (one["loss"], one["gradient"])]
            right = one["same"] and one["reason"] is None and (one["fault"], *exponents) == wanted
            wrong += not right
            factors = " | ".join(
                f"{one[key]:.4g}" if one[key] is not None else "-" for key in ("loss_factor", "grad_factor")
            )
            bugs = one["bugs"][0] if one["bugs"] else "-"
            said = one["fault"] or one["reason"] or ("silent (miscounted)" if one["miscounted"] else "silent")
            print(f"| {release} | {name} | {factors} | {said} | {bugs} | {'yes' if right else 'NO'} |", flush=True)
            if args.verbose:
                print(one, flush=True)
    print(f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
