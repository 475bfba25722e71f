"""Where a log lies: the output folder of its training, its checkpoint, its W&B run."""

from __future__ import annotations

import re
from pathlib import Path

from ga_audit.run import Run, Source

CHECKPOINT = re.compile(r"(checkpoint|global_step|epoch|step)[-_]?\d+$|(last|best|latest)[-_]checkpoint$|"
                         r"checkpoint[-_](last|best|latest)$")  # fmt: skip
_WANDB_RUN = re.compile(r"(offline-)?run-\d{8}_\d{6}-\w+$")
_LOG_FOLDERS = frozenset({"logs", "log", "tensorboard", "tb", "tb_logs", "files", "logging", "trainer_logs"})
# names that a trainer gives: only these may be views of one training
_CANONICAL = re.compile(
    r"(trainer_state\.json|trainer_log\.jsonl|logging\.jsonl|metrics\.csv|progress\.csv|log_\d+\.txt|all_results\.json|"
    r"console\.txt|debug\.log|events\.out\.tfevents.*|run-\w+\.wandb|(offline-)?run-\d{8}_\d{6}-\w+)$"
)
TRAINING_FOLDERS = frozenset({"train", "training"})
HELD_OUT_FOLDERS = frozenset({"valid", "val", "validation", "eval", "dev", "test"})
_SPLIT_FOLDERS = TRAINING_FOLDERS | HELD_OUT_FOLDERS
_RUNS_FOLDER = "runs"


def root(run: Run) -> Path:
    """The output folder of the training that a log belongs to; of a log on a server, its project."""
    path = Path(run.sources[0].path) if run.sources else Path(run.id)
    folder = path if path.is_dir() else path.parent
    if CHECKPOINT.fullmatch(folder.name):
        folder = folder.parent
    if folder.name in _LOG_FOLDERS:
        folder = folder.parent
    # the Trainer logs to OUTPUT/runs/DATE_HOST; but people also call the folder of their outputs `runs`
    if run.sources and run.sources[0].format == "tensorboard" and folder.name.lower() in _SPLIT_FOLDERS:
        folder = folder.parent
    if run.sources and run.sources[0].format == "tensorboard" and not _is_output(folder):
        if folder.parent.name == _RUNS_FOLDER:
            folder = folder.parent.parent
        elif folder.name == _RUNS_FOLDER:
            folder = folder.parent
    if folder.parent.name == "wandb":
        folder = folder.parent.parent
    return folder


def _is_output(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("trainer_state.json", "training_args.bin"))


def is_canonical(run: Run) -> bool:
    """Whether a log has a name that a trainer gives."""
    if not run.sources or run.sources[0].path == "-":
        return False
    path = Path(run.sources[0].path)
    if path.is_dir():
        return True
    return bool(_CANONICAL.match(path.name))


def folder_of(source: Source) -> Path:
    """The folder of a log; a log that is a folder itself."""
    path = Path(source.path)
    return path if path.is_dir() else path.parent


def wandb_run(path: str) -> str | None:
    """The folder of a W&B run that a path lies in."""
    return next((part for part in reversed(Path(path).parts) if _WANDB_RUN.fullmatch(part)), None)
