"""The sentences of what follows from a diagnosis: whether to retrain, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from ga_audit.conclusion import (
    Action,
    ClippingEffect,
    Diagnosis,
    NextStep,
    OptimizerKind,
    Retrain,
    RetrainAnswer,
)
from ga_audit.output.wording import evidence, verdict
from ga_audit.output.wording._numbers import percent
from ga_audit.output.wording._sentence import Code, Sentence, code

_MAX_HYPOTHESES = 3


def retrain(answer: Retrain) -> Sentence:
    """The answer to "do I have to retrain?", with what is not known."""
    match answer.answer:
        case RetrainAnswer.NOT_SCALED:
            return ("No: nothing is mis-scaled that these logs show.",)
        case RetrainAnswer.UNSETTLED:
            return ("Not known yet: settle first whether anything is scaled.",)
        case RetrainAnswer.LOG_ONLY:
            return ("No: only the logged number is wrong, the gradients and so the training are right.",)
        case RetrainAnswer.UNKNOWN:
            why = "grad_norm does not decide it" if answer.logs_grad_norm else "the logs hold no grad_norm"
            most = "most releases that log a summed loss sum the gradient too"
            return (
                f"Not known: {why}, and {most}. ",
                code("ga-audit", "repro"),
                " measures it on the installed stack.",
            )
        case RetrainAnswer.GRADIENTS:
            return (" ".join((_clipping(answer), _optimizer(answer), *_weight_decay(answer))),)


def _clipping(answer: Retrain) -> str:
    if (share := answer.clipped) is not None:
        return (
            f"Clipping was altered: in {share.run} {percent(share.as_logged)} of the logged steps were above max_grad_norm "
            f"{share.max_grad_norm:g}, where {percent(share.as_corrected)} would have been; so the training was affected."
        )
    if answer.clipping is ClippingEffect.UNCHANGED:
        return "The share of clipped steps is the same as logged and as corrected, so clipping did not change it."
    return "max_grad_norm is not known, so the effect on clipping is not either."


def _optimizer(answer: Retrain) -> str:
    if answer.optimizer is OptimizerKind.UNKNOWN:
        return (
            "The optimizer is not known: with SGD the learning rate in effect was off by the same factor (retrain); "
            "with Adam the update hardly depends on the scale of the gradient (eps apart)."
        )
    if answer.optimizer is OptimizerKind.DEPENDENT:
        rate = ""
        if (r := answer.effective_rate) is not None:
            rate = f" ({r.learning_rate:g} x {r.factor:g} = {r.learning_rate * r.factor:g} in {r.run})"
        return (
            f"With {', '.join(answer.optimizers)} the learning rate in effect was off by the same factor{rate}: retrain, "
            "or judge the model by its eval loss."
        )
    if answer.clipping is ClippingEffect.CHANGED:
        return (
            "The optimizer is of the Adam kind: apart from clipping and eps its update hardly depends on the scale. "
            "Retrain if the runs are to be comparable with right ones; judge a finished model by its eval loss."
        )
    adam = "The optimizer is of the Adam kind, whose update hardly depends on the scale"
    if answer.clipping is ClippingEffect.UNCHANGED:
        return f"{adam}: no need to retrain."
    return f"{adam}: unless gradients were clipped there is no need to retrain."


def _weight_decay(answer: Retrain) -> Iterator[str]:
    if answer.weight_decay is None:
        return
    values = ", ".join(f"{value:g}" for value in answer.weight_decay)
    amount = f"Weight decay {values}" if values else "Weight decay, if there was any,"
    yield f"{amount} weighed less beside the larger gradient, or more beside the smaller one, by the same factor."


_BEFORE_COMMAND = {
    Action.WRITE_CORRECTED: "Write corrected curves beside the originals: ",
    Action.WRITE_REPORT: "Make an issue report with plots: ",
    Action.MEASURE: "Measure the real gradient on the installed stack: ",
    Action.MEASURE_INSTEAD: "Or measure it on the installed stack: ",
    Action.MEASURE_GRADIENTS: "To see the gradients too: ",
}


def next_steps(d: Diagnosis, hidden: frozenset[Action] = frozenset()) -> tuple[Sentence, ...]:
    """What to do next, without the `hidden` actions."""
    return tuple(next_step(step, d) for step in d.next_steps if step.action not in hidden)


def next_step(step: NextStep, d: Diagnosis) -> Sentence:
    """One of the next steps of a diagnosis."""
    command = Code(step.argv)
    match step.action:
        case Action.FIX_BUG:
            assert step.bug is not None
            return (f"{step.bug.bug}: {step.bug.fix}",)
        case Action.CHECK_BUG:
            assert step.bug is not None
            return (f"{step.bug.bug}: {verdict.bug_match(step.bug, d.verdict)}",)
        case Action.RESOLVE:
            assert step.not_applicable is not None
            return (evidence.not_applicable(step.not_applicable, d.runs)[1],)
        case Action.GIVE_GA:
            return ("Say gradient_accumulation_steps (N): ", command)
        case Action.LOG_MORE_STEPS:
            return (f"Log more steps: a run has {step.points} here, and the intervals narrow with their number.",)
        case Action.ADD_TO_TELL_APART:
            apart = " from ".join(step.hypotheses[:_MAX_HYPOTHESES])
            run = f"one run with gradient_accumulation_steps {step.ga} and world size {step.world_size}"
            return (f"To tell {apart}, add {run}, all else equal: ", command)
        case Action.ADD_OTHER_GA:
            return (_add_a_run("GA"),)
        case Action.ADD_OTHER_RANKS:
            return (_add_a_run("number of ranks (one GPU: CUDA_VISIBLE_DEVICES=0)"),)
        case _:
            return (_BEFORE_COMMAND[step.action], command)


def _add_a_run(other: str) -> str:
    return (
        f"Add one short run (5 logged steps are enough) with another {other} and everything else equal: the same "
        "effective batch size, data, seed and learning rate."
    )


def ask(step: NextStep) -> Sentence:
    """The command that supplies the GA of runs that were set aside."""
    some = f", of the first {step.shown} of {step.of} runs" if step.of > step.shown else ""
    return (f"Say gradient_accumulation_steps (N){some}: ", Code(step.argv))
