"""What to tell the user: the headline, the reasons, whether to retrain, and what to do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ga_audit.finding import (
    BugMatch,
    ClipShare,
    Evidence,
    Finding,
    Hypothesis,
    Reach,
    Silence,
    Verdict,
)
from ga_audit.grouping import Group
from ga_audit.logs.settings import is_over_devices
from ga_audit.run import Role, Run, Setting, Trust

_WHAT = {Role.LOSS: "logged loss", Role.GRAD_NORM: "grad_norm"}
_SCALE_FREE = ("adam", "lion", "lamb", "adafactor", "adagrad", "rmsprop", "muon", "sophia")
_DECOUPLED = ("adamw", "lion", "adamw_torch", "sophia", "muon")  # their weight decay stands beside the gradient
_NONE: Setting[Any] = Setting(None, "", Trust.GUESSED)
_FEW = 5  # points of a run, below which more of them tell the most
_ALONE = ("known_release", "vocabulary_bound", "eval_gap")  # what a single run can still be given
_ASKED = 8  # runs whose GA one command asks for
_CLIP_CHANGED = 0.05  # a share of clipped steps that moves by more than this has changed the training


@dataclass(frozen=True, slots=True)
class Told:
    """Everything that advice is made from."""

    group: Group
    verdict: Verdict
    reach: Reach
    findings: tuple[Finding, ...]
    evidence: tuple[Evidence, ...]
    silences: tuple[Silence, ...]
    bugs: tuple[BugMatch, ...]
    clipping: tuple[ClipShare, ...]

    def found(self, role: Role) -> Hypothesis | None:
        """The hypothesis found for a role."""
        return next((f.hypothesis for f in self.findings if f.role is role), None)


def in_words(h: Hypothesis) -> str:
    """`summed over gradient_accumulation_steps`, for a sentence."""
    drivers: dict[tuple[float, float], str] = {
        (1, 0): "summed over gradient_accumulation_steps instead of averaged",
        (-1, 0): "divided by gradient_accumulation_steps once too often",
        (-2, 0): "divided by gradient_accumulation_steps twice too often",
        (0, 1): "summed over world_size instead of averaged",
        (0, -1): "divided by world_size once too often",
        (1, 1): "summed over gradient_accumulation_steps and world_size instead of averaged",
    }
    return drivers.get((h.ga, h.world), f"scaled by GA^{h.ga:g} x world_size^{h.world:g}")


def headline(told: Told, undecided: Mapping[Role, str]) -> str:
    """The verdict in one sentence."""
    loss, norm = told.found(Role.LOSS), told.found(Role.GRAD_NORM)
    if told.verdict is Verdict.HEALTHY:
        return _healthy_headline(told, undecided)
    if told.verdict is Verdict.INCONCLUSIVE:
        why = "; ".join(undecided.values()) or _nothing_to_scale(told) or _first_silence(told)
        return f"Inconclusive, because {why}."
    about = _about_some(told)
    if loss is not None and norm is not None and (loss.ga, loss.world) == (norm.ga, norm.world):
        return f"The logged loss and grad_norm are {in_words(loss)}{about}: the gradients themselves are affected."
    if loss is not None and norm is not None:
        return f"The logged loss is {in_words(loss)} and grad_norm is {in_words(norm)}{about}."
    if norm is not None and (Role.LOSS in undecided or not any(p.role is Role.LOSS for p in told.evidence)):
        return f"grad_norm is {in_words(norm)}{about}; these logs do not decide on the loss."
    if norm is not None:
        return f"The loss looks right, but grad_norm is {in_words(norm)}{about}: the dangerous kind."
    assert loss is not None
    if told.reach is Reach.LOG_ONLY:
        return f"Only the logged loss is {in_words(loss)}{about}; grad_norm is right."
    return f"The logged loss is {in_words(loss)}{about}; whether the gradients are too, these logs do not show."


def _about_some(told: Told) -> str:
    only = {f.runs for f in told.findings}
    if all(len(runs) == len(told.group.runs) for runs in only):
        return ""
    names = sorted({name for runs in only for name in runs})
    return f" in {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"


def _healthy_headline(told: Told, undecided: Mapping[Role, str]) -> str:
    gas = sorted({run.settings.ga for run in told.group.runs if run.settings.ga})
    spoken = {piece.role for piece in told.evidence if not piece.weak or piece.equivalent}
    quantities = " and ".join(_WHAT[r] for r in _WHAT if r in spoken and r not in undecided) or "the log"
    over = f" (GA {', '.join(map(str, gas))})" if gas else ""
    sentence = f"Healthy: {quantities} {'do' if ' and ' in quantities else 'does'} not scale with GA{over}."
    if Role.GRAD_NORM not in spoken:
        sentence += " Of the gradients these logs say nothing."
    elif Role.GRAD_NORM in undecided:
        sentence += " grad_norm alone stays undecided."
    return sentence


def _nothing_to_scale(told: Told) -> str:
    """Where one run has GA 1 and one rank, no sum over them changes anything."""
    runs = told.group.runs
    if (
        len(runs) != 1
        or runs[0].settings.ga != 1
        or (runs[0].settings.world_size and runs[0].settings.world_size.value > 1)
    ):
        return ""
    return "gradient_accumulation_steps is 1, where a sum and a mean are the same, and one run shows no other factor"


def _first_silence(told: Told) -> str:
    silences = _deciding(told)
    return silences[0].why if silences else "there is nothing to compare"


def _deciding(told: Told) -> list[Silence]:
    """Silences that kept a verdict from being spoken, those about the loss first; the rest only adds to one."""
    found = [s for s in told.silences if s.kind == "ratio_regression"] or list(told.silences)
    return sorted(found, key=lambda s: s.role is not Role.LOSS)


def _could_speak(told: Told) -> Iterator[str]:
    """What would let a silence speak: between runs where no ratio could, else of each run alone; more points for few."""
    between = [s for s in _deciding(told) if s.kind == "ratio_regression"] if len(told.group.runs) > 1 else []
    yield from (silence.remedy for silence in between if silence.remedy)
    if any(silence.role is not Role.GRAD_NORM for silence in between):
        return
    shortest = min((len(series) for run in told.group.runs if (series := run.get(Role.LOSS))), default=_FEW)
    if len(told.group.runs) > 1 and shortest < _FEW:
        yield f"Log more steps: a run has {shortest} here, and the intervals narrow with their number."
    alone = [s for s in told.silences if s.kind in _ALONE and s.remedy and s.role is not Role.GRAD_NORM]
    yield from list(dict.fromkeys(silence.remedy for silence in alone))[:2]


def reasons(told: Told, undecided: Mapping[Role, str]) -> tuple[str, ...]:
    """The lines of evidence that decided, strongest first; three at the most, one kind each."""

    def strength(piece: Evidence) -> float:
        values = list(piece.log_likelihood.values())
        return max(values) - min(values) if values else 0.0

    seen: set[tuple[str, Role]] = set()
    lines = []
    for piece in sorted(told.evidence, key=strength, reverse=True):
        if (piece.kind, piece.role) not in seen:
            seen.add((piece.kind, piece.role))
            lines.append(piece.summary)
    return tuple(lines[:3]) + tuple(f"{why[0].upper()}{why[1:]}." for why in undecided.values() if told.findings)


def retrain(told: Told) -> str:
    """The answer to "do I have to retrain?", with what is not known."""
    if told.verdict is Verdict.HEALTHY:
        return "No: nothing is mis-scaled that these logs show."
    if told.verdict is Verdict.INCONCLUSIVE:
        return "Not known yet: settle first whether anything is scaled."
    if told.reach is Reach.LOG_ONLY:
        return "No: only the logged number is wrong, the gradients and so the training are right."
    if told.reach is Reach.UNKNOWN:
        logged = any(run.get(Role.GRAD_NORM) for run in told.group.runs)
        why = "grad_norm does not decide it" if logged else "the logs hold no grad_norm"
        return (
            f"Not known: {why}, and most releases that log a summed loss sum the gradient "
            "too. `ga-audit repro` measures it on the installed stack."
        )
    return " ".join(_retrain_for_gradients(told))


def _retrain_for_gradients(told: Told) -> Iterator[str]:
    optimizers = {run.settings.optimizer.value.lower() for run in told.group.runs if run.settings.optimizer}
    clipped = [c for c in told.clipping if abs(c.as_logged - c.as_corrected) > _CLIP_CHANGED]
    if clipped:
        # of runs that are all clipped, the one whose gradient was changed most: that of the largest GA
        gas = {run.name: run.settings.ga or 1 for run in told.group.runs}
        worst = max(clipped, key=lambda c: (gas.get(c.run, 1), abs(c.as_logged - c.as_corrected)))
        yield (
            f"Clipping was altered: in {worst.run} {worst.as_logged:.0%} of the logged steps were above max_grad_norm "
            f"{worst.max_grad_norm:g}, where {worst.as_corrected:.0%} would have been; so the training was affected."
        )
    elif told.clipping:
        yield "The share of clipped steps is the same as logged and as corrected, so clipping did not change it."
    else:
        yield "max_grad_norm is not known, so the effect on clipping is not either."
    if not optimizers:
        yield "The optimizer is not known: with SGD the learning rate in effect was off by the same factor (retrain);"
        yield "with Adam the update hardly depends on the scale of the gradient (eps apart)."
    elif all(any(name in o for name in _SCALE_FREE) for o in optimizers):
        if clipped:
            yield "The optimizer is of the Adam kind: apart from clipping and eps its update hardly depends on the scale."
            yield "Retrain if the runs are to be comparable with right ones; judge a finished model by its eval loss."
        elif told.clipping:
            yield "The optimizer is of the Adam kind, whose update hardly depends on the scale: no need to retrain."
        else:
            yield "The optimizer is of the Adam kind, whose update hardly depends on the scale: unless gradients were"
            yield "clipped there is no need to retrain."
    else:
        yield f"With {', '.join(sorted(optimizers))} the learning rate in effect was off by the same factor"
        yield f"{_learning_rates(told)}: retrain, or judge the model by its eval loss."
    yield from _weight_decay(told, optimizers)


def _learning_rates(told: Told) -> str:
    """` (0.0001 x 8 = 0.0008 in ga8)`: of the run that is furthest off, where its learning rate is known."""
    norm = told.found(Role.GRAD_NORM)
    known = [r for r in told.group.runs if r.settings.learning_rate is not None and norm is not None]
    if norm is None or not known:
        return ""
    worst = max(known, key=lambda r: abs(norm.log_factor(r)))
    rate, factor = worst.settings.learning_rate, math.exp(norm.log_factor(worst))
    assert rate is not None
    return f" ({rate.value:g} x {factor:g} = {rate.value * factor:g} in {worst.name})"


def _weight_decay(told: Told, optimizers: set[str]) -> Iterator[str]:
    """Decoupled decay does not see the gradient; decay inside the gradient is as much weaker as the gradient is larger."""
    known = {float(run.settings.other["weight_decay"].value) for run in told.group.runs
             if isinstance(run.settings.other.get("weight_decay", _NONE).value, int | float)}  # fmt: skip
    if not optimizers or known == {0.0} or all(any(name in o for name in _DECOUPLED) for o in optimizers):
        return
    amount = (
        f"Weight decay {', '.join(f'{w:g}' for w in sorted(known))}" if known else "Weight decay, if there was any,"
    )
    yield f"{amount} weighed less beside the larger gradient, or more beside the smaller one, by the same factor."


def next_steps(told: Told, undecided: Mapping[Role, str]) -> tuple[str, ...]:
    """What to do next, most useful first; commands stand between backticks."""
    steps = list(dict.fromkeys(_steps(told, undecided)))
    return tuple(steps[:6])


def _steps(told: Told, undecided: Mapping[Role, str]) -> Iterator[str]:
    logs = _targets(told)
    if told.verdict is Verdict.SCALED:
        for bug in told.bugs:
            if bug.fit == "matches":
                yield f"{bug.bug}: {bug.fix}"
                break
        yield f"Write corrected curves beside the originals: `ga-audit fix {logs}`"
        yield f"Make an issue report with plots: `ga-audit report {logs} -o report/`"
        if told.reach is Reach.UNKNOWN or not any(b.fit == "matches" for b in told.bugs):
            yield f"Measure the real gradient on the installed stack: `{_repro(told)}`"
        return
    if told.verdict is Verdict.INCONCLUSIVE:
        missing = [run.name for run in told.group.runs if run.settings.ga is None]
        if missing:
            options = " ".join(f"--ga {shlex.quote(name + '=N')}" for name in missing[:4])
            yield f"Say gradient_accumulation_steps (N): `ga-audit inspect {logs} {options}`"
        # what waits for GA is asked for once
        yield from (step for step in _could_speak(told) if not (missing and "--ga " in step))
        for piece in told.evidence:
            for run in piece.detail.get("would_settle", ()):
                yield (
                    f"To tell {' from '.join(run['tied'][:3])}, add one run with gradient_accumulation_steps "
                    f"{run['gradient_accumulation_steps']} and world size {run['world_size']}, all else equal: "
                    f"`ga-audit repro --ga {run['gradient_accumulation_steps']} --world-size {run['world_size']}`"
                )
        if len(told.group.runs) < 2 or undecided:
            other = "number of ranks (one GPU: CUDA_VISIBLE_DEVICES=0)" if _only_ranks(told) else "GA"
            yield (
                f"Add one short run (5 logged steps are enough) with another {other} and everything else equal: the same "
                "effective batch size, data, seed and learning rate."
            )
        yield f"Or measure it on the installed stack: `{_repro(told)}`"
        return
    if told.reach is Reach.UNKNOWN:
        yield f"To see the gradients too: `{_repro(told)}`"
    from ga_audit.output.wording import bugs

    for bug in told.bugs:
        if bug.fit in {"affected-but-healthy", "possible"}:
            yield f"{bug.bug}: {bugs.why(bug)}"


def ask_for_ga(unknown: Sequence[Run], among: Sequence[Run], targets: Sequence[str]) -> str:
    """The sentence and the command that give the GA of runs.

    Parameters
    ----------
    unknown : the runs whose GA is not known.
    among : all runs of the call.
    targets : what the user asked for; the names of runs depend on it. Empty: the paths of the logs.
    """
    logs = " ".join(map(shlex.quote, targets)) or _logs(among)
    options = " ".join(f"--ga {_quoted(f'{run.name}=N')}" for run in unknown[:_ASKED])
    first = f", of the first {_ASKED} of {len(unknown)} runs" if len(unknown) > _ASKED else ""
    return f"Say gradient_accumulation_steps (N){first}: `ga-audit inspect {logs} {options}`"


def _quoted(word: str) -> str:
    quoted = shlex.quote(word)
    return quoted if quoted.startswith("'") else f"'{word}'"


def _targets(told: Told) -> str:
    return _logs(told.group.runs)


def _logs(runs: Sequence[Run]) -> str:
    """The logs of runs as the shortest thing that can be pasted."""
    import os.path

    paths = [source.path for run in runs for source in run.sources[:1] if source.path not in {"-", ""}]
    if not paths:
        return "LOGS"
    if len(paths) == 1:
        return shlex.quote(paths[0])
    try:
        top = os.path.commonpath(paths)
    except ValueError:
        top = ""
    return shlex.quote(top) if top not in {"", "/", "."} else " ".join(shlex.quote(p) for p in paths[:8])


def _repro(told: Told) -> str:
    gas = sorted({run.settings.ga for run in told.group.runs if run.settings.ga})
    wanted = gas if len(gas) > 1 else sorted({1, max([*gas, 1]) if max([*gas, 1]) > 1 else 8})
    engines = {"transformers", "trl", "axolotl", "llamafactory", "ms-swift", "accelerate"}
    packages = {name for run in told.group.runs for name in run.settings.packages}
    engine = " --engine transformers" if packages & engines else ""
    ranks = " --world-size 1,2" if _ranks(told) > 1 else ""
    ranks += " --data-parallel" if ranks and any(is_over_devices(run.settings) for run in told.group.runs) else ""
    return f"ga-audit repro{engine} --ga {','.join(map(str, wanted))}{ranks}"


def _ranks(told: Told) -> int:
    return max(run.settings.ranks for run in told.group.runs)


def _only_ranks(told: Told) -> bool:
    """Whether ranks are all that the runs could be scaled by."""
    return _ranks(told) > 1 and all(run.settings.ga == 1 for run in told.group.runs)
