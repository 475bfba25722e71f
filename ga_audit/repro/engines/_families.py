"""Stock model families of transformers: tiny, built from their configs with random weights, and their true loss.

A standalone script's helper: torch and transformers, no ga_audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import _task
import torch
import transformers
from torch.nn.functional import cross_entropy

CLASSES = 4
PAD, MASK = _task.VOCAB, _task.VOCAB + 1
VOCAB = _task.VOCAB + 2
PIXELS = 8  # side of an image

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Family:
    """A model of the library as it stands, what it is trained on, and the loss that it means to minimise."""

    model: str  # class of transformers
    settings: dict
    collate: Callable[[list[list[int]]], Batch]
    loss: Callable[[torch.nn.Module, Batch], torch.Tensor]

    @property
    def what(self) -> str:
        """What is trained, in words."""
        return f"{self.model} with random weights, the Trainer as it stands"

    def build(self) -> torch.nn.Module:
        """The model with random weights, without dropout: a measured gradient is a number, not a sample."""
        kind = getattr(transformers, self.model, None)
        if kind is None:
            raise SystemExit(f"transformers {transformers.__version__} has no {self.model}")
        return kind(kind.config_class(**self.settings))


# --- batches from token sequences --------------------------------------------------------------------------------------


def _padded(rows: list[list[int]]) -> Batch:
    batch = _task.collate(rows)
    batch["input_ids"][batch["attention_mask"] == 0] = PAD
    return batch


def _classified(rows: list[list[int]]) -> Batch:
    """One label for each sequence: the class of its first token."""
    return {**_padded(rows), "labels": torch.tensor([row[0] * CLASSES // _task.VOCAB for row in rows])}


def _tagged(rows: list[list[int]]) -> Batch:
    """One label for each token: its class."""
    batch = _padded(rows)
    labels = batch["labels"]
    return {**batch, "labels": torch.where(labels == _task.IGNORE, labels, labels * CLASSES // _task.VOCAB)}


def _masked(rows: list[list[int]]) -> Batch:
    """Every fourth token is hidden and asked for, from a place that differs from sequence to sequence."""
    batch = _padded(rows)
    for i, row in enumerate(rows):
        hidden = torch.zeros(_task.LENGTH, dtype=torch.bool)
        hidden[row[0] % 4 : len(row) : 4] = True
        batch["input_ids"][i, hidden] = MASK
        batch["labels"][i, ~hidden] = _task.IGNORE
    return batch


def _images(rows: list[list[int]]) -> Batch:
    """Noise with one brighter quarter of the image, the class; the noise is that of the sequence."""
    labels = torch.tensor([row[0] * CLASSES // _task.VOCAB for row in rows])
    images = torch.stack([
        torch.randn(1, PIXELS, PIXELS, generator=torch.Generator().manual_seed(sum(t * 67**i for i, t in enumerate(row[:8]))))
        for row in rows
    ])  # fmt: skip
    half = PIXELS // 2
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = label // 2 * half, label % 2 * half
        image[:, top : top + half, left : left + half] += 1
    return {"pixel_values": images, "labels": labels}


# --- true losses: mean over all labels of the whole batch, and the model sees no labels --------------------------------


def _causal(model, batch: Batch) -> torch.Tensor:
    return _task.causal_loss(model, batch)


def _labelled(model, batch: Batch) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs).logits.float()
    return cross_entropy(logits.reshape(-1, logits.size(-1)), batch["labels"].reshape(-1), ignore_index=_task.IGNORE)


def _seq2seq(model, batch: Batch) -> torch.Tensor:
    labels = batch["labels"]
    start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
    shifted = torch.cat([start, labels[:, :-1].masked_fill(labels[:, :-1] == _task.IGNORE, PAD)], 1)
    return _labelled(model, {**batch, "decoder_input_ids": shifted})


# --- the families ------------------------------------------------------------------------------------------------------

_SPECIAL = {"vocab_size": VOCAB, "pad_token_id": PAD}
_NARROW = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "attention_dropout": 0.0,
}  # fmt: skip
_LLAMA = {
    **_NARROW, **_SPECIAL, "num_key_value_heads": 4, "max_position_embeddings": 64, "use_cache": False,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_BERT = {
    **_NARROW, **_SPECIAL, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0,
}  # fmt: skip
_T5 = {
    **_SPECIAL, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4, "dropout_rate": 0.0,
    "decoder_start_token_id": PAD, "use_cache": False,
}  # fmt: skip
_BART = {
    **_SPECIAL, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "dropout": 0.0, "max_position_embeddings": 64,
    "decoder_start_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2, "forced_eos_token_id": None, "use_cache": False,
}  # fmt: skip
_GPT2 = {
    "vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.0,
    "embd_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_VIT = {
    **_NARROW, "image_size": PIXELS, "patch_size": PIXELS // 4, "num_channels": 1, "num_labels": CLASSES,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
_CLASSES = {"num_labels": CLASSES}

FAMILIES = {
    "llama-causal-lm": Family("LlamaForCausalLM", _LLAMA, _padded, _causal),
    "qwen2-causal-lm": Family("Qwen2ForCausalLM", _LLAMA, _padded, _causal),
    "gpt2-causal-lm": Family("GPT2LMHeadModel", _GPT2, _padded, _causal),
    "bert-sequence-classification": Family(
        "BertForSequenceClassification", {**_BERT, **_CLASSES}, _classified, _labelled),
    "llama-sequence-classification": Family(
        "LlamaForSequenceClassification", {**_LLAMA, **_CLASSES}, _classified, _labelled),
    "bert-token-classification": Family("BertForTokenClassification", {**_BERT, **_CLASSES}, _tagged, _labelled),
    "llama-token-classification": Family(
        "LlamaForTokenClassification", {**_LLAMA, **_CLASSES, "classifier_dropout": 0.0}, _tagged, _labelled),
    "bert-masked-lm": Family("BertForMaskedLM", _BERT, _masked, _labelled),
    "t5-seq2seq": Family("T5ForConditionalGeneration", _T5, _padded, _seq2seq),
    "bart-seq2seq": Family("BartForConditionalGeneration", _BART, _padded, _seq2seq),
    "vit-image-classification": Family("ViTForImageClassification", _VIT, _images, _labelled),
}  # fmt: skip
