"""W&B's rows, configuration and side files -> a Run; shared by local files and the cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ga_audit.logs import role_choice, roles, settings
from ga_audit.logs.formats import Target, _counters, _values
from ga_audit.logs.formats._points import NO_STEP, Rows
from ga_audit.logs.formats._wandb.decode import Column, History
from ga_audit.logs.formats._wandb.decode import json_value as json_value
from ga_audit.run import IntArray, Note, NoteCode, RunSettings, Series, Trust

X_AXIS = ("train/global_step", "trainer/global_step", "global_step", "iter", "iteration")
_INTERNAL = frozenset({"_step", "_timestamp", "_runtime", "_wandb"})
_PLACES = frozenset({*X_AXIS, "_step", "train_runtime"})


def series_of(
    rows: Iterable[Mapping[str, Any]], target: Target, sink: str
) -> tuple[tuple[Series, ...], tuple[Note, ...], tuple[Note, ...]]:
    """(series, left out, notes) of history rows; see `series_of_columns`."""
    return series_of_columns(columns_of(rows), target, sink)


def series_of_columns(
    history: History, target: Target, sink: str
) -> tuple[tuple[Series, ...], tuple[Note, ...], tuple[Note, ...]]:
    """(series, left out, notes) of a history.

    The step is the Trainer's own (`train/global_step`) where the row or the run has it: W&B's `_step` counts rows.
    """
    found = Rows(sink, target.path)
    axis, steps = _steps(history)
    known = steps != NO_STEP
    for name, column in history.columns.items():
        if name in _INTERNAL or name == axis:
            continue
        is_text_read = roles.role_of(name) is not None
        for rows, values in column.pieces():
            if isinstance(values, np.ndarray):
                for own, which in _names(name, rows, history):
                    which &= known[rows]
                    if np.any(which):
                        found.points[own].extend(steps[rows[which]], values[which])
                continue
            for row, value in zip(rows.tolist(), values, strict=True):
                if known[row] and (is_text_read or not isinstance(value, str)):
                    ((own, _),) = _names(name, np.array([row]), history)
                    found.add(own, int(steps[row]), value)
    if axis is None:
        numbered = (step if held else None for step, held in zip(steps.tolist(), known.tolist(), strict=True))
        found.counted = _counters.calls_or_steps(numbered)
    series, left = found.series(target)
    notes = []
    without = history.count - len(history.broken) - int(np.count_nonzero(known))
    if without:
        notes.append(Note(NoteCode.NO_STEP, count=without, facts={"counter": axis or "_step"}))
    return series, left, tuple(notes)


def _names(name: str, rows: IntArray, history: History) -> list[tuple[str, NDArray[np.bool_]]]:
    """The series of the values of a key: `train_loss` is a curve, or the mean that closes a training."""
    every = np.ones(len(rows), np.bool_)
    if name != "train_loss" or "train_runtime" not in history.columns:
        return [(name, every)]
    closing = np.isin(rows, np.concatenate([*history.columns["train_runtime"].rows, np.zeros(0, np.int64)]))
    parts = [("train/train_loss", closing), (name, ~closing)]
    return [(own, which) for own, which in parts if np.any(which)]


def _steps(history: History) -> tuple[str | None, IntArray]:
    """The counter of the steps (None: `_step`), and the step of each row, or NO_STEP."""
    axis = next((key for key in X_AXIS if key in history.columns), None)
    steps = np.full(history.count, NO_STEP)
    column = history.columns.get(axis or "_step")
    for rows, values in column.pieces() if column is not None else ():
        if isinstance(values, np.ndarray):
            known = np.abs(values) < _values.MOST_STEPS  # false of NaN
            steps[rows[known]] = values[known].astype(np.int64)
        else:
            found = [_values.step(value) for value in values]
            steps[rows] = [NO_STEP if step is None else step for step in found]
    return axis, steps


def step_after(history: History, before: int) -> int:
    """The optimizer step of the first row after the first `before` rows, or a step beyond all where none follows."""
    later = _steps(history)[1][before:]
    later = later[later != NO_STEP]
    return int(later[0]) if len(later) else 1 << 53


def is_wanted(target: Target) -> Callable[[str], bool]:
    """Whether the values of a key of the history are needed: it has a role, or says where the rows lie."""

    def of(name: str) -> bool:
        if name in _PLACES or roles.role_of(name) is not None:
            return True
        keys = {"loss_key": target.loss_key, "grad_norm_key": target.grad_norm_key}
        return role_choice.roles_of([name], **keys)[name] is not None

    return of


def columns_of(rows: Iterable[Mapping[str, Any]]) -> History:
    """Rows by name."""
    history = History(lambda _: True)
    held: dict[str, tuple[list[int], list[Any]]] = {}
    for row in rows:
        for name, value in row.items():
            places, values = held.setdefault(name, ([], []))
            if not isinstance(value, dict | list):
                places.append(history.count)
                values.append(value)
        history.count += 1
    history.columns = {name: Column.of(*column) for name, column in held.items()}
    return history


def settings_of(config: Mapping[str, Any], requirements: str, metadata: Mapping[str, Any], where: str) -> RunSettings:
    """Settings from the config, the releases from the package list; a single process on several GPUs is only hinted at."""
    own = {key: value for key, value in config.items() if key != "_wandb"}
    found = settings.from_mapping(own, source=f"{where}: config", trust=Trust.RECORDED)
    packages = settings.from_requirements(requirements, source="requirements.txt", trust=Trust.RECORDED)
    gpus = _values.count(metadata.get("gpu_count"))
    internal = config.get("_wandb")
    internal = _values.mapping(internal.get("value", internal) if isinstance(internal, Mapping) else None)
    release = {"transformers_version": internal.get("huggingface_version")}
    own_release = settings.from_mapping(release, source=f"{where}: config, _wandb", trust=Trust.RECORDED)
    hint = {"n_gpu": gpus} if gpus else {}
    other = settings.from_mapping(hint, source="wandb-metadata.json: gpu_count", trust=Trust.SIBLING)
    return settings.merge(found, packages, own_release, other)


def provenance(config: Mapping[str, Any]) -> str | None:
    """The version of ga-audit that wrote the run, or None."""
    made = config.get("ga_audit")
    if isinstance(made, Mapping) and "value" in made and len(made) <= 2:
        made = made["value"]
    return str(made.get("version", "ga-audit")) if isinstance(made, Mapping) else None
