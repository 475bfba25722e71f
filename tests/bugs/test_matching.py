"""Known bugs held against what was found."""

import dataclasses

import numpy as np
import pytest
from factories import make_series, twins

from ga_audit import pipeline
from ga_audit.bugs import matching
from ga_audit.conclusion import Action
from ga_audit.finding import Fit, RetrainRule, Verdict
from ga_audit.output.wording import verdict as wording
from ga_audit.run import Note, Role, Setting, Trust


def matches(runs):
    (diagnosis,) = pipeline.diagnose(runs)
    return {b.bug: b.fit.value for b in diagnosis.bugs}


def test_a_finding_is_named_when_release_and_signature_agree():
    found = matches(twins(1, packages={"transformers": "4.48.0"}))
    assert next(iter(found.items())) == ("GA001", "matches")


def test_the_signature_decides_between_bugs_of_one_release():
    found = matches(twins(0, 1, packages={"transformers": "4.47.0"}))
    assert "GA001" not in found
    assert found["GA003"] == "possible"  # which kind of model it was, the logs do not say


def test_a_release_outside_the_range_is_said_to_be():
    assert matches(twins(0, -2, packages={"deepspeed": "0.18.4"})) == {"GA011": "outside-range"}


def test_a_healthy_log_of_an_affected_release():
    assert matches(twins(0, packages={"deepspeed": "0.18.3"})) == {"GA011": "affected-but-healthy"}


def test_conditions_that_the_logs_contradict_rule_a_bug_out():
    runs = twins(1, packages={"transformers": "4.51.3"}, other={"label_smoothing_factor": 0.0})
    assert "GA009" not in matches(runs)
    runs = twins(1, packages={"transformers": "4.51.3"}, other={"label_smoothing_factor": 0.1})
    assert matches(runs)["GA009"] == "matches"


@pytest.mark.parametrize(("names", "possible"), [
    ((), True), (("learning_rate",), False), (("learning_rate", "reward"), True), (("reward",), True),
])  # fmt: skip
def test_a_bug_of_generated_rewards_is_none_of_a_training_that_logs_none(names, possible):
    logged = [
        make_series(Role.LEARNING_RATE, np.full(40, 1e-3), range(1, 41)) for name in names if name == "learning_rate"
    ]
    unused = tuple(Note("no-role", f"{name!r} has no role here", name) for name in names if name == "reward")
    runs = [
        dataclasses.replace(run, series=(*run.series, *logged), left_out=unused)
        for run in twins(1, packages={"trl": "0.29.1"})
    ]
    assert ("GA025" in matches(runs)) is possible


@pytest.mark.parametrize(("transformers", "liger_kernel", "used", "fit"), [
    ("4.46.3", "0.3.1", True, "matches"), ("4.46.3", "0.3.1", False, None), ("4.46.3", "0.4.0", True, "outside-range"),
    ("4.48.3", "0.3.1", True, None), ("4.46.1", "0.3.1", True, None),  # 4.46.1 scales the loss too
])  # fmt: skip
def test_a_bug_between_two_packages_needs_both_releases_and_their_use(transformers, liger_kernel, used, fit):
    runs = twins(
        0,
        1,
        packages={"transformers": transformers, "liger-kernel": liger_kernel},
        other={"liger": used, "deepspeed": False},
    )
    assert matches(runs).get("GA022") == fit


def test_at_ga_1_on_one_rank_no_bug_is_possible():
    assert matches([twins(0, packages={"transformers": "4.46.2"}, gas=(1,))[0]]) == {}
    assert "GA003" in matches([twins(0, packages={"transformers": "4.46.2"}, gas=(8,))[0]])


def _over(world, devices=None, release="4.52.4"):
    """Twins at GA 1 and 8 on so many ranks, whose loss is divided by them; devices: what training_args.bin says."""
    other = {
        "architectures": ["LlamaForCausalLM"],
        "deepspeed": False,
        "trainer": "stock",
        "label_smoothing_factor": 0.0,
    }
    if devices is not None:
        other["data_parallel"] = devices
    runs = twins(0, packages={"transformers": release}, other=other)
    return [
        dataclasses.replace(
            run,
            id=f"{run.id}-{world}", name=f"{run.name}-{world}", training=f"{run.name}-{world}",
            settings=dataclasses.replace(run.settings, world_size=Setting(world, "t", Trust.GIVEN)),
            series=tuple(dataclasses.replace(s, value=s.value / world) for s in run.series),
        )
        for run in runs
    ]  # fmt: skip


def test_one_gpu_against_two_of_a_process_names_the_bug():
    """The run of one device has nothing to say of what the ranks of the other are; the bug that fits is told first."""
    (diagnosis,) = pipeline.diagnose([*_over(1, 1), *_over(2, 2)])
    assert diagnosis.verdict is Verdict.SCALED
    assert (diagnosis.bugs[0].bug, diagnosis.bugs[0].fit) == ("GA026", Fit.MATCHES)
    measure = [step.argv for step in diagnosis.next_steps if step.action is Action.MEASURE]
    assert all(argv[-3:] == ("--world-size", "1,2", "--data-parallel") for argv in measure)


def test_of_what_is_possible_the_bug_that_needs_nothing_more_is_told_first():
    found = matching.match(_over(2, 2), [], Verdict.INCONCLUSIVE)
    assert (found[0].bug, found[0].fit) == ("GA026", Fit.POSSIBLE)
    assert found[0].open == ()
    assert len(found) > 1


@pytest.mark.parametrize(("exponent", "release", "trainer", "found"), [
    (1, "1.6.0", "GKDTrainer", {"GA031": "matches"}), (1, "1.6.0", "SFTTrainer", {}),
    (1, "1.7.1", "GKDTrainer", {"GA031": "outside-range", "GA033": "outside-range"}),
    (1, "1.6.0", "DistillationTrainer", {"GA033": "matches"}),
    (-1, "1.8.0", "DistillationTrainer", {"GA032": "matches"}), (-1, "1.9.0", "DistillationTrainer", {"GA032": "outside-range"}),
])  # fmt: skip
def test_distillation_in_trl(exponent, release, trainer, found):
    runs = twins(exponent, packages={"trl": release}, other={"trainer": trainer, "loss_type": "grpo"})
    assert {k: v for k, v in matches(runs).items() if k in ("GA031", "GA032", "GA033")} == found


def facts(match):
    return (
        match.fit,
        match.measured,
        match.package,
        match.releases_held,
        match.affected,
        match.open,
        match.retrain,
    )


def test_a_match_holds_facts_and_its_sentence_is_made_of_them():
    def of(name, runs):
        (diagnosis,) = pipeline.diagnose(runs)
        match = next(match for match in diagnosis.bugs if match.bug == name)
        return facts(match), wording.bug_match(match, diagnosis.verdict)

    no_kwargs = ("model", "forward has no **kwargs")
    summed = RetrainRule.SUMMED_OVER_GA
    assert of("GA003", twins(0, 1, packages={"transformers": "4.47.0"})) == (
        (Fit.POSSIBLE, False, "transformers", ("4.47.0",), ">=4.46.2,<=4.47.0",
         (no_kwargs, ("deepspeed", "False")), summed),
        "transformers 4.47.0 is affected (>=4.46.2,<=4.47.0) and the signature fits; not recorded: model = forward has "
        "no **kwargs, deepspeed = False.",
    )  # fmt: skip
    assert of("GA011", twins(0, -2, packages={"deepspeed": "0.18.4"})) == (
        (
            Fit.OUTSIDE_RANGE,
            False,
            "deepspeed",
            ("0.18.4",),
            "==0.18.3",
            (),
            RetrainRule.DIVIDED_BY_GA,
        ),
        "The signature fits, but deepspeed 0.18.4 is outside ==0.18.3.",
    )
    assert of("GA011", twins(0, packages={"deepspeed": "0.18.3"})) == (
        (
            Fit.HEALTHY,
            False,
            "deepspeed",
            ("0.18.3",),
            "==0.18.3",
            (),
            RetrainRule.DIVIDED_BY_GA,
        ),
        "deepspeed 0.18.3 is affected, but these logs are healthy.",
    )


def test_a_measured_bug_is_a_match():
    match = matching.match_measured("GA029", {"transformers": "5.3.0", "torch": "2.13.0"})
    assert facts(match) == (
        Fit.MATCHES, True, "transformers", ("5.3.0",), ">=5.2.0,<=5.5.3", (), RetrainRule.DIVIDED_BY_GA,
    )  # fmt: skip
    assert match.fix == "Upgrade transformers to 5.5.4 or later, or use 5.1.0."
    assert wording.bug_match(match, Verdict.SCALED) == "Measured: this stack shows the effect of the bug."
