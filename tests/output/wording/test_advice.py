"""Every code has its sentence."""

import pytest
from conftest import twins

from ga_audit import pipeline
from ga_audit.conclusion import (
    Action,
    ClippingEffect,
    EffectiveRate,
    NextStep,
    OptimizerKind,
    Retrain,
    RetrainAnswer,
)
from ga_audit.finding import BugMatch, Fit, NotApplicable, Reason
from ga_audit.output.wording import advice
from ga_audit.output.wording._sentence import Code, in_backticks, unmarked

BUG = BugMatch(
    bug="GA001", fit=Fit.MATCHES, package="trl", releases_held=("0.12.0",), affected="==0.12.*", title="", fix="Upgrade.",
    retrain="", links=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def diagnosis():
    (found,) = pipeline.diagnose(twins(1))
    return found


@pytest.mark.parametrize("action", Action)
def test_every_action_has_a_sentence_with_its_command_at_the_end(action, diagnosis):
    argv = ("ga-audit", "inspect", "a b") if action in {Action.GIVE_GA, *advice._BEFORE_COMMAND} else ()
    step = NextStep(
        action=action,
        argv=argv,
        bug=BUG,
        not_applicable=NotApplicable(kind="ratio_regression", reason=Reason.NO_COMMON_RANGE),
    )
    *before, last = advice.next_step(step, diagnosis)
    if argv:
        assert (str(last), before[-1][-2:]) == ("ga-audit inspect 'a b'", ": ")
    else:
        assert last == Code(()) or last.endswith(".")


def test_hidden_actions_are_left_out(diagnosis):
    shown = advice.next_steps(diagnosis, frozenset({Action.WRITE_CORRECTED, Action.WRITE_REPORT}))
    assert [unmarked(step) for step in shown] == [
        "Measure the real gradient on the installed stack: ga-audit repro --ga 1,8"
    ]


@pytest.mark.parametrize("answer", RetrainAnswer)
def test_every_answer_on_retraining_has_a_sentence(answer):
    assert in_backticks(advice.retrain(Retrain(answer=answer))).endswith(".")


def test_sgd_gives_the_rate_in_numbers():
    answer = Retrain(
        answer=RetrainAnswer.GRADIENTS, clipping=ClippingEffect.UNCHANGED, optimizer=OptimizerKind.DEPENDENT,
        optimizers=("sgd",), effective_rate=EffectiveRate("ga8", 1e-3, 8.0), weight_decay=(0.1,),
    )  # fmt: skip
    assert unmarked(advice.retrain(answer)) == (
        "The share of clipped steps is the same as logged and as corrected, so clipping did not change it. "
        "With sgd the learning rate in effect was off by the same factor (0.001 x 8 = 0.008 in ga8): retrain, "
        "or judge the model by its eval loss. Weight decay 0.1 weighed less beside the larger gradient, or more "
        "beside the smaller one, by the same factor."
    )


def test_a_command_of_some_of_the_runs_says_so():
    step = NextStep(action=Action.GIVE_GA, argv=("ga-audit", "inspect", "runs"), shown=8, of=10)
    assert in_backticks(advice.ask(step)) == (
        "Say gradient_accumulation_steps (N), of the first 8 of 10 runs: `ga-audit inspect runs`"
    )
