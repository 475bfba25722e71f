"""Writes mlflow.sql, mlruns.json and trackio.sql beside itself, with the installed MLflow and Trackio.

    pip install mlflow trackio && python tests/golden/trackers/make.py

The databases are kept as SQL of the tables that we read (MLflow's own file is a megabyte of empty tables).
"""

import getpass
import json
import math
import os
import sqlite3
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CONFIG = {"seed": 42, "learning_rate": 1e-5, "transformers_version": "4.48.0", "bf16": True, "deepspeed": None}


def config(ga: int) -> dict:
    return {"gradient_accumulation_steps": ga, "per_device_train_batch_size": 16 // ga, **CONFIG}


def rows(ga: int) -> list[dict]:
    return [{"loss": (4 - i / 5) * ga, "grad_norm": (1.5 + i / 9) * ga, "epoch": i / 6} for i in range(12)]


def with_mlflow(uri: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("exp")
    for ga in (1, 8):
        with mlflow.start_run(run_name=f"ga{ga}"):
            mlflow.log_params(config(ga))
            for step, row in enumerate(rows(ga), 1):
                mlflow.log_metrics(row, step=step)
            mlflow.log_metric("eval/loss", 3.5, step=12)
            mlflow.log_metric("train/entropy", math.nan, step=12)
            mlflow.log_metric("train/perplexity", math.inf, step=12)
    with mlflow.start_run(run_name="deleted") as run:
        mlflow.log_metric("loss", 1.0, step=1)
    mlflow.delete_run(run.info.run_id)


def with_trackio(folder: str) -> None:
    os.environ["TRACKIO_DIR"], os.environ["HF_HUB_OFFLINE"] = folder, "1"
    import trackio

    for ga in (1, 8):
        trackio.init(project="proj", name=f"ga{ga}", config=config(ga))
        for step, row in enumerate(rows(ga), 1):
            trackio.log({**{f"train/{k}": v for k, v in row.items()}, "train/global_step": step})
        trackio.log({"eval/loss": 3.5, "train/entropy": math.nan, "text": "x", "train/global_step": 12})
        trackio.finish()


def dumped(path: Path, tables: set[str], private: str) -> str:
    """CREATE TABLE and INSERT of some tables, without the places of this machine."""
    with sqlite3.connect(path) as connection:
        lines = [line for line in connection.iterdump() if any(f'{word} "{t}"' in line or f"{word} {t} " in line
                 or f"{word} {t}(" in line for t in tables for word in ("TABLE", "INTO"))]  # fmt: skip
    return public("\n".join(lines), private) + "\n"


def public(text: str, private: str) -> str:
    """A text without the places and the people of this machine."""
    user = getpass.getuser()
    return (
        text.replace(private, "/somewhere")
        .replace(f"'{user}'", "'someone'")
        .replace(f"user_id: {user}", "user_id: someone")
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with_mlflow(f"sqlite:///{folder}/mlflow.db")
        tables = {"experiments", "runs", "metrics", "params"}
        (HERE / "mlflow.sql").write_text(dumped(Path(folder, "mlflow.db"), tables, folder))
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        with_mlflow(f"file://{folder}/mlruns")
        store = Path(folder, "mlruns")
        files = {str(p.relative_to(store)): public(p.read_text(), folder) for p in sorted(store.rglob("*"))
                 if p.is_file() and p.name not in {"mlflow.user", "mlflow.source.name"}}  # fmt: skip
        (HERE / "mlruns.json").write_text(json.dumps(files, indent=1) + "\n")
        with_trackio(folder)
        (HERE / "trackio.sql").write_text(dumped(Path(folder, "proj.db"), {"metrics", "configs"}, folder))


if __name__ == "__main__":
    sys.exit(main())
