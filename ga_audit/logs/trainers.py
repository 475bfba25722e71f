"""Packages that train: which ones a log may name, and which of them decide how a loss is scaled."""

from __future__ import annotations

import re

LOSS_PACKAGES = frozenset({
    "transformers", "trl", "accelerate", "deepspeed", "axolotl", "llamafactory", "ms-swift", "swift", "unsloth",
    "unsloth-zoo", "liger-kernel", "lightning", "pytorch-lightning", "torchtune", "litgpt", "mosaicml", "composer",
    "megatron-core", "nemo-rl", "verl", "open-instruct", "mlx-lm", "open-clip-torch", "allennlp", "distillkitplus",
})  # fmt: skip
"""Packages whose release decides how a loss is scaled; a different torch or numpy does not."""

PACKAGES = frozenset({
    "transformers", "trl", "accelerate", "peft", "torch", "deepspeed", "axolotl", "llamafactory", "ms-swift", "unsloth",
    "liger-kernel", "lightning", "pytorch-lightning", "torchtune", "litgpt", "mlx-lm", "composer", "verl", "wandb",
    "open-instruct", "unsloth-zoo", "megatron-core", "nemo-rl", "torchtitan", "bitsandbytes", "datasets",
})  # fmt: skip
"""Packages whose release is read from a list of requirements."""

_ALIASES = {"pytorch": "torch"}


def canonical_name(package: str) -> str:
    """The one spelling of a package's name.

    Examples
    --------
    >>> canonical_name("Liger_Kernel"), canonical_name("PyTorch")
    ('liger-kernel', 'torch')
    """
    # PEP 503, as packaging.utils.canonicalize_name, whose import starts with subprocess
    name = re.sub(r"[-_.]+", "-", package).lower()
    return _ALIASES.get(name, name)
