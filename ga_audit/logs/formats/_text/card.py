"""The model card that the Trainer writes: hyperparameters, framework versions, a table of results."""

from __future__ import annotations

import re
from typing import Any

from ga_audit.logs import settings
from ga_audit.run import RunSettings, Trust

_CARD_LINE = re.compile(r"^\s*-\s*([a-z_]+)\s*:\s*(\S.*?)\s*$")


def settings_of(text: str, name: str) -> RunSettings:
    """The list of hyperparameters and framework versions that the Trainer writes into a model card."""
    values: dict[str, Any] = {}
    for line in text.splitlines():
        match = _CARD_LINE.match(line)
        if match:
            values[match[1]] = match[2]
    if "train_batch_size" in values:
        # per device, in the Trainer's cards
        values["per_device_train_batch_size"] = values.pop("train_batch_size")
    if "num_devices" in values:
        values["world_size"] = values["num_devices"]
    if "learning_rate" in values and "gradient_accumulation_steps" not in values:
        values["gradient_accumulation_steps"] = 1  # the card leaves out what is 1
    own = settings.from_mapping(values, source=f"{name}, hyperparameters", trust=Trust.SIBLING)
    packages = settings.from_requirements(text, source=f"{name}, framework versions", trust=Trust.SIBLING)
    return settings.merge(own, packages)
