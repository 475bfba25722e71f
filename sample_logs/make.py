"""Make every sample log anew, from nothing: pinned releases in environments of their own, a tiny model, one CPU.

    python sample_logs/make.py [--environments DIR] [CASE ...]

Each case trains the same task (`ga_audit/repro/engines/hf_trainer.py`) at several GA and one effective batch size, keeps
what a user of that release would have, and writes what was measured on the way to `truth.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parent / "ga_audit" / "repro" / "engines" / "hf_trainer.py"
PINS = ["torch==2.13.0", "accelerate==1.10.1", "tensorboard==2.21.0", "wandb==0.31.0"]

# case -> (release of transformers, GA of the runs, form of the log)
CASES: dict[str, tuple[str, tuple[int, ...], str]] = {
    "transformers-4.48.0": ("4.48.0", (1, 2, 4, 8), "trainer_state"),
    "transformers-4.57.6": ("4.57.6", (1, 2, 4, 8), "trainer_state"),
    "tensorboard-4.48.0": ("4.48.0", (1, 8), "tensorboard"),
    "wandb-4.48.0": ("4.48.0", (1, 8), "wandb"),
    "wandb-4.57.6": ("4.57.6", (1, 8), "wandb"),
    "console-4.48.0": ("4.48.0", (1, 8), "console"),
}
STEPS = 40


def environment(release: str, top: Path) -> Path:
    """An interpreter with that release of transformers."""
    folder = top / f"tf-{release}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PINS, f"transformers=={release}"], check=True)
    return python


def make(case: str, environments: Path, work: Path) -> dict:
    """Run one case, keep its logs, return its measured truth."""
    release, gas, form = CASES[case]
    python = environment(release, environments)
    kept = HERE / case
    shutil.rmtree(kept, ignore_errors=True)
    truths = {}
    for ga in gas:
        out = Path(f"ga{ga}")
        command = [str(python), str(ENGINE), "--ga", str(ga), "--steps", str(STEPS), "--out", str(out)]
        command += {"tensorboard": ["--report-to", "tensorboard"], "wandb": ["--report-to", "wandb"]}.get(form, [])
        command += ["--progress"] if form == "console" else ["--eval-steps", "10"]
        env = {
            **os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off",
            "WANDB_PROJECT": "sample", "WANDB_DISABLE_GIT": "true", "WANDB_DISABLE_CODE": "true", "HF_HUB_OFFLINE": "1",
            "WANDB_X_DISABLE_META": "true", "WANDB_X_DISABLE_STATS": "true", "WANDB_X_DISABLE_MACHINE_INFO": "true",
            "WANDB_RUN_ID": f"sample{ga:02d}", "HOSTNAME": "host", "TRANSFORMERS_VERBOSITY": "info",
        }  # fmt: skip
        folder = work / case
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
        )
        truths[ga] = json.loads((folder / out / "truth.json").read_text())
        keep(form, folder, out, kept, done.stdout)
    return summary(release, truths)


def keep(form: str, folder: Path, out: Path, kept: Path, printed: bytes) -> None:
    """What a user of this form of log would have, and nothing else."""
    target = kept / out
    if form == "console":
        kept.mkdir(parents=True, exist_ok=True)
        lines = [
            line for line in printed.split(b"\n") if b"/site-packages/" not in line and b"warn" not in line.lower()
        ]
        (kept / f"{out}.log").write_bytes(b"\n".join(lines))
        return
    target.mkdir(parents=True)
    if form == "trainer_state":
        for name in ("trainer_state.json", "training_args.bin"):
            shutil.copy(folder / out / name, target / name)
    elif form == "tensorboard":
        for number, file in enumerate(sorted((folder / out / "runs").glob("events.out.tfevents.*"))):
            stamp = file.name.split(".")[3]
            runs = target / "runs" / "sample"
            runs.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, runs / f"events.out.tfevents.{stamp}.host.1.{number}")
    else:
        for run in (folder / "wandb").glob("offline-run-*"):
            if run.name.endswith(out.name.replace("ga", "sample0")):
                shutil.copytree(run, target / "wandb" / run.name, ignore=shutil.ignore_patterns("logs", "tmp"))


def summary(release: str, truths: dict[int, dict]) -> dict:
    """Exponents on GA of what was logged and of the real gradient, by least squares over the logs."""

    def exponent(value) -> float:
        x = [math.log(ga) for ga in truths]
        y = [math.log(value(truth)) for truth in truths.values()]
        mx, my = sum(x) / len(x), sum(y) / len(y)
        return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)

    def mean(values) -> float:
        values = list(values)
        return math.exp(sum(map(math.log, values)) / len(values))

    logged = {
        "loss": round(exponent(lambda t: mean(row["loss"] for row in t["logged"])), 3),
        "grad_norm": round(exponent(lambda t: mean(row["grad_norm"] for row in t["logged"])), 3),
    }
    gradient = round(exponent(lambda t: mean(m["ratio"] for m in t["measured"])), 3)
    named = {role: float(round(a)) for role, a in logged.items()}
    return {
        "release": f"transformers=={release}",
        "gradient_accumulation_steps": list(truths),
        "verdict": "scaled" if any(named.values()) else "healthy",
        "exponents": named,
        "logged": logged,
        "gradient": gradient,
        "gradient_ratio": {str(ga): round(mean(m["ratio"] for m in t["measured"]), 4) for ga, t in truths.items()},
        "least_cosine": round(min(m["cosine"] for t in truths.values() for m in t["measured"]), 5),
    }


def draw() -> None:
    """The picture of the README: one quantity, as logged and corrected, of the first case."""
    from ga_audit import pipeline, plots

    case = HERE / next(iter(CASES))
    diagnosis = pipeline.audit([str(case)]).diagnoses[0]
    plots.save(plots.draw(diagnosis, "curves"), HERE / "before_after", (".png",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--environments", type=Path, default=HERE.parent / "build" / "environments")
    parser.add_argument("--draw", action="store_true", help="draw the picture of the README alone")
    args = parser.parse_args()
    if args.draw:
        draw()
        return
    work = HERE.parent / "build" / "samples"
    shutil.rmtree(work, ignore_errors=True)
    truth_file = HERE / "truth.json"
    truths = json.loads(truth_file.read_text()) if truth_file.exists() else {}
    for case in args.cases:
        print(case, flush=True)
        truths[case] = make(case, args.environments.resolve(), work)
        print(f"  {json.dumps(truths[case])}", flush=True)
    draw()
    truth_file.write_text(json.dumps(dict(sorted(truths.items())), indent=2) + "\n")


if __name__ == "__main__":
    main()
