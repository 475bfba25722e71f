"""Trainers' loggers as a process of their own: python log_writers.py KIND FOLDER GA FACTOR FIRST LAST PAUSE.

The curve is the same for every GA, times FACTOR. A line is written in two halves, as a buffered writer does.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path


def values(step: int, factor: float) -> dict[str, float]:
    wobble = math.sin(step * 1.7) * 0.05
    loss = 2 + 2 * math.exp(-step / 15) + wobble
    return {"loss": loss * factor, "grad_norm": (1.5 + wobble * 3) * factor}


def write_lines(folder: Path, ga: int, factor: float, steps: range, pause: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"ga{ga}.jsonl").open("a") as file:
        for step in steps:
            row = {"step": step, "gradient_accumulation_steps": ga, **values(step, factor)}
            text = json.dumps(row) + "\n"
            for part in (text[:20], text[20:]):
                file.write(part)
                file.flush()
                time.sleep(pause / 2)


def write_console(folder: Path, ga: int, factor: float, steps: range, pause: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"ga{ga}.log").open("a") as file:
        for step in steps:
            row = {**values(step, factor), "learning_rate": 1e-3, "epoch": step / 100}
            print(str(row), file=file, flush=True)
            time.sleep(pause)


def write_tensorboard(folder: Path, ga: int, factor: float, steps: range, pause: float) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / f"ga{ga}"), flush_secs=1) as writer:
        args = {"gradient_accumulation_steps": ga, "per_device_train_batch_size": 16 // ga}
        writer.add_text("args", json.dumps(args))
        for step in steps:
            for name, value in values(step, factor).items():
                writer.add_scalar(f"train/{name}", value, step)
            writer.flush()
            time.sleep(pause)


def write_wandb(folder: Path, ga: int, factor: float, steps: range, pause: float) -> None:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    config = {"gradient_accumulation_steps": ga, "per_device_train_batch_size": 16 // ga}
    with wandb.init(project="p", name=f"ga{ga}", mode="offline", dir=str(folder), config=config) as run:
        for step in steps:
            named = {f"train/{name}": value for name, value in values(step, factor).items()}
            run.log({"train/global_step": step, **named})
            time.sleep(pause)


def write_trainer(folder: Path, ga: int, factor: float, steps: range, pause: float) -> None:
    """The Trainer of transformers with checkpoints; what it logs, it computes itself."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    model = BertForSequenceClassification(BertConfig(**sizes, num_attention_heads=2))
    rows = [{"input_ids": torch.randint(0, 32, (8,)), "labels": i % 2} for i in range(8 * len(steps))]
    args = TrainingArguments(
        output_dir=str(folder / f"ga{ga}"), per_device_train_batch_size=8 // ga, gradient_accumulation_steps=ga,
        max_steps=len(steps), logging_steps=1, save_steps=10, report_to=[], use_cpu=True, disable_tqdm=True, seed=1,
    )  # fmt: skip
    Trainer(model=model, args=args, train_dataset=rows).train()


if __name__ == "__main__":
    kind, folder, ga, factor, first, last, pause = sys.argv[1:]
    write = {"lines": write_lines, "console": write_console, "tensorboard": write_tensorboard, "wandb": write_wandb,
             "trainer": write_trainer}  # fmt: skip
    write[kind](Path(folder), int(ga), float(factor), range(int(first), int(last)), float(pause))
