"""Single runs for the tests of evidence: a language model's curve, and what other objectives and faults make of it."""

import numpy as np
from factories import make_run, make_series

from ga_audit.finding import HEALTHY, SUMMED_GA, Evidence
from ga_audit.grouping import Group
from ga_audit.run import Role

LANGUAGE_MODEL = {"architectures": ["LlamaForCausalLM"]}
VOCABULARY = 32_000


def curve(n=60, start=2.4, end=1.3, seed=0):
    """(n,) loss of a fine-tuning at steps 10, 20, ..."""
    rng = np.random.default_rng(seed)
    return end + (start - end) * np.exp(-np.arange(n) / (n / 3)) + rng.normal(0, 0.02, n)


def language_model(
    name="run", *, ga=8, factor=1.0, gap=1.05, evaluations=6, loss=None, other=None, series=(), **settings
):
    """A run that logs every 10 steps and evaluates `evaluations` times; its logged loss is `factor` times the right one."""
    loss = curve() if loss is None else loss
    steps = 10 * np.arange(1, len(loss) + 1)
    at = (
        steps[np.linspace(min(len(loss) // evaluations, len(loss) - 1), len(loss) - 1, evaluations).astype(int)]
        if evaluations
        else []
    )
    return make_run(
        name, ga=ga, loss=loss * factor, steps=steps, eval_loss=np.interp(at, steps - 5, loss) * gap if evaluations else None,
        eval_steps=at, other=LANGUAGE_MODEL if other is None else other, series=series, **settings,
    )  # fmt: skip


def beside(role, value, n=60):
    """Another series at the steps of `curve`."""
    return make_series(role, np.broadcast_to(value, n), 10 * np.arange(1, n + 1))


def one(module, run):
    """The first thing that a kind of evidence says about the loss of a run."""
    return next(item for item in module.gather(Group((run,))) if getattr(item, "role", None) in (Role.LOSS, None))


def evidence(module, run):
    found = one(module, run)
    assert isinstance(found, Evidence), found
    return found


def ratio(piece, hypothesis=SUMMED_GA):
    """Nats for a hypothesis against health."""
    return piece.log_likelihood[hypothesis] - piece.log_likelihood[HEALTHY]
