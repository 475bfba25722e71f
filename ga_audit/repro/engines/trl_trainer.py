"""The installed TRL trainers on the task of `_task`, with the true gradient beside what they log.

A standalone script: standard library, torch, transformers, trl, datasets. The truth of `sft` is our own mean over the
batch's labels. The losses of `dpo`, `kto` and `reward` are TRL's own, taken on the whole effective batch in one pass and
without a count: what is measured is whether accumulating it in micro-batches gives the same. The objective of `grpo` is
written out in `_grpo`.
"""

# /// script
# requires-python = ">=3.9"
# dependencies = ["torch", "trl", "datasets"]
#
# [tool.ga-audit]
# name = "trl"
# # modules that a first training step would import: seconds for each cell otherwise
# preload = [
#   "torch", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.algorithms.join",
#   "transformers.trainer", "transformers.models.llama.modeling_llama",
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
# sft = "supervised fine-tuning (SFTTrainer)"
# dpo = "preferences (DPOTrainer)"
# kto = "judged completions (KTOTrainer)"
# reward = "a reward model (RewardTrainer)"
# grpo = "generated completions (GRPOTrainer), the release's own loss_type"
# grpo-by-sequence = "GRPO with loss_type grpo"
# grpo-by-length = "GRPO with loss_type dr_grpo"
# grpo-reused = "GRPO, completions of eight micro-batches generated at once at any GA"
# grpo-reused-by-length = "grpo-reused with loss_type dr_grpo"
# ///

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import _grpo
import _measure
import _task
import _tokenizer
import _variants
import datasets
import torch
import transformers
import trl


def main() -> None:
    """Train one cell and write what was logged and what was true."""
    args = _arguments()
    _task.set_up(args.seed)
    out, size, variant = Path(args.out), args.effective_batch_size, VARIANTS[args.variant]
    reused = "steps_per_generation" in variant.settings
    count = size * max(args.steps, variant.settings.get("steps_per_generation", 1))
    rows = variant.rows(_task.sequences(count, seed=args.seed, lengths=args.lengths))
    model = _model(variant)
    before = _task.flat_parameters(model)
    trainer = _trainer(args, out, variant, model, rows)
    if variant.is_online:
        measure = _grpo.Measure(args.measure_every, trainer.args, version("trl"))
    else:
        measure = _on_given_rows(args, trainer)
    measure.attach(trainer)
    measure.train()
    flops = None if variant.is_online else measure.step_flops()
    if trainer.args.process_index != 0:
        return _task.leave()
    truth = measure.finish(
        args, out, engine="trl_trainer", what=f"{args.variant} ({variant.what})", dtype="float32",
        # by what was installed: trl 0.22.0 does not know its own release
        packages={name: version(name).partition("+")[0] for name in ("trl", "transformers", "accelerate", "torch")},
        note=measure.why_no_ratio() if variant.is_online else None, objective_spans_steps=reused,
    )  # fmt: skip
    if flops is not None:  # where most of the time goes into generating, tokens a second say nothing of training
        tokens = [sum(map(_tokens, rows[i * size : (i + 1) * size])) for i in range(args.steps)]
        truth["throughput"] = measure.throughput(tokens, flops, dtype=torch.float32, benchmark=args.benchmark)
    # reused: completions of another number of prompts at each GA; ranks draw their own
    same_data = not (reused or (variant.is_online and args.world_size > 1))
    _task.write_truth(out, truth, before, _task.flat_parameters(trainer.model), comparable=same_data)
    return _task.leave()


def _on_given_rows(args: argparse.Namespace, trainer) -> _measure.Measure:
    """Rows in order, so that every GA sees the same ones in each optimizer step; the truth is taken on them."""
    size, rows = args.effective_batch_size, trainer.train_dataset
    trainer._get_train_sampler = lambda *a, **k: torch.utils.data.SequentialSampler(rows)
    batches = [
        trainer.data_collator([rows[i] for i in range(step * size, (step + 1) * size)]) for step in range(args.steps)
    ]
    loss_of = _measure.token_mean if args.variant == "sft" else _measure.own_loss(trainer)
    return _measure.Measure(batches, args.measure_every, loss_of)


# --- what is trained: rows as TRL's documentation has them -------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One of TRL's trainers."""

    what: str
    trainer: str  # before "Trainer" and "Config"
    rows: Callable[[Sequence[Sequence[int]]], list[dict]]
    settings: Mapping[str, object] = field(default_factory=dict)  # of its config; one that a release lacks is refused

    @property
    def is_online(self) -> bool:
        """Whether the trainer makes its own rows: it generates completions of the prompts that it is given."""
        return self.trainer == "GRPO"


def _tokens(row: dict) -> int:
    """Tokens of a row's texts: a word is a token."""
    return sum(len(text.split()) for text in row.values() if isinstance(text, str))


def _texts(sequences):
    return [{"text": _tokenizer.words(s)} for s in sequences]


VARIANTS = {
    "sft": Variant("supervised fine-tuning (SFTTrainer)", "SFT", _texts),
    "dpo": Variant("preferences (DPOTrainer)", "DPO", _tokenizer.pairs),
    "kto": Variant("judged completions (KTOTrainer)", "KTO", _tokenizer.judged),
    "reward": Variant("a reward model (RewardTrainer)", "Reward", _tokenizer.pairs),
    "grpo": Variant("generated completions (GRPOTrainer), the release's own loss_type", "GRPO", _tokenizer.prompts),
    "grpo-by-sequence": Variant("GRPO with loss_type grpo", "GRPO", _tokenizer.prompts, {"loss_type": "grpo"}),
    "grpo-by-length": Variant("GRPO with loss_type dr_grpo", "GRPO", _tokenizer.prompts, {"loss_type": "dr_grpo"}),
    "grpo-reused": Variant(
        "GRPO, completions of eight micro-batches generated at once at any GA", "GRPO", _tokenizer.prompts,
        {"steps_per_generation": 8},
    ),
    "grpo-reused-by-length": Variant(
        "grpo-reused with loss_type dr_grpo", "GRPO", _tokenizer.prompts, {"steps_per_generation": 8, "loss_type": "dr_grpo"},
    ),
}  # fmt: skip


# --- model and trainer -------------------------------------------------------------------------------------------------


def _model(variant: Variant) -> torch.nn.Module:
    settings = {**_variants.config().to_dict(), **_tokenizer.SPECIAL, "vocab_size": _tokenizer.SIZE}
    for name in ("id2label", "label2id", "num_labels"):  # of two classes, which would win over one label
        settings.pop(name, None)
    if variant.trainer == "Reward":
        return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**{**settings, "num_labels": 1}))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))


def _trainer(args: argparse.Namespace, out: Path, variant: Variant, model, rows: list[dict]):
    name = variant.trainer
    kind, config = getattr(trl, f"{name}Trainer", None), getattr(trl, f"{name}Config", None)
    if kind is None:
        raise SystemExit(f"trl {version('trl')} has no {name}Trainer")
    known = {field.name for field in dataclasses.fields(config)}
    if lacking := sorted(variant.settings.keys() - known):
        raise SystemExit(f"trl {version('trl')} has no {lacking[0]} for {name}")
    device = _task.device_named(args.device)
    wanted = {
        "output_dir": str(out), "per_device_train_batch_size": args.effective_batch_size // (args.ga * args.world_size),
        "gradient_accumulation_steps": args.ga, "max_steps": args.steps, "logging_steps": 1, "learning_rate": args.lr,
        "max_grad_norm": args.max_grad_norm, "optim": args.optimizer, "lr_scheduler_type": "constant", "seed": args.seed,
        "data_seed": args.seed, "report_to": [], "save_strategy": "no", "use_cpu": device == "cpu", "bf16": False,
        "gradient_checkpointing": False, "disable_tqdm": True, "logging_nan_inf_filter": False, "max_length": 64,
        "max_prompt_length": 16, "max_seq_length": 64, "run_name": f"ga{args.ga}", "packing": False,
        "logging_dir": str(out / "runs"), "disable_dropout": True, "dataloader_num_workers": 0,
        "num_generations": 2, "max_completion_length": 16, "beta": 0.0, "shuffle_dataset": False, "temperature": 1.0,
        **variant.settings,
    }  # fmt: skip
    if not variant.is_online:
        del wanted["beta"]  # of DPO it is another one
    more = {"ref_model": copy.deepcopy(model)} if name in ("DPO", "KTO") else {}
    more |= {"reward_funcs": _grpo.reward} if variant.is_online else {}
    return kind(
        model=model, args=config(**{k: v for k, v in wanted.items() if k in known}), processing_class=_tokenizer.build(),
        train_dataset=datasets.Dataset.from_list(rows), **more,
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = _task.parser(__doc__, measure_every=5)
    parser.add_argument("--optimizer", default="adamw_torch")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="sft", help="which trainer")
    parser.add_argument("--out", required=True)
    return _task.checked(parser.parse_args())


if __name__ == "__main__":
    main()
