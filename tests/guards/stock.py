"""Short trainings of tiny models of transformers, in any of its releases."""

from __future__ import annotations

import torch
import transformers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

import ga_audit
from guards import tiny

GA = 4


def llama(**more):
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tiny.VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, attention_dropout=0.1, use_cache=False, **more,
        )
    )  # fmt: skip


def bert():
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=tiny.VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_labels=4,
        )
    )  # fmt: skip


def lora():
    import peft

    return peft.get_peft_model(llama(), peft.LoraConfig(r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"]))


class Rows(torch.utils.data.Dataset):
    def __init__(self, classes):
        made = torch.Generator().manual_seed(3)
        self.rows = []
        for _ in range(64):
            ids = torch.randint(0, tiny.VOCAB, (12,), generator=made)
            labels = ids.clone()
            labels[int(torch.randint(3, 13, (1,), generator=made)) :] = tiny.IGNORE
            self.rows.append({"input_ids": ids, "labels": ids[0] % 4 if classes else labels})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def train(tmp_path, model=llama, trainer=Trainer, *, watched=True, callback=None, ga=GA, steps=3, **arguments):
    """A short training; returns the trainer, the callback and the random numbers after."""
    tiny.seed()
    transformers.set_seed(0)
    made = model()
    more = {k: arguments.pop(k) for k in ("compute_loss_func",) if k in arguments}
    args = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=ga, max_steps=steps,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, **{"logging_steps": 1, **arguments},
    )  # fmt: skip
    callback = callback or ga_audit.GaAuditCallback()
    built = trainer(
        model=made, args=args, train_dataset=Rows("Classification" in type(made).__name__),
        callbacks=[callback] if watched else [], **more,
    )  # fmt: skip
    built.train()
    return built, callback, tiny.draws()


def rows(trainer):
    return [
        {k: v for k, v in row.items() if "ga_audit" not in k and "runtime" not in k and "per_second" not in k}
        for row in trainer.state.log_history
    ]
