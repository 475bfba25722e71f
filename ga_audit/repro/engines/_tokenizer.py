"""A tokenizer of one token for each word, built in memory, and texts that it reads back as the sequences of `_task`.

A standalone script's helper: transformers and tokenizers, no ga_audit.
"""

from __future__ import annotations

from collections.abc import Sequence

import _task

PAD, BOS, EOS = _task.VOCAB, _task.VOCAB + 1, _task.VOCAB + 2
SIZE = _task.VOCAB + 3
SPECIAL = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}  # as a model's config has them
PROMPT = 4  # tokens of a preference's prompt


def build():
    """The tokenizer, which adds no special token by itself."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {f"t{i}": i for i in range(_task.VOCAB)} | {"<pad>": PAD, "<s>": BOS, "</s>": EOS}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<s>",
        model_input_names=["input_ids", "attention_mask"],
    )


def words(tokens: Sequence[int]) -> str:
    """The text of a sequence."""
    return " ".join(f"t{token}" for token in tokens)


def pairs(sequences: Sequence[Sequence[int]]) -> list[dict[str, str]]:
    """Preferences: the true continuation of a prompt against that of the next sequence."""
    others = [*sequences[1:], sequences[0]]
    return [
        {"prompt": words(s[:PROMPT]) + " ", "chosen": words(s[PROMPT:]), "rejected": words(o[PROMPT:])}
        for s, o in zip(sequences, others, strict=True)
    ]


def prompts(sequences: Sequence[Sequence[int]]) -> list[dict[str, str]]:
    """The beginnings of sequences, to be completed."""
    return [{"prompt": words(s[:PROMPT])} for s in sequences]


def judged(sequences: Sequence[Sequence[int]]) -> list[dict]:
    """True continuations and those of the next sequence, in turns, each with the label of which it is."""
    return [
        {"prompt": p["prompt"], "completion": p["rejected" if i % 2 else "chosen"], "label": i % 2 == 0}
        for i, p in enumerate(pairs(sequences))
    ]
