"""GRPO's objective as it is written out, without TRL: widths, kinds, ranges."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from ga_audit.repro import engine

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch


@pytest.fixture
def grpo(monkeypatch):
    monkeypatch.syspath_prepend(str(engine.SCRIPTS))
    before = set(sys.modules)
    yield importlib.import_module("_grpo")
    for name in set(sys.modules) - before:
        if name.startswith("_"):
            del sys.modules[name]


class Table(torch.nn.Module):
    """The next token's logits by the present one alone, so that padding on the left changes nothing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.logits = torch.nn.Parameter(torch.randn(9, 9))

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.logits[input_ids])


def part(prompts, completions, advantages, **more):
    def padded(rows, left):
        width = max(map(len, rows))
        ids = [[0] * (width - len(r)) + r if left else r + [0] * (width - len(r)) for r in rows]
        mask = [[0] * (width - len(r)) + [1] * len(r) if left else [1] * len(r) + [0] * (width - len(r)) for r in rows]
        return torch.tensor(ids), torch.tensor(mask)

    (prompt_ids, prompt_mask), (completion_ids, completion_mask) = padded(prompts, True), padded(completions, False)
    return {
        "prompt_ids": prompt_ids, "prompt_mask": prompt_mask, "completion_ids": completion_ids,
        "completion_mask": completion_mask, "advantages": torch.tensor(advantages), **more,
    }  # fmt: skip


PARTS = (
    ([[1, 2, 3], [4]], [[5], [6, 7]], [1.0, -0.5]),
    ([[1, 2]], [[3, 4, 5, 6]], [0.25]),
)


def expected(kind, rows, model):
    """By hand: each completion's tokens, their probabilities and advantages, on-policy."""
    log_p = model.logits.log_softmax(-1)
    sums, lengths = [], []
    for prompt, completion, advantage in rows:
        tokens = list(zip([prompt[-1], *completion], completion, strict=False))
        # the weight is 1, its gradient that of the log-probability
        sums.append(sum(-advantage * (log_p[a, b] - log_p[a, b].detach()).exp() for a, b in tokens))
        lengths.append(len(tokens))
    if kind == "grpo":
        return sum(s / n for s, n in zip(sums, lengths, strict=True)) / len(rows)
    return sum(sums) / (len(rows) * 16 if kind == "dr_grpo" else sum(lengths))


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "dapo", "bnpo"])
def test_the_objective_is_the_one_by_hand_over_micro_batches_of_other_widths(grpo, kind):
    settings = SimpleNamespace(loss_type=kind, max_completion_length=16, epsilon=0.2, temperature=1.0)
    measure, model = grpo.Measure(1, settings, "1.16.0"), Table()
    batch = grpo.joined([part(*p) for p in PARTS])
    assert batch["prompt_ids"].shape == (3, 3)
    assert batch["completion_ids"].shape == (3, 4)
    rows = [row for p in PARTS for row in zip(*p, strict=True)]
    losses = [measure.objective(model, batch), expected(kind, rows, model)]
    gradients = [torch.autograd.grad(loss, model.logits)[0] for loss in losses]
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), abs=1e-6)
    assert torch.allclose(*gradients, atol=1e-6)


def test_weights_outside_the_range_have_no_gradient(grpo):
    settings = SimpleNamespace(
        loss_type="dapo", max_completion_length=16, epsilon=0.2, epsilon_high=0.3, temperature=1.0
    )
    measure, model = grpo.Measure(1, settings, "1.16.0"), Table()
    log_p = model.logits.log_softmax(-1)[4, 6].item()
    for old, moves in ((log_p - 0.25, True), (log_p - 0.27, False)):  # exp 1.284 and 1.310 against a bound of 1.3
        batch = part([[4]], [[6]], [1.0], old_per_token_logps=torch.tensor([[old]]))
        gradient = torch.autograd.grad(measure.objective(model, batch), model.logits)[0]
        assert bool(gradient.abs().sum() > 0) == moves


@pytest.mark.parametrize(("release", "named", "kind"), [
    ("0.15.2", None, "grpo"), ("0.16.1", None, "bnpo"), ("1.0rc1", "dapo", "dapo"), ("1.16.0", "dr_grpo", "dr_grpo"),
])  # fmt: skip
def test_releases_without_a_name_for_it_have_the_loss_of_their_time(grpo, release, named, kind):
    settings = SimpleNamespace(**({"loss_type": named} if named else {}))
    assert grpo.Measure(1, settings, release).kind == kind


def test_a_kind_that_is_not_written_out_is_refused(grpo):
    settings = SimpleNamespace(loss_type="cispo", epsilon=0.2)
    with pytest.raises(SystemExit, match="'cispo' is not known here"):
        grpo.Measure(1, settings, "1.16.0").objective(Table(), part(*PARTS[0]))


def test_a_loss_near_zero_or_of_unequal_weights_has_no_ratio_and_says_which(grpo):
    for kind, loss, told in (("dapo", 0.1, True), ("dapo", 1e-9, False), ("bnpo", 0.1, False), ("grpo", 1e-9, False)):
        measure = grpo.Measure(1, SimpleNamespace(loss_type=kind), "1.16.0")
        measure.note(0, torch.ones(2), loss, torch.ones(2))
        assert (measure.found[0]["reference_loss"] is not None) == told
        why = measure.why_no_ratio()
        assert (why is None) == told
        assert told or ("loss_type bnpo" in why) == (kind == "bnpo")


def test_parts_of_one_step_hold_the_same_tensors(grpo):
    old = {"old_per_token_logps": torch.zeros(1, 4)}
    with pytest.raises(AssertionError, match="different tensors"):
        grpo.joined([part(*PARTS[0]), part(*PARTS[1], **old)])


def test_rewards_tell_completions_apart(grpo):
    assert grpo.reward(["t2 t4 t5", "", [{"content": "t1"}]]) == pytest.approx([2 / 3, 0, 0])
