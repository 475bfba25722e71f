import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.logs.roles import CONFIG_KEYS, flatten, preference, role_of
from ga_audit.run import Role

KNOWN = {
    Role.LOSS: "loss train/loss training_loss lm_loss train_loss_step loss_metrics/global_avg_loss",
    Role.EVAL_LOSS: "eval_loss eval/loss val_loss val/loss valid_loss eval/wikitext/loss validation_loss",
    Role.GRAD_NORM: "grad_norm train/grad_norm gnorm grad_2.0_norm_total optim/total_grad_norm",
    Role.LEARNING_RATE: "learning_rate lr lr-AdamW lr-AdamW/pg1 train/learning_rate",
    Role.TOKEN_ACCURACY: "mean_token_accuracy token_acc",
    Role.ENTROPY: "entropy train/entropy",
}
NOT_OURS = (
    "policy_gradient_loss train/policy_gradient_loss train/value_loss train/box_loss aux_loss router_loss "
    "loss_scale epoch_time gradient_accumulation_steps rewards/chosen train/entropy_loss sft_loss grad"
)


@pytest.mark.parametrize(("role", "name"), [(r, n) for r, names in KNOWN.items() for n in names.split()])
def test_names_that_real_stacks_use(role, name):
    assert role_of(name) is role


@pytest.mark.parametrize("name", NOT_OURS.split())
def test_names_that_only_look_alike(name):
    assert role_of(name) not in {Role.LOSS, Role.GRAD_NORM, Role.EVAL_LOSS}


def test_the_users_keys_win_and_stand_alone():
    assert role_of("objective", loss_key="objective") is Role.LOSS
    assert role_of("loss", loss_key="objective") is None
    assert role_of("x", grad_norm_key="x") is Role.GRAD_NORM
    assert role_of("eval_loss", loss_key="objective") is Role.EVAL_LOSS


def test_of_two_names_the_trainers_own_is_better():
    assert preference("train/loss") < preference("total_loss") < preference("mine/train_loss")


@given(st.text(max_size=60))
def test_any_name_has_a_role_or_none(name):
    assert role_of(name) is None or isinstance(role_of(name), Role)


def test_flatten_takes_wrappers_off():
    assert flatten({"a": {"value": 1, "desc": None}, "b": {"c": {"value": {"d": 2}}}, "e": 3}) == {
        "a": 1,
        "b.c.d": 2,
        "e": 3,
    }


def test_no_key_stands_for_two_settings():
    keys = [key for names in CONFIG_KEYS.values() for key in names]
    assert len(keys) == len(set(keys))
