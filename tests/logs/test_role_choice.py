"""Roles of names that depend on the names beside them."""

import pytest

from ga_audit.logs.role_choice import preference, roles_of
from ga_audit.run import Role


def of(role, *names, **keys):
    return [name for name, found in roles_of(names, **keys).items() if found is role]


@pytest.mark.parametrize(
    ("names", "keys", "evaluations"),
    [
        (["train/seg_loss", "train/box_loss", "val/seg_loss", "val/box_loss"], {"loss_key": "train/seg_loss"}, ["val/seg_loss"]),
        (["train/seg_loss", "val/loss"], {"loss_key": "train/seg_loss"}, []),
        (["train/box_loss", "val/box_loss"], {}, []),
        (["loss", "aux_loss", "eval_loss", "eval_aux_loss"], {}, ["eval_loss"]),
        (["loss", "val/box_loss"], {}, []),
        (["loss", "eval_wikitext_loss", "eval_c4_loss"], {}, ["eval_wikitext_loss", "eval_c4_loss"]),
        (["embedding_loss", "eval_embedding_loss"], {"loss_key": "embedding_loss"}, ["eval_embedding_loss"]),
        (["train/loss", "eval/loss"], {}, ["eval/loss"]),
        (["train_loss", "val_loss"], {}, ["val_loss"]),
        (["objective", "val_loss"], {"loss_key": "objective"}, ["val_loss"]),
        (["lm_loss", "val_loss"], {}, ["val_loss"]),
    ],
)  # fmt: skip
def test_the_evaluation_is_of_the_same_loss(names, keys, evaluations):
    assert of(Role.EVAL_LOSS, *names, **keys) == evaluations


@pytest.mark.parametrize(
    "raw",
    ["raw_grad_norm", "learning/raw_grad_norm", "grad_norm_before_clip", "unclipped_grad_norm", "grad_norm_preclip"],
)
def test_the_norm_before_clipping_comes_first(raw):
    norms = of(Role.GRAD_NORM, "grad_norm", raw)
    assert min(norms, key=lambda name: preference(name, Role.GRAD_NORM)) == raw


@pytest.mark.parametrize("clipped", ["clipped_grad_norm", "grad_norm_after_clip", "grad_norm_clipped"])
def test_the_norm_after_clipping_is_none(clipped):
    assert of(Role.GRAD_NORM, clipped) == []
    assert of(Role.GRAD_NORM, clipped, grad_norm_key=clipped) == [clipped]
