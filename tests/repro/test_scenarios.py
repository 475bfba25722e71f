"""Known bugs of what was measured: by release, situation, exponents on GA and on ranks."""

import pytest

from ga_audit.repro import scenarios
from ga_audit.repro.engine import engines


def known(variant, stack, ga=(1, 1, 1), world=(None, None, None), verdict="gradients", **more):
    pairs = zip(ga, world, strict=True)
    return scenarios.known_bugs(variant, stack, scenarios.Seen(*pairs, verdict, **more))


@pytest.mark.parametrize("variant", ["A", "sft", "pt", "full", "qwen2", "lora", "llama-causal-lm"])
def test_stock_models_of_every_engine_are_situation_a(variant):
    assert known(variant, {"transformers": "4.48.0"}) == ("GA001",)
    assert known(variant, {"transformers": "4.48.1"}) == ()


def test_ranks_are_part_of_the_situation():
    stack, world = {"transformers": "4.47.0"}, (1, 1, 1)
    assert known("A", stack, world=world, multi_rank=True, average_tokens=True) == ("GA014",)
    assert known("A", stack, world=world, multi_rank=True, average_tokens=False) == ()
    assert known("A", stack, world=(0, 0, 0), multi_rank=True, average_tokens=False) == ("GA001",)
    assert known("B2", {"transformers": "5.24.0"}, world=world, multi_rank=True, average_tokens=True) == ("GA004",)
    # at GA 1 only the ranks tell
    assert known("A", stack, ga=(None,) * 3, world=world, multi_rank=True, average_tokens=True) == ("GA014",)


def test_a_loss_without_an_exponent_does_not_hide_the_bug():
    assert known("grpo-reused", {"trl": "1.4.0"}, ga=(None, 1, 1)) == ("GA025",)
    assert known("grpo-reused", {"trl": "1.9.1"}, ga=(None, 1, 1)) == ()
    assert known("grpo-reused-by-length", {"trl": "1.4.0"}, ga=(None, 1, 1)) == ()


def test_where_nothing_that_is_off_is_known_no_bug_is_named():
    assert known("A", {"transformers": "4.48.0"}, ga=(None, None, None)) == ()
    assert known("A", {"transformers": "4.48.0"}, verdict="healthy") == ()
    assert known("A", {"transformers": "4.48.0"}, verdict="not measured") == ()


def test_every_variant_but_the_open_ones_has_its_situation():
    """A new variant is given one, or it is said here why it has none."""
    healthy = {"grpo", "grpo-by-sequence", "grpo-by-length"}  # no bug of the catalogue is about these
    variants = {variant for engine in engines().values() for variant in engine.variants}
    assert variants - set(scenarios.SITUATION) == healthy | {"liger"}  # liger: what its Llama takes is open
