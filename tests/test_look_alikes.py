"""What looks like a sum over gradient accumulation and is none: no such run may be called scaled by GA."""

import numpy as np
import pytest
from conftest import make_run
from evidence.single_runs import LANGUAGE_MODEL, VOCABULARY, beside, curve, language_model

from ga_audit import pipeline
from ga_audit.conclusion import UndecidedReason
from ga_audit.finding import Verdict
from ga_audit.run import Role

ASR = {"architectures": ["Wav2Vec2ForCTC"]}
CLASSIFIER = {"architectures": ["ViTForImageClassification"], "num_labels": 10}
rng = np.random.default_rng(3)


def spiked():
    loss = curve()
    loss[:6] *= np.array([9, 8, 6, 4, 3, 2])
    return loss


CASES = {
    # a sum over 8 logged steps, by a loop of one's own, at GA 8: nothing tells it from a sum over GA
    "sum over logging_steps": language_model(factor=8, logging_steps=8, evaluations=0, vocab_size=500),
    "sum over the batch": language_model(factor=8, micro_batch_size=8, evaluations=0, vocab_size=500),
    # eval is summed too: the loss function does it
    "sum over the batch, eval too": language_model(loss=8 * curve(), micro_batch_size=8),
    "sum over tokens": language_model(factor=4096, vocab_size=VOCABULARY, evaluations=0),
    "sum over tokens, eval too": language_model(loss=4096 * curve(), vocab_size=VOCABULARY),
    "AMP loss scale": language_model(factor=65_536, vocab_size=VOCABULARY),
    "DPO": make_run("r", ga=8, loss=0.69 * curve() / 2.4, other={"trainer": "DPOTrainer"}),
    "KTO": make_run("r", ga=8, loss=0.5 * curve() / 2.4, other={"trainer": "KTOTrainer"}),
    "GRPO": make_run("r", ga=8, loss=rng.normal(0, 0.05, 60), other={"trainer": "GRPOTrainer"},
                     series=[beside(Role.ENTROPY, 0.4)]),
    "auxiliary loss of a mixture of experts": language_model(loss=curve(), gap=1 / 1.6, ga=2),
    "label smoothing": language_model(factor=1.5, ga=2, packages={"transformers": "5.15.0"}),
    "dropout": language_model(factor=1.4, ga=2),
    "augmentation": language_model(factor=4, ga=4, other=ASR),
    "mixup": language_model(loss=curve(start=0.3, end=0.2), factor=8, ga=8, other=CLASSIFIER),
    "an easier eval set": language_model(factor=1.8, ga=2),
    "warm-up spike": language_model(loss=spiked()),
    "overfitting": language_model(loss=curve(start=2.4, end=0.1), gap=4),
    "dead model": make_run("r", ga=8, loss=np.full(60, np.log(VOCABULARY)), other=LANGUAGE_MODEL, vocab_size=VOCABULARY),
    "diverged": language_model(loss=np.concatenate([curve(20), np.full(40, 14.0)]), vocab_size=VOCABULARY, evaluations=0),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_look_alike_is_called_scaled(case):
    (diagnosis,) = pipeline.diagnose([CASES[case]])
    assert diagnosis.verdict is not Verdict.SCALED, (str(diagnosis), diagnosis.posterior)


def test_a_sum_over_world_size_is_named_as_such():
    # 8 ranks, GA 2: the factor is 8, not 2
    (diagnosis,) = pipeline.diagnose([language_model(factor=8, ga=2, world_size=8, vocab_size=VOCABULARY,
                                                     series=[beside(Role.ENTROPY, curve())])])  # fmt: skip
    assert all(f.hypothesis.ga == 0 for f in diagnosis.findings)


def test_other_data_order_and_micro_batches_that_shrink_with_ga_are_no_scale():
    runs = []
    for ga in (1, 8):
        noise = np.random.default_rng(ga).normal(0, 0.1, 60)
        runs.append(make_run(f"ga{ga}", ga=ga, loss=curve(seed=ga) + noise, micro_batch_size=16 // ga, world_size=1,
                             seed=ga, learning_rate=1e-4, model="m", dataset="d", steps=range(10, 610, 10)))  # fmt: skip
    (diagnosis,) = pipeline.diagnose(runs)
    assert diagnosis.verdict is not Verdict.SCALED


def test_a_larger_batch_at_one_micro_batch_is_no_scale():
    runs = [
        make_run(f"ga{ga}", ga=ga, loss=curve(end=1.3 - 0.05 * np.log(ga), seed=ga), micro_batch_size=4, world_size=1, seed=1,
                 learning_rate=1e-4, model="m", dataset="d", steps=range(10, 610, 10)) for ga in (1, 8)
    ]  # fmt: skip
    (diagnosis,) = pipeline.diagnose(runs)
    assert diagnosis.verdict is not Verdict.SCALED


def test_a_sum_of_the_size_of_ga_that_a_loop_could_have_made_is_left_open():
    """Entropy and vocabulary both say x8; so would a sum over 8 logged steps, or over a batch of 8."""

    def run(**known):
        loss = curve(start=5.0, end=2.0)
        return language_model(loss=loss, factor=8, evaluations=0, vocab_size=VOCABULARY, series=[beside(Role.ENTROPY, loss)],
                              **known)  # fmt: skip

    assert judged(run()).verdict is Verdict.SCALED
    for known in ({"logging_steps": 8}, {"micro_batch_size": 8}):
        assert judged(run(**known)).verdict is Verdict.INCONCLUSIVE
        why = judged(run(**known)).undecided[Role.LOSS]
        assert (why.reason, {why.setting: why.value}) == (UndecidedReason.LOOK_ALIKE, known)
        # the Trainer sums neither
        assert judged(run(packages={"transformers": "4.57.6"}, **known)).verdict is Verdict.SCALED


def test_weak_evidence_that_excludes_a_sum_acquits():
    assert judged(language_model(ga=4)).verdict is Verdict.HEALTHY


def judged(run):
    (diagnosis,) = pipeline.diagnose([run])
    return diagnosis
