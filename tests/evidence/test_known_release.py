import pytest
from evidence.single_runs import curve, evidence, language_model, one, ratio

from ga_audit import pipeline
from ga_audit.evidence import known_release
from ga_audit.finding import (
    DIVIDED_WORLD,
    SUMMED_GA,
    SUMMED_GA_WORLD,
    SUMMED_WORLD,
    Evidence,
    Reason,
    Verdict,
)
from ga_audit.grouping import Group
from ga_audit.run import Role


def stack(release, *, architecture="LlamaForCausalLM", deepspeed=False, **known):
    other = {"architectures": [architecture], "deepspeed": deepspeed}
    return language_model(packages={"transformers": release}, other=other, **known)


def test_a_release_whose_bug_applies_to_this_model_raises_the_odds():
    settled = evidence(known_release, stack("4.48.0"))
    assert ratio(settled) == pytest.approx(known_release.SETTLED)
    assert settled.facts["bugs"] == (("GA001", True),)
    assert settled.weak


def test_conditions_that_the_model_does_not_meet_take_it_away():
    # 4.48.0 divides right for a model without loss arguments
    assert ratio(evidence(known_release, stack("4.48.0", architecture="BertForSequenceClassification"))) < 0


def test_a_release_without_such_a_bug_lowers_them():
    assert ratio(evidence(known_release, stack("4.45.2"))) < 0
    assert ratio(evidence(known_release, stack("4.57.6"))) < 0


def test_it_never_decides_alone():
    for release in ("4.48.0", "4.45.2"):
        (diagnosis,) = pipeline.diagnose([stack(release, evaluations=0)])
        assert diagnosis.verdict is Verdict.INCONCLUSIVE
        assert diagnosis.findings == ()


def test_a_healthy_log_inside_the_window_stays_healthy():
    # six of eight real projects inside a window were healthy
    (diagnosis,) = pipeline.diagnose([stack("4.47.1", ga=8)])
    assert diagnosis.verdict is Verdict.HEALTHY


def test_with_the_gap_at_a_small_ga_it_convicts():
    (diagnosis,) = pipeline.diagnose([stack("4.48.0", ga=4, factor=4)])
    assert diagnosis.verdict is Verdict.SCALED
    assert diagnosis.bugs[0].bug == "GA001"


def test_the_perfect_curve_of_a_bug_in_the_gradient_alone_is_told_from_the_catalogue():
    run = stack("4.46.3", architecture="GPT2LMHeadModel", series=())
    (diagnosis,) = pipeline.diagnose([run])
    (note,) = [n for n in diagnosis.notes if n.code == "loss-cannot-show"]
    assert "GA003" in note.message
    assert "x8" in note.message
    assert ", if " not in note.message


def test_grad_norm_has_its_own_odds():
    from factories import make_series

    run = stack(
        "4.46.3", architecture="GPT2LMHeadModel", series=[make_series(Role.GRAD_NORM, curve(), range(10, 610, 10))]
    )
    by_role = {p.role: p for p in known_release.gather(Group((run,))) if isinstance(p, Evidence)}
    assert ratio(by_role[Role.LOSS]) <= 0
    assert ratio(by_role[Role.GRAD_NORM]) == pytest.approx(known_release.SETTLED)


def test_no_release_no_word():
    assert one(known_release, language_model()).reason is Reason.RELEASE_UNKNOWN


def of_model(release, architecture=None, trainer=None):
    other = {"deepspeed": False, "trainer": trainer or "stock", "label_smoothing_factor": 0.0, "lora": False}
    other |= {"architectures": [architecture]} if architecture else {}
    return language_model(packages={"transformers": release}, other=other)


def test_where_most_stock_models_sum_a_release_without_a_fault_of_its_own_says_nothing():
    """From 5.0 on more than half of them do; which model this is, the log does not say."""
    assert ratio(evidence(known_release, of_model("5.24.0"))) == 0
    assert evidence(known_release, of_model("5.24.0")).facts["common"] is True
    assert ratio(evidence(known_release, of_model("4.57.6"))) < 0
    assert ratio(evidence(known_release, of_model("5.24.0", trainer="SFTTrainer"))) < 0  # a language model
    assert ratio(evidence(known_release, of_model("5.24.0", "LlamaForCausalLM"))) < 0
    assert ratio(evidence(known_release, of_model("5.24.0", "BertForSequenceClassification"))) > 0


@pytest.mark.parametrize(("settings", "hypothesis"), [
    ({"ga": 1, "world_size": 2}, SUMMED_WORLD), ({"ga": 4, "world_size": 2}, SUMMED_GA_WORLD),
    ({"ga": 4, "world_size": 1}, SUMMED_GA),
])  # fmt: skip
def test_several_devices_of_a_process_count_where_ga_is_1(settings, hypothesis):
    devices = settings["world_size"]
    other = {
        "architectures": ["DistilBertForSequenceClassification"], "problem_type": "single_label_classification",
        "average_tokens_across_devices": True, **({"data_parallel": devices} if devices > 1 else {}),
    }  # fmt: skip
    run = language_model(packages={"transformers": "5.0.0"}, other=other, **settings)
    assert ratio(evidence(known_release, run), hypothesis) == pytest.approx(known_release.SETTLED)


@pytest.mark.parametrize(("release", "odds"), [("4.48.0", 0), ("4.49.0", 1), ("4.56.2", 1), ("4.57.0", 0)])
def test_devices_of_a_process_divided_by_all_items_before_4_57(release, odds):
    other = {"architectures": ["LlamaForCausalLM"], "data_parallel": 2, "deepspeed": False, "trainer": "stock"}
    run = language_model(ga=1, world_size=2, packages={"transformers": release}, other=other)
    found = ratio(evidence(known_release, run), DIVIDED_WORLD)
    assert (found == pytest.approx(known_release.SETTLED)) is bool(odds)


@pytest.mark.parametrize(("other", "odds"), [({}, 0.0), ({"data_parallel": 1}, -known_release.NONE_KNOWN)])
def test_ranks_that_may_be_devices_are_not_held_against_their_bug(other, odds):
    """W&B and TensorBoard do not tell GPUs of one process from processes; training_args.bin does."""
    known = {
        "architectures": ["LlamaForCausalLM"],
        "deepspeed": False,
        "trainer": "stock",
        "label_smoothing_factor": 0.0,
    }
    run = language_model(ga=1, world_size=2, packages={"transformers": "4.52.4"}, other={**known, **other})
    assert ratio(evidence(known_release, run), DIVIDED_WORLD) == pytest.approx(odds)


@pytest.mark.parametrize("packages", [
    {"deepspeed": "0.15.4"}, {"liger-kernel": "0.5.2"}, {"trl": "0.12.0", "deepspeed": "0.15.4"},
])  # fmt: skip
def test_a_release_of_a_package_that_computes_no_loss_is_no_evidence(packages):
    found = one(known_release, language_model(packages=packages))
    assert (found.reason, found.facts) == (Reason.RELEASE_ELSEWHERE, {"packages": ", ".join(sorted(packages))})
    with_the_trainer = language_model(packages={"transformers": "4.45.2", **packages})
    assert ratio(evidence(known_release, with_the_trainer)) < 0
