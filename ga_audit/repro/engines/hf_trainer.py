"""The installed transformers `Trainer` on the task of `_task`, with the true gradient beside what it logs.

A standalone script: standard library, torch, transformers. `python hf_trainer.py --ga 8 --effective-batch-size 16 --out DIR`
writes `trainer_state.json`, the logs of `--report-to`, and `truth.json` into DIR.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")

import _task
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments


class LlamaWithoutKwargs(LlamaForCausalLM):
    """Row B of the table of bugs: a forward that takes no loss arguments (old style, remote code)."""

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        """Mean loss over the micro-batch."""
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            output["loss"] = _task.token_mean_loss(output.logits, labels)
        return output


class LlamaIgnoringKwargs(LlamaForCausalLM):
    """Row B2: a forward that takes keyword arguments and ignores the count."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **loss_kwargs):
        """Mean loss over the micro-batch, whatever `num_items_in_batch` says."""
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            output["loss"] = _task.token_mean_loss(output.logits, labels)
        return output


class MeanLossTrainer(Trainer):
    """Row D: a subclass with its own `compute_loss` that returns a mean."""

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """Mean over the micro-batch, the count not used."""
        labels = inputs["labels"]
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = _task.token_mean_loss(output.logits, labels)
        return (loss, output) if return_outputs else loss


class FlaggedMeanLossTrainer(MeanLossTrainer):
    """Row D with `model_accepts_loss_kwargs = False`, the documented way out."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False


def _loss_by_count(outputs, labels, num_items_in_batch=None):
    """Row C: a `compute_loss_func` that divides by the count."""
    shifted = outputs["logits"][:, :-1].float().reshape(-1, _task.VOCAB)
    total = torch.nn.functional.cross_entropy(
        shifted, labels[:, 1:].reshape(-1), ignore_index=_task.IGNORE, reduction="sum"
    )
    count = num_items_in_batch if num_items_in_batch is not None else (labels[:, 1:] != _task.IGNORE).sum()
    return total / count


def _loss_mean(outputs, labels, num_items_in_batch=None):
    """Row C2: a `compute_loss_func` that returns a mean."""
    return _task.token_mean_loss(outputs["logits"], labels)


VARIANTS = {
    "A": (LlamaForCausalLM, Trainer, {}, {}),
    "B": (LlamaWithoutKwargs, Trainer, {}, {}),
    "B2": (LlamaIgnoringKwargs, Trainer, {}, {}),
    "C": (LlamaForCausalLM, Trainer, {"compute_loss_func": _loss_by_count}, {}),
    "C2": (LlamaForCausalLM, Trainer, {"compute_loss_func": _loss_mean}, {}),
    "D": (LlamaForCausalLM, MeanLossTrainer, {}, {}),
    "D-flagged": (LlamaForCausalLM, FlaggedMeanLossTrainer, {}, {}),
    "E": (LlamaForCausalLM, Trainer, {}, {"label_smoothing_factor": 0.1}),
}


class Measure(TrainerCallback):
    """Compares, at each optimizer step and before clipping, the accumulated gradient with that of the whole batch."""

    def __init__(self, batches: list[dict[str, torch.Tensor]], every: int) -> None:
        self.batches, self.every, self.found = batches, every, []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Called after clipping in every release, so the clipping is undone by its own norm: see `unclipped`."""


def _patched_clip(accelerator, measure: Measure, state_of):
    """Wrap `accelerator.clip_grad_norm_`: the last place where the gradient is whole and not yet clipped."""
    original = accelerator.clip_grad_norm_

    def clip(parameters, max_norm, *args, **kwargs):
        model, step = state_of()
        if step % measure.every == 0 and step < len(measure.batches):
            accumulated = _task.flat_gradient(model)
            loss, wanted = _task.reference(model, measure.batches[step])
            measure.found.append({"step": step + 1, "reference_loss": loss, **_task.compare(accumulated, wanted)})
        return original(parameters, max_norm, *args, **kwargs)

    accelerator.clip_grad_norm_ = clip


def main() -> None:
    """Train one cell and write what was logged and what was true."""
    args = _arguments()
    _task.set_up(args.seed)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    micro = args.effective_batch_size // (args.ga * args.world_size)
    if micro * args.ga * args.world_size != args.effective_batch_size:
        raise SystemExit(f"--effective-batch-size {args.effective_batch_size} is no multiple of GA x world size")
    data = _task.sequences(args.effective_batch_size * args.steps, seed=args.seed, lengths=args.lengths)
    batches = [
        _task.collate(data[i * args.effective_batch_size : (i + 1) * args.effective_batch_size])
        for i in range(args.steps)
    ]
    model_class, trainer_class, extra, more = VARIANTS[args.variant]
    model = model_class(_config())
    # where it is still an option, said: its default holds the name of the host
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    more = {**more, **({"logging_dir": str(out / "runs")} if "logging_dir" in known else {})}
    training = TrainingArguments(
        output_dir=str(out), per_device_train_batch_size=micro, per_device_eval_batch_size=args.effective_batch_size,
        gradient_accumulation_steps=args.ga, max_steps=args.steps, logging_steps=args.logging_steps,
        learning_rate=args.lr, max_grad_norm=args.max_grad_norm, optim=args.optimizer, lr_scheduler_type="constant",
        seed=args.seed, data_seed=args.seed, report_to=args.report_to or [], save_strategy="no", use_cpu=True,
        disable_tqdm=not args.progress, remove_unused_columns=False, dataloader_num_workers=0,
        logging_nan_inf_filter=False, eval_strategy="steps" if args.eval_steps else "no",
        eval_steps=args.eval_steps or None, run_name=args.name or f"ga{args.ga}", **more,
    )  # fmt: skip
    held_out = _task.sequences(64, seed=args.seed, lengths=args.lengths)
    trainer = trainer_class(
        model=model, args=training, train_dataset=_Sequences(data), eval_dataset=_Sequences(held_out),
        data_collator=lambda rows: _task.collate([row["sequence"] for row in rows]), **extra,
    )  # fmt: skip
    trainer._get_train_sampler = lambda *a, **k: torch.utils.data.SequentialSampler(trainer.train_dataset)
    measure = Measure(batches, args.measure_every)
    _patched_clip(trainer.accelerator, measure, lambda: (trainer.model, trainer.state.global_step))
    trainer.train()
    trainer.save_state()
    torch.save(trainer.args, out / "training_args.bin")
    parameters = _task.flat_parameters(trainer.model)
    logged = [row for row in trainer.state.log_history if "loss" in row]
    (out / "truth.json").write_text(json.dumps({
        "engine": "hf_trainer", "variant": args.variant, "ga": args.ga, "world_size": args.world_size,
        "effective_batch_size": args.effective_batch_size, "seed": args.seed, "steps": args.steps,
        "packages": {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]},
        "measured": measure.found,
        "logged": [{k: row.get(k) for k in ("step", "loss", "grad_norm")} for row in logged],
        "parameter_norm": float(parameters.norm()), "parameters_head": parameters[:64].tolist(),
    }, indent=1))  # fmt: skip


class _Sequences(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return {"sequence": self.data[i]}


def _config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=_task.VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=64, attention_dropout=0.0, use_cache=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ga", type=int, default=1)
    parser.add_argument("--world-size", type=int, default=1)
    parser.add_argument("--effective-batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--logging-steps", type=int, default=1)
    parser.add_argument("--eval-steps", type=int, default=0)
    parser.add_argument("--measure-every", type=int, default=5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--optimizer", default="adamw_torch")
    parser.add_argument("--lengths", choices=("fixed", "variable"), default="variable")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="A")
    parser.add_argument("--report-to", nargs="*", default=[])
    parser.add_argument("--name", default="")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--out", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
