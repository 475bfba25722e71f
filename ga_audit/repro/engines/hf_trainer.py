"""The installed transformers `Trainer` on the task of `_task`, with the true gradient beside what it logs.

A standalone script: standard library, torch, transformers.
`python hf_trainer.py --ga 8 --effective-batch-size 16 --out DIR` writes `trainer_state.json`, the logs of `--report-to`,
`truth.json` and `parameters.f32` into DIR; under torchrun, rank 0 does.
"""

# /// script
# requires-python = ">=3.9"
# dependencies = ["torch", "transformers", "accelerate"]
#
# [tool.ga-audit]
# name = "transformers"
# # modules that a first training step would import: seconds for each cell otherwise
# preload = [
#   "torch", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.algorithms.join",
#   "transformers.trainer", "transformers.models.llama.modeling_llama",
# ]
# options = [
#   "average-tokens", "benchmark", "data-parallel", "device", "dtype", "effective-batch-size",
#   "eval-steps", "ga", "lengths", "logging-steps", "lr", "max-grad-norm", "measure-every",
#   "name", "optimizer", "out", "packing", "progress", "report-to", "seed", "steps", "world-size",
# ]
#
# [tool.ga-audit.choices]
# average-tokens = ["default", "on", "off"]
# device = ["auto", "cpu", "cuda", "mps"]
# dtype = ["auto", "float32", "bfloat16"]
# lengths = ["fixed", "variable"]
#
# # the first is the default
# [tool.ga-audit.variants]
# A = "the model takes loss arguments and uses them"
# A-deepspeed = "A under DeepSpeed with ZeRO-2"
# A-deepspeed-zero1 = "A under DeepSpeed with ZeRO-1"
# B = "the model's forward has no **kwargs"
# B-deepspeed = "B under DeepSpeed with ZeRO-2"
# B2 = "the forward has **kwargs and ignores num_items_in_batch"
# B2-flagged = "B2 with accepts_loss_kwargs = False on the model"
# B3 = "the batch has no labels"
# C = "compute_loss_func divides by the count"
# C2 = "compute_loss_func returns a mean"
# C3 = "compute_loss_func returns a mean, forward has no **kwargs"
# D = "a subclass's compute_loss returns a mean"
# D-deepspeed = "D under DeepSpeed with ZeRO-2"
# D2 = "a subclass's compute_loss returns a mean, forward has no **kwargs"
# D-flagged = "D with model_accepts_loss_kwargs = False"
# E = "label smoothing"
# liger = "Liger's kernels (use_liger_kernel)"
# lora = "adapters (peft) on a model that takes loss arguments"
#
# # packages that a variant needs besides
# [tool.ga-audit.variant-needs]
# lora = "peft"
# liger = "liger-kernel"
# A-deepspeed = "deepspeed"
# A-deepspeed-zero1 = "deepspeed"
# B-deepspeed = "deepspeed"
# D-deepspeed = "deepspeed"
#
# [tool.ga-audit.models]
# llama-causal-lm = "LlamaForCausalLM"
# qwen2-causal-lm = "Qwen2ForCausalLM"
# gpt2-causal-lm = "GPT2LMHeadModel"
# bert-sequence-classification = "BertForSequenceClassification"
# llama-sequence-classification = "LlamaForSequenceClassification"
# bert-token-classification = "BertForTokenClassification"
# llama-token-classification = "LlamaForTokenClassification"
# bert-masked-lm = "BertForMaskedLM"
# t5-seq2seq = "T5ForConditionalGeneration"
# bart-seq2seq = "BartForConditionalGeneration"
# vit-image-classification = "ViTForImageClassification"
# ///

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")

import _data_parallel
import _deepspeed
import _families
import _liger
import _measure
import _task
import _variants
import accelerate
import torch
import transformers
from transformers import TrainingArguments


def main() -> None:
    """Train one cell and write what was logged and what was true."""
    args = _arguments()
    _task.set_up(args.seed)
    out, size = Path(args.out), args.effective_batch_size
    task = _families.FAMILIES[args.model] if args.model else _variants.VARIANTS[args.variant]
    rows = _task.sequences(
        size * args.steps + _task.HELD_OUT, seed=args.seed, lengths=args.lengths, packing=args.packing
    )
    liger = getattr(task, "arguments", {}).get("use_liger_kernel", False)
    note = _liger.make_ready(_task.device_named(args.device)) if liger else None
    data, held_out = rows[: size * args.steps], rows[size * args.steps :]
    steps = [data[i * size : (i + 1) * size] for i in range(args.steps)]
    zero = getattr(task, "zero", 0)
    if zero and args.data_parallel:
        raise SystemExit("DeepSpeed has a process for each device: leave --data-parallel out")
    if zero:
        _deepspeed.set_up(args, _task.device_named(args.device))
    arguments = _training_arguments(args, out, task)
    data_parallel = _data_parallel.settle(arguments, args.world_size, in_one_process=args.data_parallel)
    model = task.build()
    before = _task.flat_parameters(model)
    trainer = getattr(task, "trainer", transformers.Trainer)(
        model=model, args=arguments, train_dataset=_Sequences(data),
        eval_dataset=_Sequences(held_out), data_collator=lambda part: task.collate([row["sequence"] for row in part]),
        **getattr(task, "trainer_settings", {}),
    )  # fmt: skip
    # in order, so that every GA sees the same sequences in each optimizer step
    trainer._get_train_sampler = lambda *a, **k: torch.utils.data.SequentialSampler(trainer.train_dataset)
    measure = (_deepspeed if zero else _measure).Measure(list(map(task.collate, steps)), args.measure_every, task.loss)
    measure.attach(trainer)
    measure.train()
    if liger:
        _liger.check(model)
    flops = measure.step_flops()
    if trainer.args.process_index != 0:  # one truth, whatever the number of ranks
        return _task.leave()
    tokens, dtype = [sum(map(len, rows)) for rows in steps], getattr(torch, args.dtype)
    truth = measure.finish(
        args, out, engine="hf_trainer", what=f"{args.model or args.variant} ({task.what})", model=args.model,
        packages=_packages(args.variant), note=note, dtype=args.dtype,
        data_parallel=data_parallel,
        throughput=measure.throughput(tokens, flops, dtype=dtype, benchmark=args.benchmark),
        held_out_loss=_task.held_out_loss(trainer.model, task.collate(held_out), task.loss),
    )  # fmt: skip
    _task.write_truth(out, truth, before, _task.flat_parameters(trainer.model))
    return _task.leave()


def _packages(variant: str) -> dict[str, str]:
    """Releases that trained, by what was installed."""
    names = ["transformers", "accelerate", "torch"]
    if need := _variants.VARIANT_NEEDS.get(variant):
        names.append(need.replace("_", "-"))
    return {name: version(name).partition("+")[0] for name in names}


def _training_arguments(args: argparse.Namespace, out: Path, task) -> TrainingArguments:
    """The user's settings under the names that this release knows."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    device = _task.device_named(args.device)
    more = dict(getattr(task, "arguments", {}))
    if "logging_dir" in known:  # where it is still an option, said: its default holds the name of the host
        more["logging_dir"] = str(out / "runs")
    if _release(accelerate.__version__) >= (1, 1):  # before, the Trainer refuses it; our order needs none
        more["data_seed"] = args.seed
    if args.average_tokens != "default":
        if "average_tokens_across_devices" not in known:
            raise SystemExit(f"transformers {transformers.__version__} has no average_tokens_across_devices")
        more["average_tokens_across_devices"] = args.average_tokens == "on"
    if zero := getattr(task, "zero", 0):
        more["deepspeed"] = _deepspeed.settings(zero)
    if args.world_size > 1 and not args.data_parallel:
        more["ddp_backend"] = "nccl" if device == "cuda" else "gloo"
    return TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=args.effective_batch_size // (args.ga * args.world_size),
        per_device_eval_batch_size=_task.HELD_OUT, gradient_accumulation_steps=args.ga, max_steps=args.steps,
        logging_steps=args.logging_steps, learning_rate=args.lr, max_grad_norm=args.max_grad_norm, optim=args.optimizer,
        lr_scheduler_type="constant", seed=args.seed, report_to=args.report_to or [],
        save_strategy="no", use_cpu=device == "cpu", bf16=args.dtype == "bfloat16", disable_tqdm=not args.progress,
        remove_unused_columns=False, dataloader_num_workers=0, logging_nan_inf_filter=False,
        eval_strategy="steps" if args.eval_steps else "no", eval_steps=args.eval_steps or None,
        run_name=args.name or f"ga{args.ga}", **more,
    )  # fmt: skip


def _release(text: str) -> tuple[int, int]:
    """Major and minor number; `1.0rc1` counts as 1.0."""
    major, minor = re.match(r"(\d+)\.(\d+)", text).groups()
    return int(major), int(minor)


class _Sequences(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return {"sequence": self.data[i]}


def _arguments() -> argparse.Namespace:
    parser = _task.parser(__doc__, measure_every=5)
    parser.add_argument("--logging-steps", type=int, default=1)
    parser.add_argument("--eval-steps", type=int, default=0)
    parser.add_argument("--optimizer", default="adamw_torch")
    parser.add_argument("--packing", action="store_true", help="sequences laid end to end, cut into rows of one length")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the autocast")
    parser.add_argument("--average-tokens", choices=("default", "on", "off"), default="default",
                        help="average_tokens_across_devices")  # fmt: skip
    parser.add_argument(
        "--variant", choices=sorted(_variants.VARIANTS), default="A", help="a situation of the known bugs"
    )
    parser.add_argument("--model", choices=sorted(_families.FAMILIES), help="a stock model family")
    parser.add_argument("--data-parallel", action="store_true", help="the ranks are devices of this process")
    parser.add_argument("--report-to", nargs="*", default=[])
    parser.add_argument("--name", default="")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--out", required=True)
    args = _task.checked(parser.parse_args())
    args.dtype = _task.dtype_named(args.dtype, args.device)
    if args.model and args.variant != "A":
        raise SystemExit(f"--variant {args.variant} is about a Llama of its own: give --model or --variant")
    return args


if __name__ == "__main__":
    main()
