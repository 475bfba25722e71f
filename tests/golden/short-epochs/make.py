"""Makes one log of this folder, with the transformers of the interpreter that runs it: epochs that end in 2 of 8 micro-batches.

    python make.py OUT GA LOGGING_STEPS 100 MICRO_BATCH_SIZE      (torch 2.13.0; GA x micro-batch = 16)

Three epochs of 100 sequences, row A of the release: 4.48.0 sums over micro-batches; 4.46.0 carries the remainder into the
next epoch and divides it by the wrong count; 4.45.2 carries it and is right; 4.57.6 gives it a step of its own and is right.
"""

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

out, ga, logging_steps, n, micro_batch_size = sys.argv[1], *map(int, sys.argv[2:6])
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
)
draw = torch.Generator().manual_seed(1)


def sequence():
    start = torch.randint(0, 64, (1,), generator=draw).item()
    tokens = [(start + 3 * i) % 64 for i in range(16)]
    return [
        x if torch.rand(1, generator=draw) > 0.3 else torch.randint(0, 64, (1,), generator=draw).item() for x in tokens
    ]


data = [{"input_ids": s, "labels": s} for s in (sequence() for _ in range(n))]
arguments = TrainingArguments(
    out, per_device_train_batch_size=micro_batch_size, gradient_accumulation_steps=ga, num_train_epochs=3,
    logging_steps=logging_steps, learning_rate=3e-3, report_to=["tensorboard"], save_strategy="no", use_cpu=True, seed=7,
    disable_tqdm=True, max_grad_norm=1.0,
)  # fmt: skip
trainer = Trainer(
    LlamaForCausalLM(config), arguments, train_dataset=data,
    data_collator=lambda batch: {k: torch.tensor([x[k] for x in batch]) for k in batch[0]},
)  # fmt: skip
trainer.train()
trainer.save_state()
