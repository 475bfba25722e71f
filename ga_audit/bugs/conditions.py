"""The conditions under which a known bug occurs, and what logs answer to them.

An entry of the catalogue names conditions and the values that it needs. `CONDITIONS` lists every condition with the
values that it can take, so that a typo in an entry fails when the catalogue is loaded, and with the function that holds
it against runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from ga_audit.bugs import stock_models
from ga_audit.bugs.releases import within
from ga_audit.run import Role, Run


class ModelKind(StrEnum):
    """What a model's forward does with the loss arguments of the Trainer, as the Trainer sees it."""

    USES_COUNT = "accepts loss kwargs"
    IGNORES_COUNT = "forward has **kwargs and ignores num_items_in_batch"
    NO_KWARGS = "forward has no **kwargs"


class CustomLoss(StrEnum):
    """What a `compute_loss_func` of the user returns; NONE = there is none."""

    MEAN = "compute_loss_func returning a mean"
    BY_COUNT = "compute_loss_func dividing by the count"
    NONE = "none"


class TrainerKind(StrEnum):
    """Who computes the loss; STOCK = a trainer without a loss of the user."""

    STOCK = "stock"
    MEAN_LOSS = "subclass with its own compute_loss returning a mean"
    NO_COUNT = "subclass that takes no count"
    BY_COUNT = "subclass dividing by the count"
    PIPELINE_ENGINE = "PipelineEngine"
    FSDP_SFT = "FSDP SFT"
    SWIFT_GRPO = "GRPO with loss_type dapo, cispo or fipo"
    GKD = "GKDTrainer"
    DISTILLATION = "DistillationTrainer"


class LossType(StrEnum):
    """The `loss_type` of GRPO."""

    GRPO = "grpo"
    DR_GRPO = "dr_grpo"
    BNPO = "bnpo"
    DAPO = "dapo"
    CISPO = "cispo"


class Generations(StrEnum):
    """How `steps_per_generation` relates to GA across runs."""

    SHARED = "the same at every GA"
    OWN_GA = "gradient_accumulation_steps"


STOCK = TrainerKind.STOCK
Value = bool | int | str  # a StrEnum is a str
Answer = bool | None


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition.

    Attributes
    ----------
    kind : type of its values; None = a PEP 440 specifier.
    holds : whether runs meet a wanted value; None where the logs do not say.
    """

    kind: type[bool] | type[int] | type[StrEnum] | None
    holds: Callable[[Any, Sequence[Run]], Answer]

    def read(self, value: object) -> Value:
        """Return a value of an entry in its type.

        Raises
        ------
        ValueError
            The condition cannot have this value.
        """
        if self.kind is None:
            return _specifier(value)
        if issubclass(self.kind, StrEnum):
            return self.kind(str(value))
        if type(value) is not self.kind:
            raise ValueError(f"{value!r} is not a valid {self.kind.__name__}")
        return self.kind(value)


def _specifier(value: object) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(str(value))
    except InvalidSpecifier as error:
        raise ValueError(f"{value!r} is not a PEP 440 specifier") from error
    return str(value)


def read(when: Mapping[str, object]) -> Mapping[str, Value]:
    """Return the conditions of an entry, each in its type.

    Raises
    ------
    ValueError
        There is no such condition, or it cannot have this value.
    """
    found: dict[str, Value] = {}
    for name, value in when.items():
        if name not in CONDITIONS:
            raise ValueError(f"unknown condition {name!r}; choose from {', '.join(CONDITIONS)}")
        try:
            found[name] = CONDITIONS[name].read(value)
        except ValueError as error:
            raise ValueError(f"condition {name}: {error}") from error
    return MappingProxyType(found)


def condition(name: str, wanted: Any, runs: Sequence[Run]) -> Answer:
    """Whether a condition of a bug holds for the runs; None where the logs do not say."""
    return CONDITIONS[name].holds(wanted, runs)


# --- what logs answer -------------------------------------------------------------------------


def _each(
    observe: Callable[[Run], Value | None], *, of: Callable[[Sequence[Run]], Sequence[Run]] = list
) -> Callable[[Any, Sequence[Run]], Answer]:
    """Ask each run; there is an answer only where all of them have the same value."""

    def holds(wanted: Any, runs: Sequence[Run]) -> Answer:
        values = [observe(run) for run in of(runs)]
        if not values or any(value is None for value in values) or len(set(values)) != 1:
            return None
        return bool(values[0] == wanted)

    return holds


def _recorded(name: str, convert: Callable[[Any], Value]) -> Callable[[Run], Value | None]:
    """Read a setting of the run, if it is recorded."""

    def observe(run: Run) -> Value | None:
        known = run.settings.other.get(name)
        return None if known is None else convert(known.value)

    return observe


def _is_stock(of_stock: StrEnum) -> Callable[[Run], Value | None]:
    """Return what a stock trainer is; the loss of any other trainer is unknown."""

    def observe(run: Run) -> Value | None:
        known = run.settings.other.get("trainer")
        return of_stock if known is not None and known.value == STOCK else None

    return observe


def _trainer(wanted: TrainerKind, runs: Sequence[Run]) -> Answer:
    """A trainer that is known by the name of its class is the wanted one or is not."""
    by_name = wanted.endswith("Trainer")
    return _each(_recorded("trainer", str) if by_name else _is_stock(STOCK))(wanted, runs)


def _several_ranks(runs: Sequence[Run]) -> Sequence[Run]:
    """Only runs on several ranks say what ranks are; a run on one rank compared with them does not."""
    return [r for r in runs if r.settings.world_size is None or r.settings.ranks > 1] or runs


def _multi_rank(run: Run) -> Value | None:
    world_size = run.settings.world_size
    return None if world_size is None else world_size.value > 1


def _data_parallel(wanted: bool, runs: Sequence[Run]) -> Answer:
    """Ranks are processes unless a log says otherwise; they are never assumed to be devices."""

    def observe(run: Run) -> Value | None:
        if run.settings.world_size is not None and run.settings.ranks == 1:
            return False
        known = run.settings.other.get("data_parallel")
        if known is not None:
            return bool(known.value > 1)
        return None if wanted else False

    return _each(observe, of=_several_ranks)(wanted, runs)


def _transformers(wanted: str, runs: Sequence[Run]) -> Answer:
    def observe(run: Run) -> Value | None:
        known = run.settings.packages.get("transformers")
        return None if known is None else within(wanted, known.value)

    return _each(observe)(True, runs)


def _generations(wanted: Generations, runs: Sequence[Run]) -> Answer:
    shared = _share_generations(runs)
    return None if shared is None else (Generations.SHARED if shared else Generations.OWN_GA) == wanted


def _share_generations(runs: Sequence[Run]) -> Answer:
    """Whether runs of several GA share steps_per_generation; False where each run has its own GA, the default.

    Also False where nothing is generated: GRPO logs rewards, and a log with the learning rate in it is the whole log
    of a Trainer.
    """
    rewards = any("reward" in name for run in runs for name in run.names)
    if all(run.get(Role.LEARNING_RATE) for run in runs) and not rewards:
        return False
    known = [run.settings.other.get("steps_per_generation") for run in runs]
    values = [setting.value if setting else None for setting in known]
    gas = [run.settings.ga for run in runs]
    if None in values or None in gas:
        return None
    if values == gas:
        return False
    return True if len(set(values)) == 1 and len(set(gas)) > 1 else None


_MODEL_KINDS = {
    "uses": ModelKind.USES_COUNT,
    "ignores": ModelKind.IGNORES_COUNT,
    "none": ModelKind.NO_KWARGS,
}


def _model_kind(run: Run) -> Value | None:
    does = _loss_arguments(run)
    return None if does is None else _MODEL_KINDS.get(does)


def _loss_arguments(run: Run) -> str | None:
    """What the stock model of a run does with loss arguments in its release; None = not known.

    A log does not distinguish a stock model from a model of the user under the same name; with adapters, or where Liger
    replaces the forward, the stock answer does not apply. The class of the base checkpoint is the model's own class
    where the trainer is one of language models.

    Returns
    -------
    "uses", "ignores", "none" or None.
    """
    other = run.settings.other
    language_model = "trainer" in other and "sft" in str(other["trainer"].value).lower()
    architectures = other.get("architectures") or (other.get("base_architectures") if language_model else None)
    release = run.settings.packages.get("transformers")
    if architectures is None or release is None or any(other[n].value for n in ("lora", "liger") if n in other):
        return None
    names = architectures.value if isinstance(architectures.value, list) else [architectures.value]
    if len(names) != 1:
        return None
    does, problem = (
        stock_models.loss_arguments(str(names[0]), release.value),
        other.get("problem_type"),
    )
    if does == "uses" and stock_models.depends_on_problem_type(str(names[0])):
        if problem is None:
            return None
        return does if problem.value == "single_label_classification" else "ignores"
    return does


CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        "deepspeed": Condition(bool, _each(_recorded("deepspeed", bool))),
        "trainer": Condition(TrainerKind, _trainer),
        "custom_loss": Condition(CustomLoss, _each(_is_stock(CustomLoss.NONE))),
        "model": Condition(ModelKind, _each(_model_kind)),
        "label_smoothing": Condition(bool, _each(_recorded("label_smoothing_factor", lambda v: v > 0))),
        "average_tokens_across_devices": Condition(bool, _each(_recorded("average_tokens_across_devices", bool))),
        "data_parallel": Condition(bool, _data_parallel),
        "multi_rank": Condition(bool, _each(_multi_rank, of=_several_ranks)),
        "zero_stage": Condition(int, _each(_recorded("zero_stage", int))),
        "labels_in_batch": Condition(bool, lambda wanted, runs: None),  # no log says
        "liger": Condition(bool, _each(_recorded("liger", bool))),
        "steps_per_generation": Condition(Generations, _generations),
        "loss_type": Condition(LossType, _each(_recorded("loss_type", str))),
        # releases of transformers that a bug of another package needs
        "transformers": Condition(None, _transformers),
    }
)


def problems(when: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with the conditions of an entry; nothing if they are valid."""
    for name, value in when.items():
        try:
            read({name: value})
        except ValueError as error:
            yield str(error)
