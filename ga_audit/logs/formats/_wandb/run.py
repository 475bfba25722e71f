"""W&B's rows, configuration and side files -> a Run; shared by local files and the cloud."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ga_audit.logs import roles, settings
from ga_audit.logs.formats import Target, _counters, _values
from ga_audit.logs.formats._points import Rows
from ga_audit.run import Note, RunSettings, Series, Trust

X_AXIS = ("train/global_step", "trainer/global_step", "global_step", "iter", "iteration")
_INTERNAL = frozenset({"_step", "_timestamp", "_runtime", "_wandb"})


def series_of(
    rows: Iterable[Mapping[str, Any]], target: Target, sink: str
) -> tuple[tuple[Series, ...], tuple[Note, ...], tuple[Note, ...]]:
    """(series, left out, notes) of history rows.

    The step is the Trainer's own (`train/global_step`) where the row or the run has it: W&B's `_step` counts rows.
    """
    found = Rows(sink, target.path)
    held: list[Mapping[str, Any]] = list(rows)
    axis = next((key for key in X_AXIS if any(key in row for row in held)), None)
    without = 0
    for row in held:
        step = _values.step(row.get(axis or "_step"))
        if step is None:
            without += 1
            continue
        for name, value in row.items():
            if name not in _INTERNAL and name != axis and not isinstance(value, dict | list):
                if roles.role_of(name) is None and isinstance(value, str):
                    continue
                found.add("train/train_loss" if name == "train_loss" and "train_runtime" in row else name, step, value)
    if axis is None:
        found.counted = _counters.calls_or_steps(_values.step(row.get("_step")) for row in held)
    series, left = found.series(target)
    notes = []
    if without:
        notes.append(Note("no-step", f"{without} rows have no {axis or '_step'} and are left out", count=without))
    return series, left, tuple(notes)


def step_after(rows: Sequence[Mapping[str, Any]], before: int) -> int:
    """The optimizer step of the first row after the first `before` rows, or a step beyond all where none follows."""
    axis = next((key for key in X_AXIS if any(key in row for row in rows)), "_step")
    found = (_values.step(row.get(axis)) for row in rows[before:])
    return next((step for step in found if step is not None), 1 << 53)


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


def json_value(text: Any) -> Any:
    """A history value: JSON with Python's NaN and Infinity; None where it is neither, or no text."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
