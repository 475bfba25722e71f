"""The installed axolotl on the task of `_task`, through `axolotl train`'s own function.

A standalone script: standard library, torch, transformers, axolotl. Writes OUT/config.yaml, a model and a data set, and
what the helper `_stack` says; `axolotl train OUT/config.yaml` runs the same again.
"""

# /// script
# requires-python = ">=3.9"
# dependencies = ["torch", "axolotl", "transformers", "peft", "trl", "datasets"]
#
# [tool.ga-audit]
# name = "axolotl"
# # modules that a first training step would import: seconds for each cell otherwise
# preload = [
#   "torch", "torch._dynamo", "transformers.models.llama.modeling_llama", "axolotl.cli.train",
#   "axolotl.train", "axolotl.core.builders", "axolotl.core.trainer_builder",
#   "axolotl.common.datasets",
# ]
# options = [
#   "benchmark", "device", "effective-batch-size", "ga", "lengths", "lr", "max-grad-norm",
#   "measure-every", "optimizer", "out", "seed", "steps", "world-size",
# ]
#
# [tool.ga-audit.choices]
# device = ["auto", "cpu", "cuda", "mps"]
# lengths = ["fixed", "variable"]
#
# # the first is the default
# [tool.ga-audit.variants]
# full = "plain text, all parameters"
# lora = "plain text, adapters"
# qwen2 = "plain text, Qwen2, which axolotl does not patch as it does Llama"
# ignoring-count = "a model of its own code that ignores num_items_in_batch"
# dpo = "preferences (DPO)"
# kto = "judged completions (KTO)"
# ///

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("AXOLOTL_DO_NOT_TRACK", "1")

import _stack
import _task
import _tokenizer
from _stack import Variant


def _texts(sequences: Sequence[Sequence[int]]) -> list[dict]:
    return [{"text": _tokenizer.words(s)} for s in sequences]


_LORA = {
    "adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "lora_target_modules": ["q_proj", "v_proj"],
}  # fmt: skip
VARIANTS = {
    "full": Variant("plain text, all parameters", _texts, {}),
    "lora": Variant("plain text, adapters", _texts, _LORA),
    "qwen2": Variant("plain text, Qwen2, which axolotl does not patch as it does Llama", _texts, {}, model="Qwen2"),
    "ignoring-count": Variant(
        "a model of its own code that ignores num_items_in_batch", _texts, {"trust_remote_code": True}, ignoring_count=True
    ),
    "dpo": Variant("preferences (DPO)", _tokenizer.pairs, {"rl": "dpo"}, own_loss=True),
    "kto": Variant("judged completions (KTO)", _tokenizer.judged, {"rl": "kto", "remove_unused_columns": False}, own_loss=True),
}  # fmt: skip
_TYPES = {
    "dpo": {"field_prompt": "prompt", "field_chosen": "chosen", "field_rejected": "rejected"},
    "kto": {"field_prompt": "prompt", "field_completion": "completion", "field_label": "label"},
}


def main() -> None:
    """Train one cell."""
    args = _stack.arguments(__doc__, VARIANTS, "full")
    import axolotl

    variant = VARIANTS[args.variant]
    _stack.train(args, variant, _config(args, variant), _run, {"axolotl": axolotl.__version__})


def _config(args, variant: Variant) -> dict[str, object]:
    """Settings under the names that axolotl gives them."""
    device = _task.device_named(args.device)
    ranks = {"ddp_backend": "nccl" if device == "cuda" else "gloo"} if args.world_size > 1 else {}
    data = {"path": str(args.out / "data.json"), "ds_type": "json"}
    data |= {"split": "train", "type": _TYPES[args.variant]} if "rl" in variant.settings else {"type": "completion"}
    return {
        "base_model": str(args.out / "model"), **variant.settings, "datasets": [data],
        "dataset_prepared_path": str(args.out / "cache" / "prepared"), "val_set_size": 0,
        "output_dir": str(args.out), "sequence_len": 64, "sample_packing": False, "pad_to_sequence_len": False,
        "train_on_inputs": True, "curriculum_sampling": True, "logging_steps": 1, "save_strategy": "no",
        "micro_batch_size": args.effective_batch_size // (args.ga * args.world_size),
        "gradient_accumulation_steps": args.ga, "learning_rate": args.lr, "max_steps": args.steps, "num_epochs": 1,
        "max_grad_norm": args.max_grad_norm, "optimizer": args.optimizer, "lr_scheduler": "constant", "warmup_steps": 0,
        "weight_decay": 0.0, "seed": args.seed, "bf16": False, "fp16": False, "tf32": False,
        "gradient_checkpointing": False, "flash_attention": False, "dataloader_num_workers": 0, "strict": False,
        **ranks,
    }  # fmt: skip


def _run(config: Path) -> None:
    """What `axolotl train CONFIG` calls in each of its processes."""
    from axolotl.cli.train import do_cli

    kept, sys.argv = sys.argv, sys.argv[:1]  # it reads options of its own there
    try:
        do_cli(config=str(config))
    finally:
        sys.argv = kept


if __name__ == "__main__":
    main()
