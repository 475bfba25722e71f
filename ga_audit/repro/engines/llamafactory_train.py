"""The installed LLaMA-Factory on the task of `_task`, through `llamafactory-cli train`'s own function.

A standalone script: standard library, torch, transformers, llamafactory. Writes OUT/config.yaml, a model and a data set,
and what the helper `_stack` says; `llamafactory-cli train OUT/config.yaml` runs the same again.
"""

# /// script
# requires-python = ">=3.9"
# dependencies = ["torch", "llamafactory", "transformers", "peft", "trl", "datasets"]
#
# [tool.ga-audit]
# name = "llamafactory"
# # modules that a first training step would import: seconds for each cell otherwise
# preload = [
#   "torch", "torch._dynamo", "transformers.models.llama.modeling_llama",
#   "llamafactory.train.tuner",
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
# sft = "supervised, all parameters"
# lora = "supervised, adapters"
# ignoring-count = "supervised, a model of its own code that ignores num_items_in_batch"
# pt = "pre-training on plain text"
# pt-ignoring-count = "pre-training of a model of its own code that ignores num_items_in_batch"
# dpo = "preferences (DPO)"
# kto = "judged completions (KTO)"
# rm = "a reward model"
# ///

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import _stack
import _task
import _tokenizer
from _stack import Variant


def _instructions(sequences: Sequence[Sequence[int]]) -> list[dict]:
    """The first words are the instruction, on which LLaMA-Factory sets no labels."""
    return [
        {"instruction": _tokenizer.words(s[: _tokenizer.PROMPT]), "input": "", "output": _tokenizer.words(s[_tokenizer.PROMPT :])}
        for s in sequences
    ]  # fmt: skip


def _texts(sequences: Sequence[Sequence[int]]) -> list[dict]:
    return [{"text": _tokenizer.words(s)} for s in sequences]


_SFT = {"stage": "sft", "finetuning_type": "full"}
VARIANTS = {
    "sft": Variant("supervised, all parameters", _instructions, _SFT),
    "lora": Variant(
        "supervised, adapters", _instructions, {"stage": "sft", "finetuning_type": "lora", "lora_target": "q_proj,v_proj"}
    ),
    "ignoring-count": Variant(
        "supervised, a model of its own code that ignores num_items_in_batch", _instructions,
        {**_SFT, "trust_remote_code": True}, ignoring_count=True,
    ),
    "pt": Variant("pre-training on plain text", _texts, {"stage": "pt", "finetuning_type": "full", "packing": False}),
    "pt-ignoring-count": Variant(
        "pre-training of a model of its own code that ignores num_items_in_batch", _texts,
        {"stage": "pt", "finetuning_type": "full", "packing": False, "trust_remote_code": True}, ignoring_count=True,
    ),
    "dpo": Variant("preferences (DPO)", _tokenizer.pairs, {"stage": "dpo", "finetuning_type": "full"}, own_loss=True),
    "kto": Variant("judged completions (KTO)", _tokenizer.judged, {"stage": "kto", "finetuning_type": "full"}, own_loss=True),
    "rm": Variant("a reward model", _tokenizer.pairs, {"stage": "rm", "finetuning_type": "full"}, own_loss=True),
}  # fmt: skip

# how the columns of OUT/data.json are to be read, by stage
_COLUMNS = {
    "sft": {"columns": {"prompt": "instruction", "query": "input", "response": "output"}},
    "pt": {"columns": {"prompt": "text"}},
    "dpo": {"ranking": True, "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}},
    "kto": {"columns": {"prompt": "prompt", "response": "completion", "kto_tag": "label"}},
}
_COLUMNS["rm"] = _COLUMNS["dpo"]


def main() -> None:
    """Train one cell."""
    args = _stack.arguments(__doc__, VARIANTS, "sft")
    variant = VARIANTS[args.variant]
    import llamafactory

    information = {"tiny": {"file_name": "data.json", **_COLUMNS[variant.settings["stage"]]}}
    (args.out / "dataset_info.json").write_text(json.dumps(information, indent=1), "utf-8")
    config = _config(args, variant)
    if not _knows_trust(llamafactory):  # up to 0.9.1 it trusts a model's own code without being told
        config.pop("trust_remote_code", None)
    _stack.train(args, variant, config, _run, {"llamafactory": _version(llamafactory)})


def _config(args, variant: Variant) -> dict[str, object]:
    """LLaMA-Factory's own settings."""
    device = _task.device_named(args.device)
    ranks = {"ddp_backend": "nccl" if device == "cuda" else "gloo", "ddp_timeout": 1800} if args.world_size > 1 else {}
    return {
        "model_name_or_path": str(args.out / "model"), "do_train": True, **variant.settings,
        "dataset_dir": str(args.out), "dataset": "tiny", "template": "empty", "cutoff_len": 64, "overwrite_cache": True,
        "cache_dir": str(args.out / "cache"), "output_dir": str(args.out), "overwrite_output_dir": True,
        "logging_steps": 1, "save_strategy": "no", "plot_loss": False, "report_to": "none",
        "per_device_train_batch_size": args.effective_batch_size // (args.ga * args.world_size),
        "gradient_accumulation_steps": args.ga, "learning_rate": args.lr, "max_steps": args.steps,
        "max_grad_norm": args.max_grad_norm, "optim": args.optimizer, "lr_scheduler_type": "constant",
        "seed": args.seed, "bf16": False, "fp16": False, "use_cpu": device == "cpu",
        "gradient_checkpointing": False, "disable_gradient_checkpointing": True, "flash_attn": "sdpa",
        "dataloader_num_workers": 0, "disable_tqdm": True, "logging_nan_inf_filter": False, **ranks,
    }  # fmt: skip


def _run(config: Path) -> None:
    """What `llamafactory-cli train CONFIG` calls."""
    from llamafactory.train.tuner import run_exp

    kept, sys.argv = sys.argv, ["llamafactory-cli", str(config)]
    try:
        run_exp()
    finally:
        sys.argv = kept


def _knows_trust(package) -> bool:
    hparams = importlib.import_module(f"{package.__name__}.hparams")
    return any(field.name == "trust_remote_code" for field in dataclasses.fields(hparams.ModelArguments))


def _version(package) -> str:
    from importlib import metadata

    return str(getattr(package, "__version__", None) or metadata.version("llamafactory"))


if __name__ == "__main__":
    main()
