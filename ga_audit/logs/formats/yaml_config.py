"""Configuration beside a log: axolotl, LLaMA-Factory, torchtune, Lightning and DeepSpeed files, model cards.

Yields settings and no series. A YAML or JSON file counts as a trainer's configuration where it names
`gradient_accumulation_steps` (in any of the words that trainers use) or a micro-batch size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import settings
from ga_audit.logs.formats import Claim, Format, Target
from ga_audit.logs.formats._text import card, yaml_text
from ga_audit.logs.roles import CONFIG_KEYS
from ga_audit.run import Run, RunSettings, Source, Trust

_KEYS = [key.encode() for field in ("gradient_accumulation_steps", "micro_batch_size") for key in CONFIG_KEYS[field]]
_NAMES = frozenset(
    {"config.json", "args.json", "adapter_config.json", "ds_config.json", "hparams.yaml", "train_args.json"}
)
_MAX_BYTES = 4 << 20


def claim(target: Target) -> Claim:
    """YES for YAML or JSON that names a trainer's setting, a model's config.json, and a Trainer's model card."""
    if target.is_dir or target.path == "-":
        return Claim.NO
    suffix = target.file.suffix.lower()
    head = _content(target)
    if target.name == "README.md":
        return Claim.YES if b"raining hyperparameters" in head or b"gradient_accumulation_steps" in head else Claim.NO
    if suffix in {".yaml", ".yml"}:
        return Claim.YES if any(key in head for key in _KEYS) else Claim.NO
    if suffix == ".json" and b'"log_history"' not in head and head.lstrip()[:1] == b"{":
        if target.name in _NAMES:
            return Claim.YES
        return Claim.YES if b"gradient_accumulation_steps" in head and b'"step"' not in head else Claim.NO
    return Claim.NO


def _content(target: Target) -> bytes:
    """The whole text of a file of a configuration's name and size, else its head: settings may stand far down."""
    if target.text is not None or target.file.suffix.lower() not in {".yaml", ".yml", ".json", ".md"}:
        return target.head
    try:
        return target.read_bytes() if target.file.stat().st_size <= _MAX_BYTES else target.head
    except OSError:
        return target.head


def read(target: Target) -> Iterator[Run]:
    """A run without series that carries the settings.

    Raises
    ------
    UnreadableLog
        neither YAML nor JSON, or larger than any configuration.
    """
    data = target.read_bytes()
    if len(data) > _MAX_BYTES:
        raise UnreadableLog("is too large for a configuration", where=target.path, remedy="Give --ga NAME=N instead.")
    text = data.decode("utf-8", "replace")
    found = card.settings_of(text, target.name) if target.name == "README.md" else _mapping(text, target)
    folder = str(Path(target.path).parent)
    yield Run(target.path, Path(folder).name, folder, found, (), (Source("yaml_config", target.path),))


def _mapping(text: str, target: Target) -> RunSettings:
    content: Any
    try:
        if target.file.suffix.lower() == ".json":
            content = json.loads(text)
        else:
            content = yaml_text.load(text)
    except (ValueError, RecursionError) as error:
        raise _broken(target, error) from None
    except Exception as error:  # yaml.YAMLError is not known before the import
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise _broken(target, error) from None
    if not isinstance(content, Mapping):
        return RunSettings()
    if target.name == "config.json" and target.file.with_name("adapter_config.json").is_file():
        # PEFT saves no config.json: this one was copied from the base model, with the release that saved that
        content = {key: value for key, value in content.items() if key != "transformers_version"}
    return settings.from_mapping(content, source=target.name, trust=Trust.SIBLING)


def _broken(target: Target, error: Exception) -> UnreadableLog:
    first = str(error).replace("\n", " ")[:120]
    return UnreadableLog(f"broken configuration: {first}", where=target.path, remedy="Give --ga NAME=N instead.")


FORMAT = Format(claim=claim, read=read, settings_only=True)
