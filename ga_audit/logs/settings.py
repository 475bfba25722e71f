"""Which value of a setting to believe, and where it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ga_audit.logs import trainers
from ga_audit.logs.roles import (
    CONFIG_KEYS,
    OTHER_KEYS,
    PACKAGE_KEYS,
    TOTAL_BATCH_KEYS,
    TOTAL_TOKENS_KEYS,
    flatten,
)
from ga_audit.run import RunSettings, Schedule, Setting, Trust

_GA_IN_NAME = re.compile(
    r"(?:^|[^a-z0-9])(?:[a-z]*(?:bs|bsz|b|batch|mbs)[-_=]?\d+[-_x]?)?"
    r"(?:gas?|grad[-_]?acc(?:um)?(?:ulation)?(?:[-_]?steps)?|gradient[-_]accumulation(?:[-_]steps)?|accum(?:ulate)?)"
    r"[-_=]?(\d{1,4})(?![a-z0-9.])",
    re.IGNORECASE,
)
_BATCH_IN_NAME = re.compile(r"(?:^|[^a-z0-9])(?:bs|bsz|mbs|batch)[-_=]?(\d{1,4})(?=[^0-9.]|$)", re.IGNORECASE)


def from_mapping(mapping: Mapping[str, Any], *, source: str, trust: Trust) -> RunSettings:
    """Settings of a trainer's configuration, nested or flat.

    Parameters
    ----------
    mapping : W&B config, TrainingArguments, a YAML file's content, hparams.
    source : where it was read; each setting's source is this and the key.
    trust : how far it is believed.
    """
    flat = flatten(mapping)
    found: dict[str, Any] = {}
    for field, keys in CONFIG_KEYS.items():
        setting = _first(flat, keys, _READERS[field], source, trust)
        if setting is not None:
            found[field] = setting
    ga = found.pop("gradient_accumulation_steps", None) or _derived_ga(flat, found, source, trust)
    if ga is not None:
        found["gradient_accumulation_steps"] = Setting(Schedule.constant(ga.value), ga.source, ga.trust)
    other: dict[str, Setting[Any]] = {}
    for name, keys in OTHER_KEYS.items():
        setting = _first(flat, keys, _OTHER_READERS.get(name, _plain), source, trust)
        if setting is not None and (name, setting.value) != ("max_steps", -1):  # the Trainer's "not set"
            other[name] = setting
    # the model's own: the parts of a model of text and images have further ones
    if named := sum(key.startswith("id2label.") for key in flat):
        other.setdefault("num_labels", Setting(named, f"{source}: id2label", trust))
    if trust is Trust.RECORDED and "architectures" in other:
        # a Trainer logs the model's configuration before it saves the model: the class is that of the checkpoint it was
        # loaded from, BertForMaskedLM for a classifier that begins as bert-base; one that was saved says its own
        other["base_architectures"] = other.pop("architectures")
    for name in ("lora", "liger", "deepspeed"):
        setting = _switch(mapping, OTHER_KEYS[name], source, trust)
        if setting is not None:
            other[name] = setting
        else:
            other.pop(name, None)
    packages = {
        package: setting
        for package, keys in PACKAGE_KEYS.items()
        if (setting := _first(flat, keys, _release, source, trust)) is not None
    }
    return RunSettings(**found, other=other, packages=packages)


_LOGGED_BESIDE = ("gradient_accumulation_steps", "micro_batch_size", "world_size")  # what a loop logs beside its loss


def from_columns(columns: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]], *, source: str) -> RunSettings:
    """Settings that stand in the rows of a log, beside its loss; GA may change from a step on.

    Parameters
    ----------
    columns : steps (n,) and values (n,) of each name.
    source : where it was read.
    """
    parts = []
    for name, (step, value) in columns.items():
        field = next((f for f in _LOGGED_BESIDE if name.rpartition("/")[2] in CONFIG_KEYS[f]), None)
        if field is None or not len(value) or not np.all((value >= 1) & (value == np.floor(value)) & (value < 1 << 31)):
            continue
        changes = np.flatnonzero(np.diff(value)) + 1
        told, first = f"{source}: column {name}", int(value[0])
        if field == "gradient_accumulation_steps":
            begin = np.concatenate([[0], step[changes]]).astype(np.int64)
            schedule = Schedule(begin, np.concatenate([value[:1], value[changes]]).astype(np.int64))
            if np.all(np.diff(begin) > 0):
                parts.append(RunSettings(gradient_accumulation_steps=Setting(schedule, told, Trust.RECORDED)))
        elif not len(changes):
            parts.append(RunSettings(**{field: Setting(first, told, Trust.RECORDED)}))  # type: ignore[arg-type]
    return merge(*parts) if parts else RunSettings()


def _switch(mapping: Mapping[str, Any], keys: tuple[str, ...], source: str, trust: Trust) -> Setting[bool] | None:
    """Whether something is on: a configuration, a path or a number stands where it is."""
    for key in keys:
        if key in mapping:
            value = mapping[key]
            if isinstance(value, Mapping) and set(value) <= {"value", "desc"}:
                value = value.get("value")
            return Setting(
                bool(value) and value not in ("None", "none", "null", "{}", "False", "false"), f"{source}: {key}", trust
            )
    return None


def _first(
    flat: Mapping[str, Any], keys: tuple[str, ...], reader: Callable[[Any], Any], source: str, trust: Trust
) -> Setting[Any] | None:
    """The first of the keys, on the top level before nested ones, whose value can be read."""
    for key in keys:
        if key in flat and (value := reader(flat[key])) is not None:
            return Setting(value, f"{source}: {key}", trust)
    for key in keys:
        for name, raw in flat.items():
            if name.endswith(f".{key}") and not name.startswith("_wandb") and (value := reader(raw)) is not None:
                return Setting(value, f"{source}: {name}", trust)
    return None


def _derived_ga(
    flat: Mapping[str, Any], found: Mapping[str, Setting[Any]], source: str, trust: Trust
) -> Setting[int] | None:
    """GA from the total batch, where nothing says it: total / (micro batch x world size)."""
    micro = found.get("micro_batch_size")
    world = found.get("world_size")
    ranks = world.value if world else 1
    total = _first(flat, TOTAL_BATCH_KEYS, _count, source, trust)
    length: Setting[int] | None = None
    if total is None:
        total = _first(flat, TOTAL_TOKENS_KEYS, _count, source, trust)
        length = _first(flat, ("max_seq_len", "block_size", "sequence_length", "seq_len"), _count, source, trust)
        if length is None:
            return None
    if micro is None or total is None:
        return None
    each = micro.value * ranks * (length.value if length else 1)
    if total.value % each or not total.value // each:
        return None
    terms = " x ".join(str(x) for x in (micro.value, *([length.value] if length else []), ranks))
    assumed = "" if world else ", world size taken as 1"
    return Setting(total.value // each, f"derived: {total.value} / ({terms}) from {source}{assumed}", trust)


_LONGEST_LIST = 100
_LONGEST_TEXT = 1000
_LARGEST_INT = 1 << 63


def _count(value: Any) -> int | None:
    """A positive whole number, also as text or in a list of one (fairseq's update_freq)."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number == int(number if abs(number) < 1e15 else 0) and number >= 1 else None


def _whole(value: Any) -> int | None:
    try:
        whole = None if isinstance(value, bool) or value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return whole if whole is not None and abs(whole) <= _LARGEST_INT else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == number and number >= 0 else None


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        parts = (v.get("path") if isinstance(v, Mapping) else v for v in value[:_LONGEST_LIST])
        value = ", ".join(text for v in parts if (text := _scalar_text(v)))
    text = _scalar_text(value)
    if not text or text.lower() in {"none", "null", "auto", "true", "false"}:
        return None
    return text.removeprefix("OptimizerNames.").lower() if text.startswith("OptimizerNames.") else text


def _scalar_text(value: Any) -> str:
    """A text, number or date as text; empty for anything nested, and for an integer of thousands of digits."""
    if value is None or isinstance(value, Mapping | list | tuple | set):
        return ""
    try:
        return str(value)[:_LONGEST_TEXT].strip()
    except ValueError:
        return ""


def _release(value: Any) -> str | None:
    text = _scalar_text(value)
    return text if re.match(r"\d+(\.\d+)*", text) else None


def _plain(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        return None
    if value is None or isinstance(value, int | float | bool):
        return value
    if isinstance(value, list):
        return [v for v in value[:_LONGEST_LIST] if isinstance(v, str | float | bool)
                or (isinstance(v, int) and abs(v) <= _LARGEST_INT)] or None  # fmt: skip
    text = _scalar_text(value)
    return None if text in {"", "None", "null"} else text


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "gradient_accumulation_steps": _count,
    "micro_batch_size": _count,
    "world_size": _count,
    "seed": _whole,
    "logging_steps": _count,
    "vocab_size": _count,
    "learning_rate": _number,
    "max_grad_norm": _number,
    "optimizer": _text,
    "model": _text,
    "dataset": _text,
    "engine": _text,
}


_OTHER_READERS: Mapping[str, Callable[[Any], Any]] = {
    "num_labels": _count,
    "zero_stage": _whole,
    "label_smoothing_factor": _number,
}


def from_requirements(text: str, *, source: str, trust: Trust) -> RunSettings:
    """Releases of the packages that train, from a pip freeze or a model card's list ("Transformers 4.46.1")."""
    packages: dict[str, Setting[str]] = {}
    for line in text.splitlines():
        match = re.match(r"\s*-?\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:==|:|\s)\s*v?(\d+[\w.+!-]*)\s*$", line)
        if match:
            name = trainers.canonical_name(match[1])
            if name in trainers.PACKAGES:
                packages[name] = Setting(match[2], f"{source}: {line.strip()[:80]}", trust)
    return RunSettings(packages=packages)


def from_run_name(name: str) -> RunSettings:
    """What a run's name says of GA and micro-batch (`bs1ga8`, `ga-4`, `gas16`, `grad_acc8`); always a guess."""
    ga = _GA_IN_NAME.findall(name)
    batch = _BATCH_IN_NAME.findall(re.sub(r"ga[s]?[-_=]?\d+", " ", name, flags=re.IGNORECASE))
    found: dict[str, Any] = {}
    source = f"the name {name!r}"
    if len({int(g) for g in ga}) == 1 and int(ga[0]) >= 1:
        found["gradient_accumulation_steps"] = Setting(Schedule.constant(int(ga[0])), source, Trust.GUESSED)
    if len(set(batch)) == 1 and int(batch[0]) >= 1:
        found["micro_batch_size"] = Setting(int(batch[0]), source, Trust.GUESSED)
    return RunSettings(**found)


def in_order(parts: Sequence[tuple[int, RunSettings]]) -> RunSettings:
    """Settings of one training that went on under another configuration: GA by segments, the first of all else.

    Parameters
    ----------
    parts : (first optimizer step, settings) of each session, in the order of the sessions.
    """
    merged = merge(*(settings for _, settings in parts))
    pieces: dict[int, Setting[Schedule]] = {}
    for first, settings in parts:
        ga = settings.gradient_accumulation_steps
        if ga is not None:
            # a session that goes back to an earlier step replaces what was after it
            pieces = {step: piece for step, piece in pieces.items() if step < first}
            pieces[first if pieces else 0] = ga
    values = [piece.value.first for piece in pieces.values()]
    if len(set(values)) < 2:
        return merged
    schedule = Schedule(np.array(list(pieces), np.int64), np.array(values, np.int64))
    best = next(iter(pieces.values()))
    conflicts = tuple(c for c in merged.conflicts if c[0] != "gradient_accumulation_steps")
    ga = Setting(schedule, f"{best.source}, of each session", best.trust)
    return replace(merged, gradient_accumulation_steps=ga, conflicts=conflicts)


def merge(*parts: RunSettings) -> RunSettings:
    """One set of settings: the highest trust wins each, the first among equals; what disagrees is kept as a conflict."""
    merged: dict[str, Any] = {}
    conflicts: list[tuple[str, Setting[Any], Setting[Any]]] = []
    devices = next((part.other[DATA_PARALLEL].value for part in parts if DATA_PARALLEL in part.other), 1)
    parts = tuple(_per_device(part, devices) for part in parts)
    for part in parts:
        told = (c for c in part.conflicts if devices == 1 or not (c[1].per_process or c[2].per_process))
        conflicts += [c for c in told if c not in conflicts]
    for field in fields(RunSettings):
        if field.name == "conflicts":
            continue
        values = [getattr(part, field.name) for part in parts]
        if field.name in {"packages", "other"}:
            merged[field.name] = _merge_maps(values, conflicts)
        else:
            merged[field.name] = _pick(field.name, [v for v in values if v is not None], conflicts)
    return RunSettings(**merged, conflicts=tuple(conflicts))


def agreed(parts: Mapping[str, RunSettings], known: RunSettings) -> tuple[RunSettings, dict[str, dict[str, str]]]:
    """The settings that all of several files agree on, and the others: value by file, by name of the setting.

    Parameters
    ----------
    parts : settings by the file that holds them.
    known : settings that are known already, and not asked for.
    """
    found: dict[str, Any] = {}
    differing: dict[str, dict[str, str]] = {}

    def one(name: str, said: dict[str, Setting[Any]]) -> Setting[Any] | None:
        values = {file: setting.value for file, setting in said.items()}
        first = next(iter(said.values()), None)
        if first is None or all(value == first.value for value in values.values()):
            return first
        differing[name] = {file: str(value) for file, value in values.items()}
        return None

    for field in fields(RunSettings):
        by_file = {file: getattr(part, field.name) for file, part in parts.items()}
        have = getattr(known, field.name)
        if field.name == "conflicts":
            continue
        if field.name in {"packages", "other"}:
            names = dict.fromkeys(name for each in by_file.values() for name in each if name not in have)
            said = {n: one(n, {file: each[n] for file, each in by_file.items() if n in each}) for n in names}
            found[field.name] = {name: setting for name, setting in said.items() if setting is not None}
        elif have is None:
            found[field.name] = one(field.name, {file: s for file, s in by_file.items() if s is not None})
    return RunSettings(**found), differing


DATA_PARALLEL = "data_parallel"  # devices over which one process splits its batches


def is_over_devices(settings: RunSettings) -> bool:
    """Whether the ranks of a run are known to be devices of one process."""
    return DATA_PARALLEL in settings.other and settings.other[DATA_PARALLEL].value > 1


def _per_device(settings: RunSettings, devices: int) -> RunSettings:
    """The Trainer's state has the micro-batch of a process, which DataParallel splits over its devices."""
    micro = settings.micro_batch_size
    if devices < 2 or micro is None or not micro.per_process or micro.value % devices:
        return settings
    each = Setting(micro.value // devices, f"{micro.source} / {devices} devices", micro.trust)
    return replace(settings, micro_batch_size=each)


def _merge_maps(
    maps: list[Mapping[str, Setting[Any]]], conflicts: list[tuple[str, Setting[Any], Setting[Any]]]
) -> dict[str, Setting[Any]]:
    names = dict.fromkeys(name for each in maps for name in each)
    picked = {name: _pick(name, [each[name] for each in maps if name in each], conflicts) for name in names}
    return {name: setting for name, setting in picked.items() if setting is not None}


def _pick(
    name: str, settings: list[Setting[Any]], conflicts: list[tuple[str, Setting[Any], Setting[Any]]]
) -> Setting[Any] | None:
    if not settings:
        return None
    best = max(settings, key=lambda s: s.trust)  # max keeps the first among equals
    for other in settings:
        # a guess from a name that says otherwise is worth a word; the same conflict is not listed twice
        if other.value != best.value and (name, best, other) not in conflicts:
            conflicts.append((name, best, other))
    return best
