"""Short names that tell runs apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ga_audit.logs import settings
from ga_audit.logs.run_places import CHECKPOINT, folder_of, is_canonical, root, wandb_run
from ga_audit.run import Note, NoteCode, Run

_TRACKERS = ("wandb", "mlflow", "trackio")  # they name their runs


def named(runs: list[Run]) -> Iterator[Run]:
    """Short names that tell the runs apart, unique ids, and what a name says of the settings."""
    parts = [_label_parts(run) for run in runs]
    alike = Counter(parts)
    parts = [_told_apart(own, run) if alike[own] > 1 else own for own, run in zip(parts, runs, strict=True)]
    labels = _short_labels(parts)
    seen: dict[str, int] = defaultdict(int)
    for run, label in zip(runs, labels, strict=True):
        seen[label] += 1
        name = label if seen[label] == 1 else f"{label} #{seen[label]}"
        guess = settings.from_run_name(label if label == run.name else f"{label} {run.name}")
        notes = run.notes
        if run.settings.gradient_accumulation_steps is None and guess.gradient_accumulation_steps is not None:
            notes = (*notes, Note(NoteCode.GA_FROM_NAME, facts={"ga": guess.ga or 0, "run": name}))
        yield replace(run, id=name, name=name, settings=settings.merge(run.settings, guess), notes=notes)


def _label_parts(run: Run) -> tuple[str, ...]:
    if not run.sources or run.sources[0].path == "-":
        return (run.name,)
    folder = root(run)
    path = Path(run.sources[0].path)
    parts = [p for p in folder.parts if p not in {"/", ".", ".."}]
    if run.sources[0].format.startswith(_TRACKERS):
        parts.append(run.name)
    elif not is_canonical(run):
        parts.append(run.name if run.name not in {path.name, path.stem, ""} else path.stem)
    return tuple(parts) or (run.name,)


def _told_apart(parts: tuple[str, ...], run: Run) -> tuple[str, ...]:
    """The label with what tells trainings of one folder apart: the part of the log, the checkpoint, the W&B run."""
    if not run.sources:
        return parts
    source = run.sources[0]
    if source.part and source.format == "tensorboard":
        return (*parts[:-1], f"{parts[-1]} (run {source.part})")
    folder = folder_of(source).name
    own = folder if CHECKPOINT.fullmatch(folder) else wandb_run(source.path)
    return parts if own is None else (*parts, own)


def _short_labels(parts: list[tuple[str, ...]]) -> list[str]:
    """The shortest path endings that differ, at least one part each; those that are wholly alike share one."""
    count = Counter(own[-n:] for own in set(parts) for n in range(1, len(own) + 1))
    labels = []
    for own in parts:
        endings = [own[-n:] for n in range(1, len(own) + 1)]
        labels.append("/".join(next((tail for tail in endings if count[tail] == 1), own)))
    return labels
