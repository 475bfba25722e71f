"""The installed TRL trainers on the task of `_task`, with the true gradient beside what they log.

A standalone script: standard library, torch, transformers, trl, datasets. The truth of `sft` is our own mean over the
batch's labels. The losses of `dpo`, `kto` and `reward` are TRL's own, taken on the whole effective batch in one pass and
without a count: what is measured is whether accumulating it in micro-batches gives the same.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import _measure
import _task
import _tokenizer
import _variants
import datasets
import torch
import transformers
import trl

ENGINE = "trl"
NEEDS = ("torch", "trl", "datasets")
PRELOAD = (  # all that a first training step would import: seconds for each cell otherwise
    "torch", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.algorithms.join", "transformers.trainer",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip


def main() -> None:
    """Train one cell and write what was logged and what was true."""
    args = _arguments()
    _task.set_up(args.seed)
    out, size = Path(args.out), args.effective_batch_size
    out.mkdir(parents=True, exist_ok=True)
    if size % (args.ga * args.world_size):
        raise SystemExit(f"--effective-batch-size {size} is no multiple of GA x world size")
    sequences = _task.sequences(size * args.steps, seed=args.seed, lengths=args.lengths)
    rows = VARIANTS[args.variant](sequences)
    model = _model(args.variant)
    before = _task.flat_parameters(model)
    trainer = _trainer(args, out, model, rows)
    # in order, so that every GA sees the same rows in each optimizer step
    trainer._get_train_sampler = lambda *a, **k: torch.utils.data.SequentialSampler(trainer.train_dataset)
    batches = [
        trainer.data_collator([trainer.train_dataset[i] for i in range(step * size, (step + 1) * size)])
        for step in range(args.steps)
    ]
    loss_of = _measure.token_mean if args.variant == "sft" else _measure.own_loss(trainer)
    measure = _measure.Measure(batches, args.measure_every, loss_of)
    measure.attach(trainer)
    measure.train()
    if trainer.args.process_index != 0:
        return
    trainer.save_state()
    torch.save(trainer.args, out / "training_args.bin")
    versions = {"trl": trl, "transformers": transformers, "torch": torch}
    truth = {
        "engine": "trl_trainer", "variant": args.variant, "ga": args.ga, "world_size": args.world_size,
        "effective_batch_size": size, "seed": args.seed, "steps": args.steps, "max_grad_norm": args.max_grad_norm,
        "packages": {name: module.__version__.partition("+")[0] for name, module in versions.items()},
        "device": str(trainer.args.device), "dtype": "float32", "measured": measure.found,
        "logged": _measure.logged(trainer),
        "throughput": measure.throughput(
            [sum(map(_tokens, rows[i * size : (i + 1) * size])) for i in range(args.steps)],
            dtype=torch.float32, benchmark=args.benchmark,
        ),
    }  # fmt: skip
    _task.write_truth(out, truth, before, _task.flat_parameters(trainer.model))


# --- data: rows as TRL's documentation has them ------------------------------------------------------------------------


def _tokens(row: dict) -> int:
    """Tokens of a row's texts: a word is a token."""
    return sum(len(text.split()) for text in row.values() if isinstance(text, str))


VARIANTS = {
    "sft": lambda sequences: [{"text": _tokenizer.words(s)} for s in sequences],
    "dpo": _tokenizer.pairs,
    "kto": _tokenizer.judged,
    "reward": _tokenizer.pairs,
}


# --- model and trainer -------------------------------------------------------------------------------------------------


def _model(variant: str) -> torch.nn.Module:
    settings = {**_variants.config().to_dict(), **_tokenizer.SPECIAL, "vocab_size": _tokenizer.SIZE}
    for name in ("id2label", "label2id", "num_labels"):  # of two classes, which would win over one label
        settings.pop(name, None)
    if variant == "reward":
        return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**{**settings, "num_labels": 1}))
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))


def _trainer(args: argparse.Namespace, out: Path, model, rows: list[dict]):
    name = {"sft": "SFT", "dpo": "DPO", "kto": "KTO", "reward": "Reward"}[args.variant]
    kind, config = getattr(trl, f"{name}Trainer", None), getattr(trl, f"{name}Config", None)
    if kind is None:
        raise SystemExit(f"trl {trl.__version__} has no {name}Trainer")
    device = _task.device_named(args.device)
    wanted = {
        "output_dir": str(out), "per_device_train_batch_size": args.effective_batch_size // (args.ga * args.world_size),
        "gradient_accumulation_steps": args.ga, "max_steps": args.steps, "logging_steps": 1, "learning_rate": args.lr,
        "max_grad_norm": args.max_grad_norm, "optim": args.optimizer, "lr_scheduler_type": "constant", "seed": args.seed,
        "data_seed": args.seed, "report_to": [], "save_strategy": "no", "use_cpu": device == "cpu", "bf16": False,
        "gradient_checkpointing": False, "disable_tqdm": True, "logging_nan_inf_filter": False, "max_length": 64,
        "max_prompt_length": 16, "max_seq_length": 64, "run_name": f"ga{args.ga}", "packing": False,
        "logging_dir": str(out / "runs"), "disable_dropout": True, "dataloader_num_workers": 0,
    }  # fmt: skip
    known = {field.name for field in dataclasses.fields(config)}
    more = {"ref_model": copy.deepcopy(model)} if args.variant in ("dpo", "kto") else {}
    return kind(
        model=model, args=config(**{k: v for k, v in wanted.items() if k in known}), processing_class=_tokenizer.build(),
        train_dataset=datasets.Dataset.from_list(rows), **more,
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = _task.parser(__doc__, measure_every=5)
    parser.add_argument("--optimizer", default="adamw_torch")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="sft", help="which trainer")
    parser.add_argument("--out", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
