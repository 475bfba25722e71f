"""The situations that the known bugs of the Trainer depend on, by the letters of the catalogue's table.

A standalone script's helper: torch and transformers, no ga_audit. Every variant trains the same Llama on the same data
and means to minimise the same mean over tokens; only who computes it, and with what count, differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import _task
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer


class LlamaWithoutKwargs(LlamaForCausalLM):
    """A forward that takes no loss arguments (old style, remote code)."""

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        """Mean loss over the micro-batch."""
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            output["loss"] = _task.token_mean_loss(output.logits, labels)
        return output


class LlamaIgnoringKwargs(LlamaForCausalLM):
    """A forward that takes keyword arguments and ignores the count."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **loss_kwargs):
        """Mean loss over the micro-batch, whatever `num_items_in_batch` says."""
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            output["loss"] = _task.token_mean_loss(output.logits, labels)
        return output


class LlamaFlaggedAsMean(LlamaIgnoringKwargs):
    """The same, and it says so: `accepts_loss_kwargs = False`, honoured from transformers 4.48.0 on."""

    accepts_loss_kwargs = False


class LlamaWithTargets(LlamaForCausalLM):
    """Labels under another name than `labels`: the Trainer finds nothing to count (DPO, KTO, reward models)."""

    def forward(self, input_ids=None, attention_mask=None, targets=None, **loss_kwargs):
        """Mean loss over the micro-batch."""
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if targets is not None:
            output["loss"] = _task.token_mean_loss(output.logits, targets)
        return output


class MeanLossTrainer(Trainer):
    """A subclass with its own `compute_loss` that returns a mean."""

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """Mean over the micro-batch, the count not used."""
        labels = inputs["labels"]
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = _task.token_mean_loss(output.logits, labels)
        return (loss, output) if return_outputs else loss


class FlaggedMeanLossTrainer(MeanLossTrainer):
    """The same with `model_accepts_loss_kwargs = False`, the documented way out."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False


def _loss_by_count(outputs, labels, num_items_in_batch=None):
    """A `compute_loss_func` that divides by the count."""
    shifted = outputs["logits"][:, :-1].float().reshape(-1, _task.VOCAB)
    total = torch.nn.functional.cross_entropy(
        shifted, labels[:, 1:].reshape(-1), ignore_index=_task.IGNORE, reduction="sum"
    )
    count = num_items_in_batch if num_items_in_batch is not None else (labels[:, 1:] != _task.IGNORE).sum()
    return total / count


def _loss_mean(outputs, labels, num_items_in_batch=None):
    """A `compute_loss_func` that returns a mean."""
    return _task.token_mean_loss(outputs["logits"], labels)


def _with_targets(rows):
    """A batch whose labels are named `targets`."""
    batch = _task.collate(rows)
    batch["targets"] = batch.pop("labels")
    return batch


def _lora(model):
    """Adapters of rank 4 on the attention, the rest frozen."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise SystemExit(f"the variant lora needs peft: pip install peft ({error})") from error
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]))


@dataclass(frozen=True)
class Variant:
    """What differs from the stock Trainer with a stock model."""

    what: str
    model: type = LlamaForCausalLM
    trainer: type = Trainer
    trainer_settings: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)  # of TrainingArguments
    collate: Callable = _task.collate
    wrap: Callable = lambda model: model
    zero: int = 0  # stage of ZeRO under DeepSpeed; 0: no DeepSpeed

    def build(self) -> torch.nn.Module:
        """The tiny Llama with random weights."""
        return self.wrap(self.model(config()))

    def loss(self, model, batch) -> torch.Tensor:
        """The mean over all tokens of the batch, whatever the labels are named, smoothed where the Trainer smooths."""
        named = {**batch, "labels": batch["targets"]} if "targets" in batch else batch
        return _task.causal_loss(model, named, self.arguments.get("label_smoothing_factor", 0.0))


_A = Variant("the model takes loss arguments and uses them")
_B = Variant("the model's forward has no **kwargs", LlamaWithoutKwargs)
_D = Variant("a subclass's compute_loss returns a mean", trainer=MeanLossTrainer)


def _deepspeed(letter: str, variant: Variant, stage: int) -> Variant:
    return replace(variant, what=f"{letter} under DeepSpeed with ZeRO-{stage}", zero=stage)


VARIANTS = {
    "A": _A,
    "A-deepspeed": _deepspeed("A", _A, 2),
    "A-deepspeed-zero1": _deepspeed("A", _A, 1),
    "B": _B,
    "B-deepspeed": _deepspeed("B", _B, 2),
    "B2": Variant("the forward has **kwargs and ignores num_items_in_batch", LlamaIgnoringKwargs),
    "B2-flagged": Variant("B2 with accepts_loss_kwargs = False on the model", LlamaFlaggedAsMean),
    "B3": Variant("the batch has no labels", LlamaWithTargets, arguments={"label_names": ["targets"]}, collate=_with_targets),
    "C": Variant("compute_loss_func divides by the count", trainer_settings={"compute_loss_func": _loss_by_count}),
    "C2": Variant("compute_loss_func returns a mean", trainer_settings={"compute_loss_func": _loss_mean}),
    "C3": Variant(
        "compute_loss_func returns a mean, forward has no **kwargs", LlamaWithoutKwargs,
        trainer_settings={"compute_loss_func": _loss_mean},
    ),
    "D": _D,
    "D-deepspeed": _deepspeed("D", _D, 2),
    "D2": Variant(
        "a subclass's compute_loss returns a mean, forward has no **kwargs", LlamaWithoutKwargs, MeanLossTrainer
    ),
    "D-flagged": Variant("D with model_accepts_loss_kwargs = False", trainer=FlaggedMeanLossTrainer),
    "E": Variant("label smoothing", arguments={"label_smoothing_factor": 0.1}),
    "liger": Variant("Liger's kernels (use_liger_kernel)", arguments={"use_liger_kernel": True}),
    "lora": Variant("adapters (peft) on a model that takes loss arguments", wrap=_lora),
}  # fmt: skip

VARIANT_NEEDS = {
    "lora": "peft", "liger": "liger_kernel", "A-deepspeed": "deepspeed", "A-deepspeed-zero1": "deepspeed",
    "B-deepspeed": "deepspeed", "D-deepspeed": "deepspeed",
}  # fmt: skip


def config() -> LlamaConfig:
    """A Llama of 2 layers and 32 dimensions."""
    return LlamaConfig(
        vocab_size=_task.VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=64, attention_dropout=0.0, use_cache=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
