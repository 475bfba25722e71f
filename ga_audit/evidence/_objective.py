"""What a run minimises, as far as its log tells: an absolute statement about a loss holds for one objective only."""

from __future__ import annotations

import re
from enum import StrEnum

from ga_audit.run import Role, Run


class Objective(StrEnum):
    """Objectives whose loss has a known scale; anything else is UNKNOWN."""

    LANGUAGE_MODEL = "language model"  # mean cross-entropy of next tokens, nats
    CLASSIFICATION = "classification"  # cross-entropy over k classes
    DPO = "DPO"  # sigmoid loss: ln 2 where policy and reference agree
    KTO = "KTO"  # 1/2 where policy and reference agree
    REINFORCEMENT = "reinforcement learning"  # no scale of its own, may be negative
    UNKNOWN = "unknown"


_TOKEN_MODELS = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")
_CLASSIFIERS = re.compile(r"For(Sequence|Image|Audio|Video)Classification$")
_ADAPTERS = {  # adapter_config.json of PEFT, which names no architecture
    "CAUSAL_LM": Objective.LANGUAGE_MODEL,
    "SEQ_2_SEQ_LM": Objective.LANGUAGE_MODEL,
    "SEQ_CLS": Objective.CLASSIFICATION,
}
_ENCODER_DECODERS = re.compile(
    r"(Whisper|Speech|T5|Bart|BART|Pegasus|M2M100|Marian|ProphetNet|LED|Blenderbot|Florence|BlipFor|VisionEncoderDecoder)"
)


def objective(run: Run) -> tuple[Objective, str]:
    """The objective and where it shows; the trainer's own word wins over the names of series, these over the model."""
    other = run.settings.other
    names = _series_names(run)
    trainer = str(other["trainer"].value).lower() if "trainer" in other else ""
    for word, found in (
        ("kto", Objective.KTO), ("dpo", Objective.DPO), ("grpo", Objective.REINFORCEMENT), ("ppo", Objective.REINFORCEMENT),
        ("rloo", Objective.REINFORCEMENT), ("sft", Objective.LANGUAGE_MODEL),
    ):  # fmt: skip
        if word in trainer:
            return _checked(found, run), f"trainer {trainer!r}"
    bare = {name.rpartition("/")[2] if not name.startswith("rewards") else name for name in names}
    if any(n.startswith("completions/") or n.endswith("/completion_length") or n == "completion_length" for n in names):
        return Objective.REINFORCEMENT, "completion lengths are logged"
    if any("rewards/" in n for n in names):
        if "kl" in bare and not any("logits/chosen" in n for n in names if "rewards/margins" in n):
            return Objective.KTO if any(
                "rewards/chosen" in n for n in names
            ) else Objective.REINFORCEMENT, "rewards, kl"
        if any("rewards/margins" in n for n in names):
            # ORPO, CPO and SimPO log margins too, with other losses
            odd = [
                n for n in bare if n in {"nll_loss", "log_odds_ratio", "log_odds_chosen", "odds_ratio_loss", "sft_loss"}
            ]
            return (Objective.UNKNOWN if odd else _checked(Objective.DPO, run)), "rewards/margins is logged"
        return Objective.UNKNOWN, "rewards are logged"
    architectures = other.get("architectures")
    classes = [str(c) for c in architectures.value] if architectures and isinstance(architectures.value, list) else []
    if any(_CLASSIFIERS.search(c) for c in classes):
        return Objective.CLASSIFICATION, f"architecture {classes[0]}"
    if any(_TOKEN_MODELS.search(c) for c in classes):
        return Objective.LANGUAGE_MODEL, f"architecture {classes[0]}"
    adapter = _ADAPTERS.get(str(other["task_type"].value).rpartition(".")[2]) if "task_type" in other else None
    if adapter is not None:
        return adapter, f"task_type {other['task_type'].value} of the adapter"
    if run.get(Role.TOKEN_ACCURACY) is not None:
        return Objective.LANGUAGE_MODEL, "token accuracy is logged"
    # a checkpoint's class alone is no sign: classifiers and reward models begin as language models too
    return Objective.UNKNOWN, "the log does not say what is minimised"


def is_encoder_decoder(run: Run) -> bool:
    """Whether a token model reads another sequence first: speech, translation, summaries, often augmented in training."""
    other = run.settings.other
    if "is_encoder_decoder" in other and other["is_encoder_decoder"].value is True:
        return True
    if "task_type" in other and "SEQ_2_SEQ" in str(other["task_type"].value):
        return True
    told = [other[name].value for name in ("architectures", "base_architectures") if name in other]
    return any(_ENCODER_DECODERS.search(str(name)) for value in told if isinstance(value, list) for name in value)


def _checked(found: Objective, run: Run) -> Objective:
    """UNKNOWN where another loss than the standard one of that trainer is named."""
    loss_type = run.settings.other.get("loss_type")
    if found is Objective.DPO and loss_type is not None and str(loss_type.value) not in {"sigmoid", "['sigmoid']"}:
        return Objective.UNKNOWN
    if found is Objective.KTO and loss_type is not None and str(loss_type.value) not in {"kto", "['kto']"}:
        return Objective.UNKNOWN
    return found


def _series_names(run: Run) -> set[str]:
    """Names of all series of a run, without `train/` before them."""
    return {re.sub(r"^(train|eval)[/_.](?=\w)", "", name) for name in run.names}
