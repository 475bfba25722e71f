"""The installed Trainer, measured: stock models and situations, clipping off, two ranks."""

import importlib.util
import json

import pytest

from ga_audit.repro import engine, measurement
from ga_audit.repro import plan as planning
from ga_audit.repro import verdict as verdicts

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed"),
]


def trained(tmp_path, *plans, ga=(1, 4), world=(1,), **options):
    """Judgements by name, of variants or models trained for three steps."""
    made = [
        planning.Plan("transformers", planning.plan_cells(tmp_path / name, ga, world, 16), 16,
                    {"steps": 3, "measure-every": 1, **option, **options}, name=name)
        for name, option in plans
    ]  # fmt: skip
    planning.run(*made)
    return {
        plan.name: verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in plan.cells])
        for plan in made
    }


def test_the_newest_stack_sums_what_ignores_the_count_and_nothing_else(tmp_path):
    """On transformers 5.24.0; tests/repro/RELEASES.md has the other releases."""
    variants = "A,B2,B2-flagged,E" + (",lora" if importlib.util.find_spec("peft") else "")
    found = trained(tmp_path, *engine.chosen("variant", variants), *engine.chosen("model", "gpt2-causal-lm"))
    exponents = {name: round(judgement.gradient) for name, judgement in found.items()}
    assert exponents.pop("lora", 0) == 0
    assert exponents == {"A": 0, "B2": 1, "B2-flagged": 0, "E": 0, "gpt2-causal-lm": 0}
    assert found["E"].on_gradient.rest == pytest.approx(1, abs=1e-3)  # of the smoothed loss
    assert "peft" in found["lora"].training.packages if "lora" in found else True
    assert found["A"].parameters_differ < 1e-3
    assert found["A"].cells[1].cosine == pytest.approx(1)


def test_truth_is_measured_without_clipping(tmp_path):
    found = trained(tmp_path, ("B2", {"variant": "B2"}), **{"max-grad-norm": 0.0, "optimizer": "sgd"})["B2"]
    assert found.gradient == pytest.approx(1, abs=0.02)
    assert found.cells[0].clipped is None
    kept = json.loads((tmp_path / "B2" / "world1-ga4" / "truth.json").read_text())
    assert [row["step"] for row in kept["measured"]] == [1, 2, 3]  # once for each step


@pytest.mark.slow
def test_every_stock_family_and_variant_is_trained_and_measured(tmp_path):
    stock = engine.engines()["transformers"]
    variants = [name for name in stock.variants if name not in stock.variant_needs]
    found = trained(tmp_path, *engine.chosen("model", "all"), *engine.chosen("variant", ",".join(variants)))
    assert all(judgement.verdict in ("healthy", "gradients") for judgement in found.values())
    assert all(abs(j.gradient - round(j.gradient)) < 0.03 for j in found.values())


@pytest.mark.slow
def test_two_ranks_and_average_tokens(tmp_path):
    """Rank 0 writes; a loss that ignores the count is multiplied by the ranks too where tokens are averaged."""
    for flag, world in (("on", 1), ("off", 0)):
        (found,) = trained(
            tmp_path / flag, ("B2", {"variant": "B2"}), world=(1, 2), **{"average-tokens": flag}
        ).values()
        assert (round(found.on_gradient.ga), round(found.on_gradient.world)) == (1, world)


def test_a_variant_with_a_model_is_refused(tmp_path):
    cells = planning.plan_cells(tmp_path, (1,), (1,), 16)
    with pytest.raises(Exception, match="give --model or --variant"):
        planning.run(planning.Plan("transformers", cells, 16, {"model": "t5-seq2seq", "variant": "B"}))
