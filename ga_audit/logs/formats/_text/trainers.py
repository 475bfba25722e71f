"""What only knowledge of a trainer can say of its lines: one entry each.

An entry says how its lines are recognised and what its iterations count, where that is no optimizer step of every
trainer, or that some lines are no curve. All else is read by structure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ga_audit.run import Counted


@dataclass(frozen=True, slots=True)
class Trainer:
    """One trainer's lines."""

    name: str
    line: re.Pattern[str]  # found in its lines of training
    needs: str  # a text that such a line holds, looked for first
    iterations: Counted | None = None  # what `iter`, `iteration` or a bracketed index counts
    at_multiples: bool = False  # logs at multiples of GA, so that iteration // GA is the optimizer step


TRAINERS = (
    Trainer("Megatron-LM", re.compile(r"iteration\s{1,20}\d+\s?/\s{0,20}\d+ \|"), "iteration", Counted.OPTIMIZER_STEP),
    Trainer("nanotron", re.compile(r"iteration: \d+ / \d+ \|"), "time_per_iteration_ms", Counted.OPTIMIZER_STEP),
    Trainer("nanoGPT", re.compile(r"iter \d+: loss [\d.]+, time [\d.]+ms"), ", time ", Counted.OPTIMIZER_STEP),
    Trainer("detectron2", re.compile(r"iter: \d+"), "d2.utils.events", Counted.OPTIMIZER_STEP),
    Trainer("mlx-lm", re.compile(r"Iter \d+: (?:Train|Val) loss"), "Iter ", Counted.MICRO_BATCH, at_multiples=True),
    Trainer("Composer", re.compile(r"Train (?:loss|metrics)/train/"), "/train/", Counted.OPTIMIZER_STEP),
    Trainer("llama2.c", re.compile(r"^\d+ \| loss [\d.]+ \| lr "), " | lr ", Counted.OPTIMIZER_STEP),
    Trainer("MMEngine", re.compile(r"Iter\(train\)|Epoch\(train\)"), "(train)", Counted.MICRO_BATCH),
    Trainer("MMCV", re.compile(r"(?:Epoch|Iter) \[\d+"), " - mm", Counted.MICRO_BATCH),
)

# Lines that look like rows of the training curve and are none: means over evaluation batches, summaries of an epoch.
NO_CURVE = (
    ("train loss", re.compile(r"\s{0,8}step \d+: train loss [\d.a-z]+, val loss [\d.a-z]+")),  # nanoGPT
    ("| train |", re.compile(r".{0,60}\| train \| epoch \d+ \|.*")),  # fairseq
)

# Lines of an evaluation that do not say so.
EVALUATIONS = (("Saving dict", re.compile(r".{0,60}Saving dict for global step \d+:")),)  # TensorFlow's Estimator

# `TRAIN Batch 4/203700` is batch 203700 of epoch 4.
EPOCH_AND_BATCH = ((" Batch ", re.compile(r"(?:TRAIN|CV) Batch (\d{1,12})/(\d{1,12}) ")),)  # WeNet

# Columns without names.
WITHOUT_NAMES = re.compile(r"\s{0,20}(\d{1,18}) (train|val) (\S{1,40})\s{0,20}")  # build-nanogpt: `250 train 3.123`


def of_line(text: str) -> Trainer | None:
    """The trainer that a line is known by."""
    for trainer in TRAINERS:
        if trainer.needs in text and trainer.line.search(text) is not None:
            return trainer
    return None


def is_evaluation(text: str) -> bool:
    """Whether a line is one of an evaluation although its words do not say so."""
    return any(needs in text and line.match(text) is not None for needs, line in EVALUATIONS)


def epoch_and_batch(text: str) -> tuple[float, float] | None:
    """Epoch and batch of a line that writes them as a fraction."""
    for needs, line in EPOCH_AND_BATCH:
        if needs in text and (match := line.search(text)) is not None:
            return float(match[1]), float(match[2])
    return None


def only_evaluation(text: str) -> bool:
    """Whether the training loss of a line is no point of the training curve."""
    return any(needs in text and line.match(text) is not None for needs, line in NO_CURVE)
