"""Settings, labels and headings in a text: what trainers print before they train, and what people write above a block.

A setting is found by its name in any of the forms `--name 8`, `name=8`, `'name': 8`, `"name": 8`, `name ...... 8`,
`Name = 8`; a release by `package==1.2.3`, `package 1.2.3`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ga_audit.logs import settings
from ga_audit.logs.formats import _values
from ga_audit.logs.roles import CONFIG_KEYS
from ga_audit.run import RunSettings, Setting, Trust

_BETWEEN = r"""["'`*]{0,4}\s{0,8}(?:\.{2,200}\s?|[:=]{1,2}|\bis\b|\bof\b|\bto\b|\bconstant\b)?\s{0,8}(?:constant\s)?["'`*]{0,4}"""
_KEYS: tuple[tuple[str, str], ...] = (
    (r"gradient[ _-]accumulation[ _-]steps|grad(?:ient)?[ _-]acc(?:um(?:ulation)?)?(?:[ _-]steps?)?|accum(?:ulation)?[ _-]steps?"
     r"|accumulate[ _-]grad[ _-]batches|gradient[ _-]accumulation|accum[ _-](?:iter|freq)", "gradient_accumulation_steps"),
    (r"(?:instantaneous )?batch size per device", "per_device_train_batch_size"),
    (r"per[ _-](?:device|gpu)[ _-]train[ _-]batch[ _-]size|per[ _-]device[ _-]batch[ _-]size", "per_device_train_batch_size"),
    (r"train[ _-]micro[ _-]batch[ _-]size[ _-]per[ _-]gpu", "train_micro_batch_size_per_gpu"),
    (r"total train batch size(?: \([^()]{0,80}\))?|total[ _-]train[ _-]batch[ _-]size", "total_train_batch_size"),
    (r"num examples", "num_examples"),
    (r"num epochs|num[ _-]train[ _-]epochs", "num_train_epochs"),
    (r"total optimization steps|total steps", "total_steps"),
    (r"num gpus(?: used)?", "world_size"),
    (r"(?:using )?world[ _-]size", "world_size"),
    (r"(?:data[ _-]parallel[ _-](?:world[ _-])?size|dp[ _-]size)", "data_parallel_size"),
    (r"tensor[ _-](?:model[ _-])?parallel[ _-](?:world[ _-])?size", "tensor_parallel_size"),
    (r"pipeline[ _-](?:model[ _-])?parallel[ _-](?:world[ _-])?size", "pipeline_parallel_size"),
    (r"context[ _-]parallel[ _-](?:world[ _-])?size", "context_parallel_size"),
    (r"micro[ _-]batch[ _-]size", "micro_batch_size"),
    (r"global[ _-]batch[ _-]size", "global_batch_size"),
    (r"number of micro-?batches", "num_microbatches"),
    (r"logging[ _-]steps", "logging_steps"),
    (r"max[ _-]grad[ _-]norm", "max_grad_norm"),
)  # fmt: skip
# what else a command line or a dump says, in that form only
_FLAGS = ("learning_rate", "max_grad_norm", "optim", "model_name_or_path", "seed", "num_train_epochs", "max_steps",
          "label_smoothing_factor", "loss_type", "average_tokens_across_devices")  # fmt: skip
_NAMED = re.compile("|".join(rf"(?P<k{i}>(?<![a-z]){name})" for i, (name, _) in enumerate(_KEYS)), re.IGNORECASE)
_GA = re.compile(r"(?<![A-Za-z0-9_/.-])(?:GA|ga|GAS|gas|GradAcc|grad_acc)\s{0,3}[=:]?\s{0,3}(\d{1,5})(?![\d.,]*[\w%])")
_VALUE = re.compile(_BETWEEN + r"(\d[\d,]{0,18}(?:\.\d{1,12})?)(?![\w])", re.IGNORECASE)
_FLAG = re.compile(rf"(?:--|[\"'])({'|'.join(_FLAGS)})[\"']?(?:=|\s{{0,4}}:\s{{0,4}}|\s)[\"']?([\w./+-]{{1,200}})")
_PACKAGE = re.compile(
    r"\b(transformers|trl|axolotl|unsloth|accelerate|deepspeed|torch|pytorch|peft|llamafactory|ms-swift|swift|liger-kernel)"
    r"(?: ?version)?(?:==|: ?|=| |@)v?(\d{1,4}\.\d{1,6}[\w.]{0,30})",
    re.IGNORECASE,
)
_STATES = re.compile(
    rb"accum|batch|(?<![a-z0-9])gas?[=: \d]|grad_?acc|world|parallel|num[ _]|total |logging|max_grad|--|transformers|trl|axolotl"
    rb"|unsloth|accelerate|deepspeed|torch|peft|swift|liger|llamafactory"
)
_LOGGED = re.compile(r"\s{0,4}(?:\[?[A-Z]{3,8}\b[:|\]]|\[[^\]]{1,60}\]|\d{4}[-/]\d\d[-/]\d\d|\d\d[:/]\d\d)")
_HEADING = re.compile(r"\s{0,3}(?:#{1,6}\s|\*\*|==+|--+\s|`[^`]+`\s{0,4}$)")
LONGEST_LABEL = 160
GA_NAMES = frozenset(CONFIG_KEYS["gradient_accumulation_steps"])


@dataclass(slots=True)
class Banner:
    """Settings that a text states."""

    values: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.packages)

    def update(self, other: Banner) -> None:
        """Take what another one states; it wins."""
        self.values.update(other.values)
        self.packages.update(other.packages)

    def contradicts(self, other: Banner) -> bool:
        """Whether a setting or a release differs."""
        return any(other.values.get(k, v) != v for k, v in self.values.items()) or any(
            other.packages.get(k, v) != v for k, v in self.packages.items()
        )


def is_worth(low: bytes) -> bool:
    """Whether a line, in small letters, may state a setting or a release."""
    return _STATES.search(low) is not None


def of_line(text: str, ga_key: str | None = None) -> Banner:
    """The settings of a line; GA also under the user's own name of it."""
    found = Banner()
    if ga_key is not None and (at := text.find(ga_key)) >= 0:
        value = _VALUE.match(text, at + len(ga_key))
        if value is not None and (number := _number(value[1])) is not None:
            found.values["gradient_accumulation_steps"] = number
    if not is_worth(text.lower().encode("utf-8", "replace")):
        return found
    for match in _NAMED.finditer(text):
        value = _VALUE.match(text, match.end())
        if value is not None:
            _, key = _KEYS[int((match.lastgroup or "k0")[1:])]
            number = _number(value[1])
            if number is not None:
                found.values.setdefault(key, number)
    if "gradient_accumulation_steps" not in found.values and (ga := _GA.search(text)) is not None:
        found.values["gradient_accumulation_steps"] = int(ga[1])
    for name, value in _FLAG.findall(text):
        if name not in found.values:
            found.values[name] = _plain(value)
    found.packages.update((name.lower(), release.rstrip(".")) for name, release in _PACKAGE.findall(text))
    if "pytorch" in found.packages:
        found.packages.setdefault("torch", found.packages.pop("pytorch"))
    return found


def ga_of(text: str) -> list[str]:
    """Every mention of GA with its value."""
    named = (m for m in _NAMED.finditer(text) if m.lastgroup == "k0")
    found = [value[1] for m in named if (value := _VALUE.match(text, m.end())) is not None]
    return found + [match[1] for match in _GA.finditer(text)]


def _number(text: str) -> int | float | None:
    found = _values.finite(text.replace(",", ""))
    if found is None or found > _values.MOST_STEPS:
        return None
    return int(found) if found == int(found) else found


def _plain(text: str) -> Any:
    number = _values.finite(text)
    if number is None:
        return text
    return int(number) if number == int(number) and "e" not in text.lower() and "." not in text else number


def is_label(text: str, raw: str) -> bool:
    """Whether a line is a label or a heading that people write above a block; `raw` has its Markdown."""
    bare = raw.strip()
    if (
        not bare
        or len(bare) > LONGEST_LABEL
        or _LOGGED.match(raw)
        or "%|" in bare
        or bare.startswith(("|", "{", "*****"))
    ):
        return False
    if bare.startswith("```") or bare in ("---", "***"):
        return False
    if text[:1] in (" ", "\t") and not raw.lstrip().startswith(("#", "*", "`")):
        return False
    return bare.rstrip("*`_ ").endswith(":") or _HEADING.match(raw) is not None


def label_text(text: str) -> str:
    """A label as the name of a run."""
    bare = re.sub(r"\s+", " ", re.sub(r"[`*#]+", " ", text)).strip().strip(":=- ").strip()
    return bare[:80]


def settings_of(banner: Banner, name: str) -> RunSettings:
    """The settings of a run from what its text states."""
    values = dict(banner.values)
    if "data_parallel_size" in values:
        values.pop("world_size", None)
    elif "world_size" in values:
        apart = 1
        for kind in ("tensor", "pipeline", "context"):
            apart *= int(values.get(f"{kind}_parallel_size", 1)) or 1
        if apart > 1 and values["world_size"] % apart == 0:
            values["world_size"] //= apart
    source = f"{name}, printed header"
    found = settings.from_mapping(values, source=source, trust=Trust.RECORDED)
    packages = settings.from_requirements(
        "\n".join(f"{k}=={v}" for k, v in banner.packages.items()),
        source=f"{name}, printed banner",
        trust=Trust.RECORDED,
    )
    return settings.merge(found, packages)


def derived_ga(ratio: int) -> RunSettings:
    """GA from iterations per optimizer step."""
    from ga_audit.run import Schedule

    source = "derived: iterations / optimizer steps of the log"
    return RunSettings(gradient_accumulation_steps=Setting(Schedule.constant(ratio), source, Trust.RECORDED))
