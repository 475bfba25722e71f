"""Names that people log, and config keys, as we understand them.

Tables first: the names that released trainers use. Patterns last, for names with a prefix of the user's own. A name that
merely contains "loss" is not a training loss (`policy_gradient_loss`, `box_loss`, `aux_loss`): it has no role.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import count
from typing import Any

from ga_audit.run import Role

_EXACT: dict[str, Role] = {}


def _names(role: Role, text: str) -> None:
    _EXACT.update(dict.fromkeys(text.split(), role))


_names(Role.LOSS, "loss train/loss train.loss training_loss training/loss train/loss_step train_loss_step loss/train loss_train "
       "train/total_loss total_loss lm_loss causal_lm_loss loss_metrics/global_avg_loss train/lm_loss lm-loss-training/lm_loss "
       "train/epoch_loss batch_loss train/batch_loss loss_step metrics/train/loss train_loss reduced_train_loss "
       "train/samples/train_loss lm-loss learning/loss loss/train/total train/crossentropyloss train/cross_entropy_loss "
       "metrics/train/crossentropyloss main/loss train/main/loss epoch_loss cross_entropy_loss ce_loss train/ce_loss xent_loss "
       "nll_loss mlm_loss lmloss tr_loss trn_loss minibatch_loss iter_loss step_loss cost train_cost xent "
       "languagecrossentropy metrics/train/languagecrossentropy train_languagecrossentropy tot_loss "
       # means of several steps: they lag behind, so any other is taken before them
       "avg_loss avr_loss average_loss mean_loss running_loss loss_avg loss_mean smoothed_loss ema_loss avg_train_loss "
       "train_avg_loss loss/average loss/avr_loss")  # fmt: skip
_names(Role.EVAL_LOSS, "eval_loss eval/loss eval.loss val_loss val/loss valid_loss valid/loss validation_loss validation/loss "
       "dev_loss dev/loss loss/val loss/valid loss/eval eval/lm_loss validation_metrics/global_avg_loss test_loss test/loss "
       "val/lm_loss eval_lm_loss lm_loss_validation metrics/eval/loss val_total_loss val_languagecrossentropy val_train_loss "
       "metrics/eval/languagecrossentropy validation/main/loss val_ce_loss val_nll_loss dev_score_loss valid_cost val_cost "
       "eval/crossentropyloss val_avg_loss avg_val_loss val_reduced_train_loss val_mlm_loss val_tot_loss")  # fmt: skip
_names(Role.GRAD_NORM, "raw_grad_norm learning/raw_grad_norm "
       "grad_norm train/grad_norm train.grad_norm gradient_norm train/gradient_norm grad-norm gnorm train/gnorm "
       "grad_norm_total total_grad_norm global_grad_norm train/global_grad_norm grad_2.0_norm_total grad_2_norm_total "
       "optim/total_grad_norm optim/grad_norm gradients/norm grad/norm train/grad_norm_step grad_norm_step "
       "train/total_norm total_norm metrics/train/grad_norm actor/grad_norm "
       "learning/grad_norm l2_norm/grad/global grad_l2_norm gradient_l2_norm gradnorm grad_2norm |g| norm")  # fmt: skip
_names(Role.LEARNING_RATE, "learning_rate train/learning_rate train.learning_rate lr train/lr learning-rate lr-adam lr-sgd "
       "train/learning_rate_step optimizer/lr optim/lr metrics/train/learning_rate actor/lr "
       "learning/current_learning_rate")  # fmt: skip
_names(Role.EPOCH, "epoch train/epoch train.epoch epochs metrics/train/epoch")
_names(
    Role.SAMPLES_SEEN,
    "consumed_samples consumed-samples samples_seen train/samples_seen num_samples train/consumed_samples",
)
_names(Role.TOKENS_SEEN, "num_tokens train/num_tokens num_input_tokens_seen train/num_input_tokens_seen total_tokens tokens_seen "
       "train/tokens_seen train/num_input_tokens tokens train/tokens trained_tokens train/total_tokens")  # fmt: skip
_names(
    Role.TOKEN_ACCURACY,
    "mean_token_accuracy train/mean_token_accuracy token_acc train/token_acc token_accuracy train/token_accuracy",
)
_names(Role.ENTROPY, "entropy train/entropy mean_entropy train/mean_entropy")
_names(Role.MARGIN, "rewards/margins train/rewards/margins")
_names(Role.PERPLEXITY, "perplexity train/perplexity ppl train/ppl train_ppl train_perplexity")
# the closing summary of HF's Trainer; a bare `train_loss` column is a curve (Lightning), so formats that know say so
_names(Role.SUMMARY_LOSS, "train/train_loss")

_PATTERNS: tuple[tuple[re.Pattern[str], Role], ...] = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"(.*[/.])?(eval|val|valid|validation|dev)[/._-](?:.*[/._-])?loss(_epoch|_step)?", Role.EVAL_LOSS),
        (r"(.*[/.])?(train|training)[/._-]loss(_epoch|_step)?", Role.LOSS),
        (r"(.*[/.])?(total_|global_)?(grad|gradient)[_-]norm(_step|_total)?", Role.GRAD_NORM),
        (r"lr-[a-z0-9_]+(/pg\d+)?|(.*[/.])learning_rate", Role.LEARNING_RATE),
    )
)

CONFIG_KEYS: Mapping[str, tuple[str, ...]] = {
    "gradient_accumulation_steps": (
        "gradient_accumulation_steps", "accumulate_grad_batches", "grad_accumulation_steps", "grad_accum_steps",
        "gradient_accumulation", "grad_accum", "grad_acc_steps", "accumulation_steps", "accum_steps", "accum_iter",
        "accum_freq", "gradient_accumulation_iters", "update_freq", "acc_steps", "num_microbatches",
    ),
    "micro_batch_size": (
        "per_device_train_batch_size", "micro_batch_size", "train_micro_batch_size_per_gpu", "device_train_microbatch_size",
        "micro_batch_size_per_gpu", "local_batch_size", "device_batch_size", "per_gpu_train_batch_size",
    ),
    "world_size": ("world_size", "data_parallel_size", "num_processes", "n_ranks", "dp_world_size", "dp_size"),
    "seed": ("seed", "random_seed", "manual_seed"),
    "logging_steps": ("logging_steps", "log_every_n_steps", "log_interval", "steps_per_report"),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "learning_rate": ("learning_rate", "lr", "base_lr", "max_lr"),
    "max_grad_norm": ("max_grad_norm", "gradient_clip_val", "clip_grad_norm", "grad_clip", "gradient_clipping", "clip_grad",
                      "max_norm"),
    "optimizer": ("optim", "optimizer", "optimizer_name", "optimizer_type"),
    "model": ("model_name_or_path", "_name_or_path", "base_model", "model_name", "model", "model_id", "checkpoint_dir",
              "base_model_name_or_path"),
    "dataset": ("dataset", "dataset_name", "train_dataset", "datasets", "data_path", "dataset_id", "data"),
    "engine": ("engine", "distributed_type", "strategy", "distributed_backend"),
}  # fmt: skip
"""Field of RunSettings -> config keys, most trusted first; matched on the last part of a nested key."""

TOTAL_BATCH_KEYS = ("total_train_batch_size", "global_batch_size", "effective_batch_size", "train_batch_size_total")
TOTAL_TOKENS_KEYS = ("total_batch_size",)  # nanochat, build-nanogpt: tokens per optimizer step

OTHER_KEYS: Mapping[str, tuple[str, ...]] = {
    name: (name,)
    for name in (
        "max_steps", "num_train_epochs", "label_smoothing_factor", "average_tokens_across_devices", "model_type",
        "architectures", "lr_scheduler_type", "warmup_steps", "weight_decay", "gradient_checkpointing", "bf16", "fp16",
        "num_labels", "n_gpu", "train_dataset_size", "group_by_length", "packing", "remove_unused_columns", "loss_type",
        "trainer", "adam_epsilon", "logging_first_step", "steps_per_generation", "tie_word_embeddings", "beta",
        "init_from", "train_batch_size", "total_train_batch_size", "max_seq_length", "max_length", "cutoff_len", "sequence_len",
        "task_type", "is_encoder_decoder", "problem_type",
    )
} | {
    "lora": ("peft_config", "use_peft", "lora_rank", "lora_r", "lora"),
    "liger": ("use_liger_kernel", "enable_liger_kernel"),
    "deepspeed": ("deepspeed", "deepspeed_config"),
    "zero_stage": ("zero_optimization.stage", "zero_stage"),
    "train_dataset_size": ("train_dataset_size", "num_examples", "n_train"),
    "num_labels": ("num_labels", "num_classes"),
}  # fmt: skip
"""Key of RunSettings.other -> config keys."""

PACKAGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "transformers": ("transformers_version",),
    "trl": ("trl_version",),
    "accelerate": ("accelerate_version",),
    "peft": ("peft_version",),
    "torch": ("torch_version", "pytorch_version"),
    "deepspeed": ("deepspeed_version",),
    "axolotl": ("axolotl_version",),
    "llamafactory": ("llamafactory_version",),
    "ms-swift": ("swift_version", "ms_swift_version"),
    "unsloth": ("unsloth_version",),
    "liger-kernel": ("liger_kernel_version",),
}
"""Package -> config keys that hold its release."""


def role_of(name: str, *, loss_key: str | None = None, grad_norm_key: str | None = None) -> Role | None:
    """What a logged series measures, by its name; None where it is nothing of ours.

    Parameters
    ----------
    name : as logged.
    loss_key, grad_norm_key : the user's own names; where given, no other name has that role.
    """
    for key, given in ((loss_key, Role.LOSS), (grad_norm_key, Role.GRAD_NORM)):
        if key is not None and name == key:
            return given
    role = _by_table(name)
    if (role is Role.LOSS and loss_key is not None) or (role is Role.GRAD_NORM and grad_norm_key is not None):
        return None
    return role


@lru_cache(maxsize=4096)  # readers ask for each value of a row, and few names are different
def _by_table(name: str) -> Role | None:
    low = re.sub(r"\s+", "_", name.strip().lower())
    if low in _EXACT:
        return _EXACT[low]
    for pattern, role in _PATTERNS:
        if pattern.fullmatch(low):
            return role
    return None


def preference(name: str) -> int:
    """Order among names of one role in one log: the smaller is the better (`train/loss` before `total_loss`)."""
    low = name.strip().lower()
    return list(_EXACT).index(low) if low in _EXACT else len(_EXACT)


_DEEPEST = 30  # levels; no trainer's configuration has more
_MOST_ENTRIES = 100_000  # aliases let a YAML file of a kilobyte stand for more than any memory holds


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with keys joined by dots; W&B's `{"value": ...}` wrappers are taken off.

    What is nested deeper than any trainer's configuration, or beyond 100,000 entries, is left out.
    """
    return dict(_flat(mapping, prefix, _DEEPEST, count()))


def _flat(mapping: Mapping[str, Any], prefix: str, levels: int, entries: count[int]) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if next(entries) >= _MOST_ENTRIES:
            return
        try:
            name = f"{prefix}{key}"
        except ValueError:  # an integer of thousands of digits
            continue
        if isinstance(value, Mapping) and "value" in value and set(value) <= {"value", "desc"}:
            value = value["value"]
        if not isinstance(value, Mapping):
            yield name, value
        elif levels > 1:
            yield from _flat(value, f"{name}.", levels - 1, entries)
