"""What the conditions of a known bug ask of runs, and what the logs answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ga_audit.bugs import stock_models
from ga_audit.bugs.releases import within
from ga_audit.run import Role, Run

STOCK = "stock"  # a trainer without a loss of its own
# what an entry may ask of a run; a condition that the logs do not settle is named in the match
CONDITIONS = frozenset({
    "deepspeed", "trainer", "model", "label_smoothing", "custom_loss", "average_tokens_across_devices", "data_parallel",
    "zero_stage", "multi_rank", "labels_in_batch", "liger", "steps_per_generation",
    "loss_type",
    "transformers",  # releases of it that a bug of another package needs: a PEP 440 specifier
})  # fmt: skip


def condition(name: str, wanted: Any, runs: Sequence[Run]) -> bool | None:
    """Whether a condition of a bug holds for the runs; None where the logs do not say."""
    if name == "steps_per_generation":
        return _generations(runs)
    values: list[int | str | None] = []
    if name in {"data_parallel", "multi_rank"}:  # of runs that one rank is compared with, only those on several can say
        runs = [run for run in runs if run.settings.world_size is None or run.settings.ranks > 1] or runs
    for run in runs:
        other = run.settings.other
        if name == "deepspeed":
            known = other.get("deepspeed")
            values.append(None if known is None else bool(known.value))
        elif name == "label_smoothing":
            known = other.get("label_smoothing_factor")
            values.append(None if known is None else known.value > 0)
        elif name in {"average_tokens_across_devices", "liger"}:
            known = other.get(name)
            values.append(None if known is None else bool(known.value))
        elif name == "loss_type":
            known = other.get(name)
            values.append(None if known is None else str(known.value))
        elif name == "zero_stage":
            known = other.get(name)
            values.append(None if known is None else known.value)
        elif name == "transformers":
            known = run.settings.packages.get(name)
            values.append(None if known is None else wanted if within(wanted, known.value) else "other")
        elif name in {"trainer", "custom_loss"}:
            known = other.get("trainer")
            values.append(None if known is None or known.value != STOCK else STOCK)
        elif name == "model":
            does = _loss_arguments(run)
            values.append(None if does is None else _MODEL_KINDS.get(does))
        elif name == "data_parallel":
            known = other.get(name)
            alone = run.settings.world_size is not None and run.settings.ranks == 1
            # ranks are processes unless a log says otherwise; that they are devices is never taken for granted
            processes = None if wanted else False
            values.append(False if alone else processes if known is None else known.value > 1)
        elif name == "multi_rank":
            values.append(None if run.settings.world_size is None else run.settings.world_size.value > 1)
        else:
            return None
    if not values or any(v is None for v in values) or len(set(values)) != 1:
        return None
    return bool(values[0] == wanted)


def _generations(runs: Sequence[Run]) -> bool | None:
    """Whether runs of several GA share their steps_per_generation; False where it is each run's own GA, the default.

    False too where nothing is generated: GRPO logs rewards, and a log with the learning rate in it is a Trainer's whole one.
    """
    if all(run.get(Role.LEARNING_RATE) and not any("reward" in name for name in run.names) for run in runs):
        return False
    known = [run.settings.other.get("steps_per_generation") for run in runs]
    values, gas = [setting.value if setting else None for setting in known], [run.settings.ga for run in runs]
    if None in values or None in gas:
        return None
    if values == gas:
        return False
    return True if len(set(values)) == 1 and len(set(gas)) > 1 else None


_MODEL_KINDS = {
    "uses": "accepts loss kwargs", "ignores": "forward has **kwargs and ignores num_items_in_batch",
    "none": "forward has no **kwargs",
}  # fmt: skip


def _loss_arguments(run: Run) -> str | None:
    """What the stock model of a run does with loss arguments in its release: uses, ignores, none; None = not known.

    A model of its own under a stock name, one that adapters wrap, and one whose forward Liger replaces cannot be told
    from the log. The class of the checkpoint that it began as is its own where the trainer is one of language models.
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
    does, problem = stock_models.loss_arguments(str(names[0]), release.value), other.get("problem_type")
    if does == "uses" and stock_models.depends_on_problem_type(str(names[0])):
        if problem is None:
            return None
        return does if problem.value == "single_label_classification" else "ignores"
    return does
