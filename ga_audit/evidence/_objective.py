"""What a run minimises, as far as its log tells: an absolute statement about a loss holds for one objective only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from ga_audit.finding import Fact
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


class Sign(StrEnum):
    """What an objective was inferred from."""

    TRAINER = "trainer"
    COMPLETION_LENGTHS = "completion-lengths"
    REWARDS_AND_KL = "rewards-and-kl"
    MARGINS = "margins"
    REWARDS = "rewards"
    ARCHITECTURE = "architecture"
    TASK_TYPE = "task-type"
    TOKEN_ACCURACY = "token-accuracy"  # noqa: S105 (an accuracy, not a secret)
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Inferred:
    """An objective and what it was inferred from."""

    objective: Objective
    sign: Sign
    value: str = ""  # of the setting, where the sign is one

    @property
    def facts(self) -> dict[str, Fact]:
        """The same as plain values."""
        return {"objective": self.objective.value, "sign": self.sign.value, "value": self.value}


_TRAINERS = {
    "kto": Objective.KTO,
    "dpo": Objective.DPO,
    "grpo": Objective.REINFORCEMENT,
    "ppo": Objective.REINFORCEMENT,
    "rloo": Objective.REINFORCEMENT,
    "sft": Objective.LANGUAGE_MODEL,
}
# ORPO, CPO and SimPO log margins too, with other losses
_OTHER_PREFERENCE_LOSSES = {"nll_loss", "log_odds_ratio", "log_odds_chosen", "odds_ratio_loss", "sft_loss"}


def objective(run: Run) -> Inferred:
    """The objective: the trainer's name wins over the names of series, these over the model."""
    return (
        _by_trainer(run)
        or _by_series(run)
        or _by_model(run)
        # a checkpoint's class alone is no sign: classifiers and reward models begin as language models too
        or Inferred(Objective.UNKNOWN, Sign.NONE)
    )


def _by_trainer(run: Run) -> Inferred | None:
    other = run.settings.other
    trainer = str(other["trainer"].value).lower() if "trainer" in other else ""
    for word, found in _TRAINERS.items():
        if word in trainer:
            return Inferred(_checked(found, run), Sign.TRAINER, trainer)
    return None


def _by_series(run: Run) -> Inferred | None:
    """Completion lengths and rewards, as trainers of preferences log them."""
    names = _series_names(run)
    if any(n.startswith("completions/") or n.rpartition("/")[2] == "completion_length" for n in names):
        return Inferred(Objective.REINFORCEMENT, Sign.COMPLETION_LENGTHS)
    if not any("rewards/" in n for n in names):
        return None
    bare = {name if name.startswith("rewards") else name.rpartition("/")[2] for name in names}
    if "kl" in bare:
        chosen = any("rewards/chosen" in n for n in names)
        return Inferred(Objective.KTO if chosen else Objective.REINFORCEMENT, Sign.REWARDS_AND_KL)
    if any("rewards/margins" in n for n in names):
        other = bool(bare & _OTHER_PREFERENCE_LOSSES)
        return Inferred(Objective.UNKNOWN if other else _checked(Objective.DPO, run), Sign.MARGINS)
    return Inferred(Objective.UNKNOWN, Sign.REWARDS)


def _by_model(run: Run) -> Inferred | None:
    other = run.settings.other
    architectures = other.get("architectures")
    listed = architectures.value if architectures and isinstance(architectures.value, list) else []
    classes = [str(c) for c in listed]
    if any(_CLASSIFIERS.search(c) for c in classes):
        return Inferred(Objective.CLASSIFICATION, Sign.ARCHITECTURE, classes[0])
    if any(_TOKEN_MODELS.search(c) for c in classes):
        return Inferred(Objective.LANGUAGE_MODEL, Sign.ARCHITECTURE, classes[0])
    task = str(other["task_type"].value) if "task_type" in other else ""
    if task.rpartition(".")[2] in _ADAPTERS:
        return Inferred(_ADAPTERS[task.rpartition(".")[2]], Sign.TASK_TYPE, task)
    if run.get(Role.TOKEN_ACCURACY) is not None:
        return Inferred(Objective.LANGUAGE_MODEL, Sign.TOKEN_ACCURACY)
    return None


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
