"""Hugging Face `trainer_state.json`, also in `checkpoint-*` folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ga_audit.errors import UnreadableLog
from ga_audit.logs import settings
from ga_audit.logs.formats import Claim, Format, Rewrite, Target, _values
from ga_audit.logs.formats._points import NO_STEP, Rows, columns_of, need_series, step_of, steps_of
from ga_audit.logs.formats._text import json_places, json_text
from ga_audit.logs.formats._text import places as value_places
from ga_audit.run import Fact, IntArray, Note, NoteCode, Role, Run, RunSettings, Series, Setting, Source, Trust

SINK = "trainer_state"
_SUMMARY = "train/train_loss"
_CHECKPOINT = re.compile(r"checkpoint-\d+$|(last|best|latest)-checkpoint$")


def claim(target: Target) -> Claim:
    """YES for an object that holds `log_history`, or for a file of the Trainer's own name."""
    head = target.head
    if head.lstrip()[:1] == b"{" and (b'"log_history"' in head or target.name == "trainer_state.json"):
        return Claim.YES
    return Claim.YES if target.name == "trainer_state.json" and not target.is_dir else Claim.NO


def read(target: Target) -> Iterator[Run]:
    """The one run of a trainer state.

    Raises
    ------
    UnreadableLog
        no JSON, no `log_history`, nothing logged yet.
    """
    state = _load(target)
    history = state.get("log_history")
    if not isinstance(history, list):
        raise UnreadableLog(
            "has no list `log_history`", where=target.path, remedy="Give the trainer_state.json of a checkpoint."
        )
    # the Trainer also writes logging_steps as a share of the training (below 1)
    rows = [row for row in history if isinstance(row, dict)]
    steps = steps_of([row.get("step") for row in rows])
    series, left = _series(rows, steps, target, _values.count(state.get("logging_steps")))
    if not history:
        raise UnreadableLog(
            "nothing has been logged yet", where=target.path,
            remedy="Wait for the first logging step, or lower logging_steps.",
        )  # fmt: skip
    need_series(series, target.path, left)
    folder = Path(target.path).parent
    training = str(folder.parent if _CHECKPOINT.fullmatch(folder.name) else folder)
    made = state.get("ga_audit")
    yield Run(
        id=target.path,
        name=Path(training).name or target.name,
        training=training,
        settings=_settings(state),
        series=series,
        sources=(Source(SINK, target.path),),
        left_out=left,
        notes=tuple(_notes(state, steps, target)),
        corrected_by=str(made.get("version", "ga-audit")) if isinstance(made, dict) else None,
    )


def _series(
    history: Sequence[Mapping[str, Any]], steps: IntArray, target: Target, window: int | None
) -> tuple[tuple[Series, ...], tuple[Note, ...]]:
    """The series of the rows, the closing `train_loss` as one of a single point; and what was left out."""
    rows = Rows(SINK, target.path)
    closings: list[tuple[int, Any]] = []  # step and mean of each training that ended
    for name, which, values in columns_of(history):
        if name == "train_loss":
            is_mean = np.array(["train_runtime" in history[i] for i in which.tolist()], np.bool_)
            closings = [(steps[i], value) for i, value, mean in zip(which, values, is_mean, strict=True) if mean]
            which, values = which[~is_mean], [value for value, mean in zip(values, is_mean, strict=True) if not mean]
        if name != "step":
            rows.add_column(name, steps[which], values)
    series, left = rows.series(target, window)
    means = [(step, mean) for step, value in closings if (mean := _values.number(value)) is not None]
    if no_numbers := len(closings) - len(means):
        facts: dict[str, Fact] = {"name": "train_loss", "closing": 1}
        left = (*left, Note(NoteCode.NOT_A_NUMBER, count=no_numbers, facts=facts))
    if means:
        step, mean = means[-1]
        point = Series(
            role=Role.SUMMARY_LOSS, name="train_loss", format=SINK, source=target.path,
            position=np.array([step if step != NO_STEP else 0]), value=np.array([mean]),
        )  # fmt: skip
        series = (*series, point)
    return series, left


def _load(target: Target) -> dict[str, Any]:
    state = json_text.load(target.read_bytes(), target.path)
    if not isinstance(state, dict):
        raise UnreadableLog(
            "is JSON, but no trainer state (no object)", where=target.path, remedy="Give a trainer_state.json."
        )
    return state


def _settings(state: dict[str, Any]) -> RunSettings:
    """What the state itself records; GA is not in it, `train_batch_size` is the size per process."""
    known: dict[str, Any] = {
        key: state[key] for key in ("logging_steps", "max_steps", "num_train_epochs") if key in state
    }
    found = settings.from_mapping(known, source="trainer_state", trust=Trust.RECORDED)
    size = _values.count(state.get("train_batch_size"))
    if size is None:
        return found
    batch = Setting(size, "trainer_state: train_batch_size", Trust.RECORDED, per_process=True)
    return settings.merge(found, RunSettings(micro_batch_size=batch))


def _notes(state: dict[str, Any], steps: IntArray, target: Target) -> Iterator[Note]:
    last = int(steps.max(initial=0))
    total = _values.step(state.get("global_step"))
    if total is not None and last < total:
        yield Note(NoteCode.UNLOGGED_END, where=target.path, facts={"last": last, "total": total})


def write(source: Source, rewrite: Rewrite, destination: Path) -> list[Path]:
    """A corrected copy: the values of the rescaled series change, `ga_audit` is added, every other byte stays.

    Raises
    ------
    AuditError
        a value to be corrected has no place of its own in the text.
    """
    original = Path(source.path)
    text = original.read_bytes().decode()
    window = _values.count(_load(Target(source.path)).get("logging_steps")) or 1
    # both may be called `train_loss`: the closing summary and a curve
    rescales = [replace(r, name=_SUMMARY) if r.role is Role.SUMMARY_LOSS else r for r in rewrite.rescales]
    places, state = _places_of(text)
    made = value_places.corrections(places, replace(rewrite, rescales=rescales), source.path, window)
    edits = json_places.edits(text, list(made.values()), include_original=rewrite.include_original)
    edits.append(json_places.added_member(text, state, "ga_audit", dict(rewrite.provenance)))
    new = value_places.edited(text, edits, source.path)
    value_places.check(places, made, _places_of(new)[0], text, source.path)
    path = destination / original.name
    path.write_bytes(new.encode())
    return [path]


def _places_of(text: str) -> tuple[list[value_places.Place], json_places.JsonObject]:
    """The numbers of the history, as `read` takes them, and the state that holds it."""
    state = json_places.object_at(text, text.index("{"))
    found = []
    for row in json_places.objects_in_list(text, state.spans["log_history"][0]):
        step = step_of(row.values, ("step",))
        for key, value in row.values.items():
            number = _values.number(value)
            if key == "step" or key.startswith(json_places.ORIGINAL) or number is None:
                continue
            name = _SUMMARY if key == "train_loss" and "train_runtime" in row.values else key
            found.append(value_places.Place("", name, step, number, row.number_span(text, key), key))
    return found, state


FORMAT = Format(claim=claim, read=read, write=write)
