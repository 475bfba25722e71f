"""What stock models do with loss arguments: as read, against what was measured and against what is installed."""

import contextlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from ga_audit.bugs import stock_models
from ga_audit.repro.engine import engines

FAMILIES = engines()["transformers"].models
SITUATIONS = {"uses": "A", "none": "B", "ignores": "B2"}  # of the engine transformers


def test_what_was_read_is_what_was_measured():
    tables = json.loads((Path(__file__).parents[1] / "repro" / "releases.json").read_text("utf-8"))["tables"]
    alone = [t for t in tables if t["title"] in ("transformers: situations", "transformers: stock models")]
    rows = {(row["release"], row["variant"]): row for table in alone for row in table["rows"]}
    compared = 0
    for (release, family), row in rows.items():
        does = stock_models.loss_arguments(FAMILIES.get(family, ""), release)
        if does is None:
            continue
        same = rows[release, SITUATIONS[does]]
        for name in ("loss", "grad_norm", "gradient"):
            assert round(row[name]) == round(same[name]), (release, family, does)
        compared += 1
    assert compared == 33 * len(FAMILIES)  # 4.46.0 to 5.24.0


@pytest.mark.parametrize(("model", "release", "does"), [
    ("LlamaForCausalLM", "4.46.1", "uses"), ("MistralForCausalLM", "4.46.3", "none"), ("MistralForCausalLM", "4.48.3", "uses"),
    ("BertForSequenceClassification", "4.57.6", "none"), ("BertForSequenceClassification", "5.24.0", "ignores"),
    # before 4.47.0 only a parameter of the name loss_kwargs counts
    ("BloomForCausalLM", "4.46.3", "none"), ("BloomForCausalLM", "4.47.0", "ignores"),
    ("LlamaForSequenceClassification", "4.53.0", "none"), ("LlamaForSequenceClassification", "4.54.0", "ignores"),
    ("BertForSequenceClassification", "5.7.0", "ignores"), ("BertForSequenceClassification", "5.7.0.dev0", "ignores"),
    # not read, not guessed: changed in between, newer, older, no such model, no release
    ("BertForSequenceClassification", "4.60.0", None), ("LlamaForCausalLM", "99.0.0", None), ("LlamaForCausalLM", "4.45.2", None),
    ("MyForCausalLM", "5.0.0", None), ("LlamaForCausalLM", "main", None),
])  # fmt: skip
def test_a_model_of_a_release(model, release, does):
    assert stock_models.loss_arguments(model, release) == does


def test_most_stock_models_of_5_ignore_the_count():
    assert stock_models.counted("4.57.6")["ignores"] == 99
    assert stock_models.counted("5.24.0") == {"uses": 251, "ignores": 389, "none": 37}


# of any configuration, what its text, image or decoder part calls its sizes
SMALL = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 1),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner"), 64),
    "vocab_size": 100, "head_dim": 8, "d_kv": 8, "max_position_embeddings": 64, "n_positions": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "num_labels": 3,
}  # fmt: skip
HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM", "ForSequenceClassification",
         "ForTokenClassification")  # fmt: skip


def _installed():
    try:
        release = version("transformers")
    except PackageNotFoundError:
        return []
    models = stock_models._table()["models"]
    known = {name: stock_models.loss_arguments(name, release) for name in models if name.endswith(HEADS)}
    return [(name, does) for name, does in known.items() if does in ("uses", "ignores")]


def _loss_with_and_without_a_count(name):
    """None where the model cannot be built small from its configuration alone."""
    torch = pytest.importorskip("torch")
    import transformers

    kind = getattr(transformers, name, None)
    with contextlib.suppress(Exception):
        config = kind.config_class()
        for key, value in SMALL.items():
            with contextlib.suppress(Exception):
                if hasattr(config, key):
                    setattr(config, key, value)
        with torch.device("meta"):
            size = sum(p.numel() for p in kind(config).parameters())
        if size > 5e6:
            return None
        torch.manual_seed(0)
        model = kind(config).eval()
        ids = torch.randint(5, 95, (2, 8))
        labels = torch.tensor([0, 1]) if "SequenceClassification" in name else ids % 3 if "Token" in name else ids
        with torch.no_grad():
            losses = [
                float(model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, **count).loss)
                for count in ({}, {"num_items_in_batch": torch.tensor(1000)})
            ]
        return losses if all(loss == loss for loss in losses) else None
    return None


def _compare(models):
    """How many could be built; each one's loss must change with the count where it was read to use it, and only there."""
    built = 0
    for name, does in models:
        if losses := _loss_with_and_without_a_count(name):
            assert (abs(losses[0] - losses[1]) > 1e-3 * abs(losses[0])) == (does == "uses"), name
            built += 1
    return built


@pytest.mark.torch
def test_what_was_read_is_what_some_installed_models_do():
    models = _installed()
    if not models:
        pytest.skip("no release of transformers that was read is installed")
    assert _compare(models[::20]) >= len(models) // 60


@pytest.mark.torch
@pytest.mark.slow
def test_what_was_read_is_what_the_installed_models_do():
    models = _installed()
    assert _compare(models) >= len(models) // 3
