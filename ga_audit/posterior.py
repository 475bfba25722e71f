"""Prior and evidence -> posterior over hypotheses about one quantity of comparable runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Hypothesis
from ga_audit.run import Run
from ga_audit.stats import decision
from ga_audit.stats.constants import COUPLING, PRIOR, PRIOR_RARE

# names of the priors in `stats.constants` by exponents (ga, world)
_PRIOR_NAMES: dict[tuple[float, float], str] = {
    (0, 0): "healthy",
    (1, 0): "summed",
    (-1, 0): "divided",
    (0, 1): "world",
    (1, 1): "ga-world",
}
SAME = 1e-6  # nats: two hypotheses that no piece of evidence tells apart


def of_one_kind(
    kind: Sequence[Evidence], hypotheses: Sequence[Hypothesis], runs: Sequence[Run]
) -> dict[Hypothesis, float]:
    """What the pieces of one kind say together: comparisons of different runs add up, single runs share their bias."""
    single = [piece for piece in kind if len(piece.runs) < 2]
    several = [piece for piece in kind if len(piece.runs) > 1]
    return {
        h: sum(log_likelihood(piece, h, runs) for piece in several)
        + sum(log_likelihood(piece, h, runs) for piece in single) / max(len(single), 1)
        for h in hypotheses
    }


def hypotheses_about(runs: Sequence[Run], pieces: Sequence[Evidence]) -> tuple[Hypothesis, ...]:
    """Named hypotheses that predict something of their own for these runs, then those that evidence brings, then OTHER."""
    seen: dict[tuple[float, ...], Hypothesis] = {}
    brought = [h for piece in pieces for h in piece.log_likelihood if h not in NAMED and h != OTHER]
    for h in (*NAMED, *brought):
        factors = tuple(round(h.log_factor(run), 9) for run in runs)
        # NaN: a setting that it needs is unknown, so nothing can be said for or against it
        if not any(math.isnan(f) for f in factors):
            seen.setdefault(factors, h)
    kept = list(seen.values())
    if HEALTHY not in kept:
        kept.insert(0, HEALTHY)
    spoken = [h for h in kept if h is HEALTHY or not _is_invisible(h, pieces, runs)]
    return (*spoken, OTHER)


def _is_invisible(h: Hypothesis, pieces: Sequence[Evidence], runs: Sequence[Run]) -> bool:
    """Whether `h` is one constant factor on every run that no evidence can see: said in a note, not weighed."""
    factors = [h.log_factor(run) for run in runs]
    constant = max(factors) - min(factors) < 1e-9
    return constant and h.ga == 0 and all(
        abs(log_likelihood(p, h, runs) - log_likelihood(p, HEALTHY, runs)) < SAME for p in pieces
    )  # fmt: skip


def log_likelihood(piece: Evidence, h: Hypothesis, runs: Sequence[Run]) -> float:
    """What a piece says of a hypothesis; of one that it does not list, what it says of the same prediction, else OTHER."""
    if h in piece.log_likelihood:
        return piece.log_likelihood[h]
    about = [run for run in runs if run.id in piece.runs]
    own = [h.log_factor(run) for run in about]
    for listed, value in piece.log_likelihood.items():
        if listed != OTHER and all(
            math.isclose(listed.log_factor(run), f, abs_tol=1e-9) for run, f in zip(about, own, strict=True)
        ):
            return value
    return piece.log_likelihood.get(OTHER, 0.0)


def prior_of(
    hypotheses: Sequence[Hypothesis], loss: Mapping[Hypothesis, float] | None = None
) -> dict[Hypothesis, float]:
    """Prior over hypotheses; for grad_norm, given the posterior of the loss (`COUPLING`)."""
    base = {h: _base_prior(h) for h in hypotheses}
    # hypotheses about some of the runs share the mass of the one about all
    alike: dict[tuple[float, float], list[Hypothesis]] = defaultdict(list)
    for h in hypotheses:
        if h != OTHER:
            alike[(h.ga, h.world)].append(h)
    for same in alike.values():
        for h in same:
            base[h] /= len(same)
    if loss is None:
        return base
    return decision.coupled_prior(base, loss, {h: _coupled_row(h, hypotheses) for h in loss})


def _coupled_row(given: Hypothesis, hypotheses: Sequence[Hypothesis]) -> dict[Hypothesis, float]:
    """P(hypothesis about grad_norm | hypothesis about the loss), where `COUPLING` knows it."""
    table = COUPLING.get(_PRIOR_NAMES.get((given.ga, given.world), ""), {})
    row = {}
    for h in hypotheses:
        name = _PRIOR_NAMES.get((h.ga, h.world))
        if name in table and (h == HEALTHY or h.only == given.only):
            row[h] = table[name]
    return row


def _base_prior(h: Hypothesis) -> float:
    return PRIOR["other"] if h == OTHER else PRIOR.get(_PRIOR_NAMES.get((h.ga, h.world), ""), PRIOR_RARE)


def by_kind(pieces: Iterable[Evidence]) -> dict[str, list[Evidence]]:
    """The pieces of evidence by their kind, in the order of the pieces."""
    kinds: dict[str, list[Evidence]] = defaultdict(list)
    for piece in pieces:
        kinds[piece.kind].append(piece)
    return kinds
