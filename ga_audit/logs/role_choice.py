"""The roles of all names of one log: what a name means may depend on the names beside it.

`val/box_loss` beside `train/box_loss` and `train/seg_loss` is no evaluation of either the total loss or the
segmentation loss; `raw_grad_norm` beside `grad_norm` says that the latter was taken after clipping.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ga_audit.logs import roles
from ga_audit.run import Role

_NORM = r"(total_|global_)?(grad|gradient)_norm(_step|_total)?"
_RAW_NORM = re.compile(
    rf"(.*[/.])?((raw|unclipped|preclip|pre_clip|preclipped)_{_NORM}|{_NORM}_(raw|unclipped|(pre|before)_?clip(ping)?))"
)
_CLIPPED_NORM = re.compile(
    rf"(.*[/.])?((clipped|postclip|post_clip)_{_NORM}|{_NORM}_(clipped|(post|after)_?clip(ping)?))"
)
_PREFIX = re.compile(
    r"(train|training|learning|eval|evaluation|val|valid|validation|dev|test|metrics|epoch|batch)[/._-]"
)
_SUFFIX = re.compile(r"([/._-](step|epoch|train|val|valid|eval|test))+$")
_PLAIN = frozenset({
    "loss", "total_loss", "lm_loss", "causal_lm_loss", "global_avg_loss", "avg_loss", "mean_loss", "ce_loss",
    "cross_entropy_loss", "nll_loss",
})  # fmt: skip
# parts of a loss: never the evaluation of the whole
_PARTS = frozenset(
    [
        "aux",
        "box",
        "bbox",
        "cls",
        "dfl",
        "seg",
        "mask",
        "obj",
        "iou",
        "giou",
        "l1",
        "kl",
        "ctc",
        "att",
        "moe",
        "lb",
        "balance",
        "balancing",
        "vq",
        "commit",
        "perceptual",
        "disc",
        "gen",
        "adv",
        "rpn",
        "router",
        "z",
        "mtp",
        "kpt",
        "pose",
    ]
)


def roles_of(
    names: Iterable[str], *, loss_key: str | None = None, grad_norm_key: str | None = None
) -> dict[str, Role | None]:
    """What each of the series of one log measures; None where it is nothing of ours.

    Parameters
    ----------
    names : of all series of the log.
    loss_key, grad_norm_key : the user's own names; where given, no other name has that role.

    Examples
    --------
    >>> found = roles_of(["train/box_loss", "train/seg_loss", "val/box_loss", "val/seg_loss"], loss_key="train/seg_loss")
    >>> [name for name, role in found.items() if role is Role.EVAL_LOSS]
    ['val/seg_loss']
    """
    found = {name: _role(name, loss_key, grad_norm_key) for name in names}
    losses = [name for name, role in found.items() if role is Role.LOSS]
    best = min(losses, key=lambda name: preference(name, Role.LOSS), default=None)
    parts = {_stem(name) for name, role in found.items() if role in (None, Role.LOSS) and name != best} - _PLAIN
    wanted = None if best is None else _stem(best)
    evaluations = {name: _stem(name) for name, role in found.items() if role is Role.EVAL_LOSS}
    for name, stem in evaluations.items():
        if stem != wanted and (
            stem in parts or _is_part(stem) or not _may_stand_for(stem, wanted, evaluations.values())
        ):
            found[name] = None
    return found


def preference(name: str, role: Role) -> tuple[int, int]:
    """Order among names of one role in one log: the smaller is the better."""
    raw = role is Role.GRAD_NORM and _RAW_NORM.fullmatch(_plain(name)) is not None
    return (0 if raw else 1, roles.preference(name))


def _role(name: str, loss_key: str | None, grad_norm_key: str | None) -> Role | None:
    role = roles.role_of(name, loss_key=loss_key, grad_norm_key=grad_norm_key)
    if name in (loss_key, grad_norm_key):
        return role
    low = _plain(name)
    if _CLIPPED_NORM.fullmatch(low):
        return None  # the gradient's own norm is not in it
    if role is None and grad_norm_key is None and _RAW_NORM.fullmatch(low):
        return Role.GRAD_NORM
    return role


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _stem(name: str) -> str:
    """A loss without what says whether it was trained on or held out."""
    low = _plain(name)
    while match := _PREFIX.match(low):
        low = low[match.end() :]
    return _SUFFIX.sub("", low)


def _is_part(stem: str) -> bool:
    return bool(_PARTS & set(re.split(r"[/._]", stem.removesuffix("loss"))))


def _may_stand_for(stem: str, wanted: str | None, there: Iterable[str]) -> bool:
    """Whether a held-out loss of another name may be that of the training loss."""
    if wanted is None:
        return True
    if wanted in there:
        return wanted in _PLAIN and stem not in _PLAIN  # one of several evaluation sets
    return wanted in _PLAIN or "loss" not in wanted
