"""A sentence for each piece of evidence, and for each reason why a kind of evidence does not apply.

Sentences are templates of `str.format`, filled with the facts of the item, its role and the name of
its first run. Where one template is not enough, a function adds fields to the facts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ga_audit.finding import Axis, AxisReason, Comparison, Evidence, Method, NotApplicable, Reason, Window
from ga_audit.run import Run
from ga_audit.stats.theil_sen import theil_sen

Fields: TypeAlias = dict[str, Any]

METHODS: Mapping[Method, str] = {
    Method.RUN_LEVELS: "contrast of robust levels, random run effect",
    Method.RELEASE_MEANS: "contrast of the releases' mean levels",
}

STARTS: Mapping[str, str] = {
    "dpo": "ln 2, where DPO starts",
    "kto": "1/2, where KTO starts",
    "random-weights": "ln {size}, where a model with random weights starts",
    "labels": "ln 2, where yes and no of several labels start",
    "classes": "ln {size}, where {size} classes start",
}

SIGNS: Mapping[str, str] = {
    "trainer": "trainer {value!r}",
    "completion-lengths": "completion lengths are logged",
    "rewards-and-kl": "rewards, kl",
    "margins": "rewards/margins is logged",
    "rewards": "rewards are logged",
    "architecture": "architecture {value}",
    "task-type": "task_type {value} of the adapter",
    "token-accuracy": "token accuracy is logged",
    "none": "the log does not say what is minimised",
}

_SHAPES = {
    "dips": "dips as a sum would",
    "does-not-dip": "does not dip as a sum would",
    "open": "does not decide",
}

SENTENCES: Mapping[str, str] = {
    "accuracy_bound": (
        "loss of {run} is {loss:.3g}, {place} the {low:.2g} to {high:.2g} that a token accuracy of {accuracy:.3g} "
        "allows; divided by GA {over_ga:.3g}"
    ),
    "entropy_ratio": (
        "loss of {run} is {ratio:.3g} times its {expected} [{low:.2g}, {high:.2g}] ({points} points; GA is {ga})"
    ),
    "eval_gap": (
        "loss of {run} is {ratio:.3g} times its eval loss [{low:.2g}, {high:.2g}] "
        "(median of the last {used} of {evaluations} evaluations; GA is {ga})"
    ),
    "first_loss_anchor": "first loss of {run} (step {step:.0f}) is {loss:.4g}, {ratio:.3g} times {start}; GA is {ga}",
    "ga_change": (
        "{role} of {run} changes by x{factor:.3g} at step {step}, where GA goes from {from} to {to}: "
        "exponent on GA {exponent:.2f} [{low:.2f}, {high:.2f}]"
    ),
    "known_release": "{known}",
    "measurement": "measured: the logged {role} is {cells}, compared with that of the full batch",
    "ratio_regression": (
        "{role} of {last} is {ratio:.3g} times that of {first}; exponent {exponents} over {runs} runs, {points} points"
    ),
    "short_accumulation": (
        "where epochs of {run} end with {last} of {ga} micro-batches, its loss {shape} "
        "(depth {depth:.2f} +- {spread:.2f}, {points} points; 1 = a sum, 0 = none)"
    ),
    "sink_disagreement": (
        "loss of {run} in {first} is {ratio:.4g} times that in {second}; one of the two is scaled (GA is {ga})"
    ),
    "summary_loss": "logged losses of {run} are {ratio:.3g} times its train_loss on average; GA is {ga}",
    "version_contrast": (
        "{role} of {release} against the other releases: exponent on GA {exponent:.3f} [{low:.3f}, {high:.3f}]"
    ),
    "vocabulary_bound": (
        "loss of {run} is {loss:.3g} in its second half{trend}, {place} ln(vocabulary {vocabulary}) = {bound:.3g}; "
        "divided by GA {over_ga:.3g}"
    ),
}

_COMPARE_NORM = "Compare grad_norm, or measure with ga-audit repro."
_ADD_RUN = (
    "Add a run with another gradient_accumulation_steps and the same effective batch size, seed and data: "
    "ga-audit repro makes such runs on your stack."
)
_KEEP_CONFIG = "Keep the model's config.json (architectures) beside the log."

REASONS: Mapping[Reason, tuple[str, str]] = {
    Reason.COPY_OF_LOSS: ("perplexity of {run} is computed from its logged loss, so it is no independent measure", ""),
    Reason.FITS_ALL: ("loss of {run} is possible at its token accuracy under every hypothesis", ""),
    Reason.GA_CONSTANT: ("GA of {run} does not change", "A run resumed with another GA would show the step."),
    Reason.GA_IS_ONE: (
        "gradient_accumulation_steps is 1 in all runs: no release could differ by it",
        "Compare at GA 2 or more.",
    ),
    Reason.GA_UNKNOWN: (
        "gradient_accumulation_steps of {run} is unknown",
        "Give it: --ga '{run}=N'.",
    ),
    Reason.LATE_START: ("the log of {run} does not begin with the training", "Log from the first step."),
    Reason.START_UNKNOWN: (
        "the log of {run} does not show that its first line is the start of the training",
        "Log the step of each line, from the first one on.",
    ),
    Reason.WEIGHTS_UNKNOWN: ("the first loss of KTO depends on its weights, which {run} does not record", ""),
    Reason.LEARNED_BEFORE: (
        "first loss of {run} ({loss:.4g}) is below {start}: its head was trained before, or the loss is divided",
        "",
    ),
    Reason.LOGGED_AFTER_CLIPPING: (
        "norms of {run} pile up at their maximum: logged after clipping, they hide the gradient",
        "Log the norm before clipping (what clip_grad_norm_ returns), or measure with ga-audit repro.",
    ),
    Reason.LOGS_AGREE: ("{first} and {second} of {run} agree: both are right, or both are wrong", ""),
    Reason.MIXED_COUNTERS: (
        "the positions of {role} count different things in these runs",
        "Log the optimizer step in every run.",
    ),
    Reason.STEPS_UNKNOWN: (
        "the log of {run} does not say at which optimizer steps its losses are",
        "Log the optimizer step with the loss.",
    ),
    Reason.NOT_A_LANGUAGE_MODEL: ("the loss of {run} is not a language model's ({sign})", ""),
    Reason.NOT_LOGGED: ("no run logs {role}", "Log {role} in at least two runs."),
    Reason.NOT_POSITIVE: (
        "the loss of {run} is zero or negative: the logarithm of a ratio does not exist",
        _COMPARE_NORM,
    ),
    Reason.NO_COMMON_RANGE: ("the runs share no range of steps in {role}", "Log both runs from the first step on."),
    Reason.NO_COMMON_STEP: ("{run} has no loss and token accuracy below 1 at one step", ""),
    Reason.NO_ENTROPY: ("{run} logs neither entropy nor perplexity with its loss", ""),
    Reason.NO_EPOCHS: ("{run} logs no epochs beside its loss", ""),
    Reason.NO_EVAL_LOSS: (
        "{run} logs no {missing}",
        "Evaluate during training (eval_strategy=steps): the eval loss is a mean and shows a sum at once.",
    ),
    Reason.NO_KNOWN_START: ("the objective of {run} ({sign}) has no theoretical initial loss", ""),
    Reason.NO_POSITIVE_VALUE: (
        "{role} of {run} has no value above zero",
        "Compare grad_norm, or use ga-audit repro.",
    ),
    Reason.NO_SHORT_STEP: ("no epoch of {run} is known to end with fewer than GA micro-batches", ""),
    Reason.NO_SUMMARY_LOSS: ("{run} has no closing train_loss", ""),
    Reason.NO_TOKEN_ACCURACY: ("{run} has no token accuracy beside its loss, or its vocabulary size is unknown", ""),
    Reason.NO_VARIATION: ("GA and world size are the same in all runs", _ADD_RUN),
    Reason.OBJECTIVE_UNKNOWN: ("the loss of {run} is not known to be a language model's ({sign})", _KEEP_CONFIG),
    Reason.ONE_LOG: ("{run} has one log", ""),
    Reason.ONE_RUN_PER_RELEASE: (
        "no two runs are of the same release of the trainer",
        "See version_contrast for these runs.",
    ),
    Reason.RELEASES_NOT_COMPARABLE: ("no two releases have a usable {role}", "Log {role} in runs of both releases."),
    Reason.RELEASE_ELSEWHERE: (
        "{packages} does not compute the loss of {run}",
        "Give the release that trained it: --stack transformers==RELEASE.",
    ),
    Reason.RELEASE_UNKNOWN: (
        "{run} records no release of a trainer",
        "Give the release that trained it: --stack transformers==RELEASE.",
    ),
    Reason.SAME_RELEASE: (
        "the runs are not known to be of different releases of a trainer",
        "Run the same configuration on another release, or let ga-audit bisect do it.",
    ),
    Reason.SUMMARY_AFTER_RESUME: (
        "train_loss of {run} is {train_loss:g}: a training resumed after its end writes that",
        "",
    ),
    Reason.SUMMARY_AGREES: (
        "train_loss of {run} ({train_loss:.4g}) is the mean of its logged losses: it has their factor, if any",
        "",
    ),
    Reason.TOO_FEW_POINTS: ("fewer than {least} points of {series} on one side of step {step}", ""),
    Reason.TOO_FEW_RUNS: ("only {count} run has a usable {role}, and a ratio needs two", _ADD_RUN),
    Reason.TOO_NOISY: (
        "the loss of {run} varies too much to show a short step at the end of an epoch",
        "Log more often (logging_steps=1).",
    ),
    Reason.VOCABULARY_UNKNOWN: (
        "the vocabulary size of {run} is unknown",
        "Keep the model's config.json beside the log.",
    ),
}

# where a reason has a meaning of its own for one kind of evidence
BY_KIND: Mapping[tuple[str, Reason], tuple[str, str]] = {
    ("entropy_ratio", Reason.NOT_A_LANGUAGE_MODEL): ("{quantity} of {run} is not that of its loss ({sign})", ""),
    ("eval_gap", Reason.NO_COMMON_STEP): (
        "no evaluation of {run} lies where its loss is logged",
        "Log the loss at least as often as you evaluate.",
    ),
    ("sink_disagreement", Reason.NO_COMMON_STEP): (
        "{first} and {second} of {run} share fewer than {least} steps",
        "",
    ),
    ("vocabulary_bound", Reason.FITS_ALL): (
        "loss of {run} ({loss:.3g}) is below ln({vocabulary}) = {bound:.3g} under every hypothesis",
        "",
    ),
    ("vocabulary_bound", Reason.NOT_A_LANGUAGE_MODEL): (
        "the loss of {run} is not known to be a language model's ({sign})",
        "",
    ),
    ("vocabulary_bound", Reason.NO_POSITIVE_VALUE): ("the loss of {run} has no value above zero", ""),
}


def sentence(evidence: Evidence, runs: Sequence[Run]) -> str:
    """One sentence with the numbers of a piece of evidence.

    Parameters
    ----------
    evidence : of any kind; one without a template is shown as its facts.
    runs : all runs of the diagnosis, for their names.
    """
    names = {run.id: run.name for run in runs}
    fields = _fields(evidence.facts, evidence.role.value, evidence.runs, names)
    prepare = _PREPARE.get(evidence.kind)
    if prepare is not None:
        fields |= prepare(fields, names)
    template = SENTENCES.get(evidence.kind)
    if template is None:
        return f"{evidence.kind}: {', '.join(f'{name} {value}' for name, value in fields.items())}"
    return template.format_map(fields)


def not_applicable(item: NotApplicable, runs: Sequence[Run]) -> tuple[str, str]:
    """Why a kind of evidence does not apply, and what would make it apply; either may be empty.

    Parameters
    ----------
    item : the reason with its facts.
    runs : all runs of the diagnosis, for their names.
    """
    names = {run.id: run.name for run in runs}
    fields = _fields(item.facts, item.role.value if item.role else "", item.runs, names)
    fields["count"] = len(item.runs) or "no"
    why, remedy = BY_KIND.get((item.kind, item.reason)) or REASONS[item.reason]
    return why.format_map(fields), remedy.format_map(fields)


def window(found: Window | None) -> str:
    """The part of the training that was compared, and why."""
    if found is None:
        return ""
    if found.used == found.bins:
        return f"all {found.bins} bins: the ratio is stable"
    return f"the first {found.used} of {found.bins} bins: the ratio drifts after them"


def axis_reason(comparison: Comparison) -> str:
    """Why the runs were aligned on the axis of a comparison."""
    if comparison.axis_reason is AxisReason.LESS_DRIFT:
        other = Axis.SAMPLES if comparison.axis is Axis.STEP else Axis.STEP
        return f"the ratio drifts less on it than on {other.value}"
    if comparison.axis_reason is AxisReason.SAME_BATCH:
        return "the effective batch size is the same"
    return "the effective batch size is not known for all runs"


def cross_check(evidence: Evidence) -> str:
    """The Theil-Sen slope beside the model's exponent; empty where runs differ in more than one setting.

    The slope makes no assumption on the runs and has none of the model's allowances: it ignores
    what else differs between them.
    """
    comparison, estimate = evidence.comparison, evidence.estimate
    if comparison is None or estimate is None or evidence.further or estimate.method is not Method.RUN_LEVELS:
        return ""
    x = comparison.log_world if estimate.driver == "world_size" else comparison.log_ga
    slope = theil_sen(x, comparison.level)
    if slope is None:
        return ""
    if slope.interval95 is None:
        interval = f"no interval from {len(x)} runs"
    else:
        interval = f"[{_exponent(slope.interval95[0])}, {_exponent(slope.interval95[1])}]"
    low, high = estimate.interval.low, estimate.interval.high
    return (
        f"Theil-Sen slope {_exponent(slope.value)}, {interval}; the model's exponent "
        f"{_exponent(estimate.value)} [{_exponent(low)}, {_exponent(high)}]"
    )


def objective(facts: Mapping[str, Any]) -> str:
    """An objective and what it was inferred from."""
    return f"{facts['objective']}: {SIGNS[facts['sign']].format_map(facts)}"


def _fields(facts: Mapping[str, Any], role: str, runs: Sequence[str], names: Mapping[str, str]) -> Fields:
    """What a template is filled with: the facts, the role, the name of the first run."""
    first = names.get(runs[0], runs[0]) if runs else ""
    fields = {"role": role, "run": first, **facts}
    if "missing" in fields:
        fields["missing"] = fields["missing"].replace("_", " ")
    if "sign" in fields:
        fields["sign"] = SIGNS[fields["sign"]].format_map(fields)
    if "start" in fields:
        fields["start"] = STARTS[fields["start"]].format_map(fields)
    return fields


def _entropy_ratio(fields: Fields, names: Mapping[str, str]) -> Fields:
    return {"expected": "entropy" if fields["quantity"] == "entropy" else "ln(perplexity)"}


def _known_release(fields: Fields, names: Mapping[str, str]) -> Fields:
    stack = ", ".join(f"{package} {release}" for package, release in fields["stack"])
    if fields["bugs"]:
        bugs = ", ".join(f"{bug}{'' if sure else ' (if its conditions hold)'}" for bug, sure in fields["bugs"])
        return {"known": f"{stack} is known to mis-scale the {fields['role']}: {bugs}"}
    models = "many stock models, unusual ones" if fields["common"] else "unusual models"
    rest = ", ".join(fields["unusual"])
    tail = f" (for {models} or losses there are {rest})" if rest else ""
    return {"known": f"no bug of {stack} alone is known that scales the {fields['role']}{tail}"}


def _measurement(fields: Fields, names: Mapping[str, str]) -> Fields:
    return {"cells": ", ".join(f"x{factor:.3f} at {cell}" for cell, factor in fields["cells"])}


def _ratio_regression(fields: Fields, names: Mapping[str, str]) -> Fields:
    parts = []
    for driver, median, low, high in fields["exponents"]:
        name = "world size" if driver == "world_size" else "GA"
        parts.append(f"on {name} {_exponent(median)} [{low:.3f}, {high:.3f}]")
    ends = {end: names.get(fields[end], fields[end]) for end in ("first", "last")}
    return {**ends, "exponents": ", ".join(parts)}


def _short_accumulation(fields: Fields, names: Mapping[str, str]) -> Fields:
    return {"shape": _SHAPES[fields["shape"]]}


def _version_contrast(fields: Fields, names: Mapping[str, str]) -> Fields:
    return {"exponent": round(fields["exponent"], 3) + 0.0}


def _vocabulary_bound(fields: Fields, names: Mapping[str, str]) -> Fields:
    return {"trend": " and falling" if fields["falling"] else ""}


def _exponent(value: float) -> str:
    """Three decimals, without the sign of a negative zero."""
    return f"{round(value, 3) + 0.0:.3f}" if math.isfinite(value) else str(value)


_PREPARE: Mapping[str, Callable[[Fields, Mapping[str, str]], Fields]] = {
    "entropy_ratio": _entropy_ratio,
    "known_release": _known_release,
    "measurement": _measurement,
    "ratio_regression": _ratio_regression,
    "short_accumulation": _short_accumulation,
    "version_contrast": _version_contrast,
    "vocabulary_bound": _vocabulary_bound,
}
