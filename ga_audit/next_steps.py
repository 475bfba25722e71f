"""What to do next about a group of runs: the steps in their order, and the commands as argument lists."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ga_audit.conclusion import Action, NextStep, Undecided
from ga_audit.evidence._objective import Sign, objective
from ga_audit.finding import BugMatch, Evidence, Finding, Fit, Impact, NotApplicable, Reason, Verdict
from ga_audit.grouping import Group
from ga_audit.logs.settings import is_over_devices
from ga_audit.run import Role, Run

_MAX_STEPS = 6
_FEW_POINTS = 5  # of a run: below it, more of them narrow the intervals most
_ON_ONE_RUN = ("known_release", "vocabulary_bound", "eval_gap")  # evidence that one run can still be given
_BETWEEN_RUNS = "ratio_regression"
_MAX_ASKED = 8  # runs whose GA one command asks for
_MAX_NAMED = 4  # the same, in a diagnosis
_MAX_PATHS = 8
_ENGINES = frozenset({"transformers", "trl", "axolotl", "llamafactory", "ms-swift", "accelerate"})
_OTHER_TRAINERS = frozenset({"lightning", "pytorch-lightning", "megatron-core", "torchtune", "litgpt"})
_TRL_VARIANTS = {"grpo": "grpo", "dpo": "dpo", "kto": "kto", "reward": "reward", "sft": "sft"}  # by class name
_YOUR_COMMAND = (
    "python train.py --accumulate {gradient_accumulation_steps} --batch-size {micro_batch_size} --out {output_dir}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is concluded about a group, as far as the next steps depend on it."""

    group: Group
    verdict: Verdict
    impact: Impact
    findings: tuple[Finding, ...]
    evidence: tuple[Evidence, ...]
    not_applicable: tuple[NotApplicable, ...]
    undecided: Mapping[Role, Undecided]
    bugs: tuple[BugMatch, ...]
    measured: bool = False  # the real gradient, by `repro`


def next_steps(situation: Situation) -> tuple[NextStep, ...]:
    """Return what to do next, most useful first."""
    steps = {
        Verdict.SCALED: _if_scaled, Verdict.INCONCLUSIVE: _if_inconclusive, Verdict.HEALTHY: _if_healthy,
    }[situation.verdict]  # fmt: skip
    distinct: list[NextStep] = []
    remedies: set[object] = set()
    for step in steps(situation):
        item = step.not_applicable
        if step in distinct or (item is not None and _remedy_of(item) in remedies):
            continue
        if item is not None:
            remedies.add(_remedy_of(item))
        distinct.append(step)
    return tuple(distinct[:_MAX_STEPS])


# what the user can supply for evidence on one run; other reasons have no remedy
_RESOLVABLE = frozenset({
    Reason.GA_UNKNOWN, Reason.NO_COMMON_STEP, Reason.NO_EVAL_LOSS, Reason.OBJECTIVE_UNKNOWN, Reason.RELEASE_UNKNOWN,
    Reason.RELEASE_ELSEWHERE, Reason.VOCABULARY_UNKNOWN,
})  # fmt: skip
_ADD_A_RUN = frozenset({Reason.TOO_FEW_RUNS, Reason.NO_VARIATION})  # both ask for another run
_OF_A_QUANTITY = frozenset({Reason.NOT_LOGGED})  # the remedy names the quantity


def _remedy_of(item: NotApplicable) -> object:
    """What tells one remedy from another."""
    if item.reason in _ADD_A_RUN:
        return _ADD_A_RUN
    return (item.reason, item.role) if item.reason in _OF_A_QUANTITY else item.reason


def deciding(not_applicable: Sequence[NotApplicable]) -> list[NotApplicable]:
    """What kept the evidence that decides from applying, the loss first."""
    between = [item for item in not_applicable if item.kind == _BETWEEN_RUNS]
    return sorted(between or not_applicable, key=lambda item: item.role is not Role.LOSS)


def ask_for_ga(unknown: Sequence[Run], among: Sequence[Run], targets: Sequence[str]) -> NextStep:
    """Return the command that supplies the GA of runs.

    Parameters
    ----------
    unknown : the runs whose GA is unknown.
    among : all runs of the call.
    targets : of the call, on which names of runs depend; empty = the paths of the logs.
    """
    return _give_ga(unknown, tuple(targets) or _logs(among), at_most=_MAX_ASKED)


def _give_ga(unknown: Sequence[Run], logs: Sequence[str], *, at_most: int) -> NextStep:
    options = [word for run in unknown[:at_most] for word in ("--ga", f"{run.name}=N")]
    return NextStep(
        action=Action.GIVE_GA, argv=("ga-audit", "inspect", *logs, *options),
        shown=min(len(unknown), at_most), of=len(unknown),
    )  # fmt: skip


# --- by verdict -------------------------------------------------------------------------------


def _if_scaled(now: Situation) -> Iterator[NextStep]:
    logs = _logs(now.group.runs)
    matching = [bug for bug in now.bugs if bug.fit is Fit.MATCHES]
    for bug in matching if now.measured else matching[:1]:
        yield NextStep(action=Action.FIX_BUG, bug=bug)
    if now.findings:  # without one there is nothing to divide by
        yield NextStep(action=Action.WRITE_CORRECTED, argv=("ga-audit", "fix", *logs))
    yield NextStep(action=Action.WRITE_REPORT, argv=("ga-audit", "report", *logs, "-o", "report/"))
    if not now.measured and (now.impact is Impact.UNKNOWN or not matching):
        yield NextStep(action=Action.MEASURE, argv=_repro(now.group.runs))


def _if_inconclusive(now: Situation) -> Iterator[NextStep]:
    runs = now.group.runs
    unknown = [run for run in runs if run.settings.ga is None]
    if unknown:
        yield _give_ga(unknown, _logs(runs), at_most=_MAX_NAMED)
    for step in _what_would_decide(now):
        asks = step.not_applicable.reason if step.not_applicable is not None else None
        if not (unknown and asks is Reason.GA_UNKNOWN):  # one command asks for all of them
            yield step
    yield from _what_would_tell_apart(now.evidence)
    if len(runs) < 2 or now.undecided:
        yield NextStep(action=Action.ADD_OTHER_RANKS if _only_ranks(runs) else Action.ADD_OTHER_GA)
    yield NextStep(action=Action.MEASURE_INSTEAD, argv=_repro(runs))


def _if_healthy(now: Situation) -> Iterator[NextStep]:
    if now.impact is Impact.UNKNOWN:
        yield NextStep(action=Action.MEASURE_GRADIENTS, argv=_repro(now.group.runs))
    for bug in now.bugs:
        if bug.fit in {Fit.HEALTHY, Fit.POSSIBLE}:
            yield NextStep(action=Action.CHECK_BUG, bug=bug)


def _what_would_decide(now: Situation) -> Iterator[NextStep]:
    """Remedies of a comparison between runs where there are several, else of evidence on each run."""
    several = len(now.group.runs) > 1
    between = [s for s in deciding(now.not_applicable) if s.kind == _BETWEEN_RUNS] if several else []
    yield from (NextStep(action=Action.RESOLVE, not_applicable=s) for s in between)
    if any(item.role is not Role.GRAD_NORM for item in between):
        return
    losses = [series for run in now.group.runs if (series := run.get(Role.LOSS))]
    shortest = min((len(series) for series in losses), default=_FEW_POINTS)
    if several and shortest < _FEW_POINTS:
        yield NextStep(action=Action.LOG_MORE_STEPS, points=shortest)
    alone: dict[object, NotApplicable] = {}
    for item in now.not_applicable:
        if item.kind in _ON_ONE_RUN and item.reason in _RESOLVABLE and item.role is not Role.GRAD_NORM:
            alone.setdefault(_remedy_of(item), item)
    yield from (NextStep(action=Action.RESOLVE, not_applicable=s) for s in list(alone.values())[:2])


def _what_would_tell_apart(evidence: Sequence[Evidence]) -> Iterator[NextStep]:
    for piece in evidence:
        for run in piece.comparison.settling if piece.comparison else ():
            ga, ranks = run.ga, run.world_size
            yield NextStep(
                action=Action.ADD_TO_TELL_APART, hypotheses=tuple(h.name for h in run.tied), ga=ga, world_size=ranks,
                argv=("ga-audit", "repro", "--ga", str(ga), "--world-size", str(ranks)),
            )  # fmt: skip


# --- commands ---------------------------------------------------------------------------------


def _logs(runs: Sequence[Run]) -> tuple[str, ...]:
    """The logs of runs as the fewest words of a command."""
    paths = [source.path for run in runs for source in run.sources[:1] if source.path not in {"-", ""}]
    if len(paths) < 2:
        return tuple(paths) or ("LOGS",)
    try:
        top = os.path.commonpath(paths)
    except ValueError:
        top = ""
    return (top,) if top not in {"", "/", "."} else tuple(paths[:_MAX_PATHS])


def _repro(runs: Sequence[Run]) -> tuple[str, ...]:
    gas = sorted({run.settings.ga for run in runs if run.settings.ga})
    wanted = gas if len(gas) > 1 else sorted({1, max([*gas, 1]) if max([*gas, 1]) > 1 else 8})
    values = ("--ga", ",".join(map(str, wanted)))
    if any(objective(run).sign is Sign.COMPLETION_LENGTHS for run in runs):
        return ("ga-audit", "repro", "--engine", "trl", "--variant", "grpo", *values)
    if all(map(_is_own_loop, runs)):
        return ("ga-audit", "repro", *values, "--script", _YOUR_COMMAND)
    words = ["ga-audit", "repro", *_engine(runs), *values]
    if _most_ranks(runs) > 1:
        words += ["--world-size", "1,2"]
        words += ["--data-parallel"] if any(is_over_devices(run.settings) for run in runs) else []
    return tuple(words)


def _engine(runs: Sequence[Run]) -> tuple[str, ...]:
    """The engine and variant of the trainer of the runs; without them, `repro` trains with transformers."""
    trainers = {str(t.value).lower() for run in runs if (t := run.settings.other.get("trainer"))}
    variants = [v for word, v in _TRL_VARIANTS.items() if any(word in trainer for trainer in trainers)]
    if variants:
        return ("--engine", "trl", "--variant", variants[0])
    known = any(run.settings.packages.keys() & _ENGINES for run in runs)
    return ("--engine", "transformers") if known else ()


def _is_own_loop(run: Run) -> bool:
    """Whether a trainer without an engine wrote the log: no package, file or column is of a Hugging Face one."""
    if run.settings.packages.keys() & _OTHER_TRAINERS and not run.settings.packages.keys() & {"trl"}:
        return True
    settings = run.settings
    known = settings.packages or "trainer" in settings.other or settings.learning_rate is not None
    # every Trainer logs the epoch with each loss
    return not known and bool(run.series) and run.get(Role.EPOCH) is None


def _most_ranks(runs: Sequence[Run]) -> int:
    return max(run.settings.ranks for run in runs)


def _only_ranks(runs: Sequence[Run]) -> bool:
    """Whether nothing but ranks could scale the runs."""
    return _most_ranks(runs) > 1 and all(run.settings.ga == 1 for run in runs)
