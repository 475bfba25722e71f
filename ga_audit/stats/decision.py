"""posterior, equivalence, ties: from likelihoods to what may be said.

Names of hypotheses are opaque keys here, except "healthy" and "other" by way of the caller's arguments.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ga_audit.stats import constants as k
from ga_audit.stats.arrays import median

H = TypeVar("H", bound=Hashable)


def posterior(
    prior: Mapping[H, float], log_likelihoods: Iterable[Mapping[H, float]], odds: Mapping[H, float] | None = None
) -> dict[H, float]:
    """Prior x exp(sum of log-likelihoods), normalised. `odds` multiply the prior of single hypotheses.

    A hypothesis that a piece of evidence does not name counts as healthy there (0 nats).
    """
    names = list(prior)
    total = np.array([np.log(max(prior[h] * (odds or {}).get(h, 1.0), 1e-300)) for h in names])
    for piece in log_likelihoods:
        total += np.array([piece.get(h, 0.0) for h in names])
    weight = np.exp(total - total.max())
    return {h: float(w) for h, w in zip(names, weight / weight.sum(), strict=True)}


def coupled_prior(
    prior: Mapping[H, float], loss_posterior: Mapping[H, float], coupling: Mapping[H, Mapping[H, float]]
) -> dict[H, float]:
    """Prior of the gradient norm's hypothesis given what is known of the loss: sum over L of P(L) P(beta | L).

    What a row of `coupling` leaves over is spread over the other names as in `prior`; a loss hypothesis without a row
    leaves `prior` as it is.
    """
    out = dict.fromkeys(prior, 0.0)
    for loss, share in loss_posterior.items():
        row = coupling.get(loss, {})
        named = sum(row.values())
        rest = {h: p for h, p in prior.items() if h not in row}
        scale = (1.0 - named) / sum(rest.values())
        for h in out:
            out[h] += share * (row[h] if h in row else rest[h] * scale)
    return out


def settling_run(
    ga: Sequence[int], world: Sequence[int], exponents: Sequence[tuple[float, float]]
) -> tuple[int, int] | None:
    """(GA, world size) of one further run that tells tied hypotheses apart; None if none of up to 8 x 8 does.

    `exponents` are the tied hypotheses' on GA and world size. Every pair must then differ by a factor of 2 at least in
    some contrast with the runs there are; of such runs the one nearest to an existing one, and smallest, is taken.
    """
    candidates = []
    for g in (1, 2, 4, 8):
        for w in (1, 2, 4, 8):
            apart = []
            for i, (a, b) in enumerate(exponents):
                for c, d in exponents[:i]:
                    there = (a - c) * np.log(ga) + (b - d) * np.log(world)
                    new = (a - c) * np.log(g) + (b - d) * np.log(w)
                    apart.append(float(np.max(np.abs(new - there))))
            if apart and min(apart) >= np.log(2) - 1e-9:
                away = min(abs(np.log(g / x)) + abs(np.log(w / y)) for x, y in zip(ga, world, strict=True))
                candidates.append((float(away), g * w, g, w))
    return min(candidates)[2:] if candidates else None


def equivalent(interval90: tuple[float, float], margin: float) -> bool:
    """Two one-sided tests at 5 % each: the 90 % interval lies inside +-margin (Schuirmann 1987)."""
    return bool(-margin <= interval90[0] and interval90[1] <= margin)


def misfits(level: NDArray[np.float64], factors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Runs (n,) that a hypothesis leaves far from the middle of the others, where another would bring them back.

    Parameters
    ----------
    level : (n,) natural log of the runs' levels.
    factors : (k, n) ln(logged / intended) under k hypotheses, the one that is held against them first; NaN = not known.
    """
    corrected = level - factors[0]
    middle = median(corrected)
    apart = np.abs(corrected - middle)
    nearest = np.nanmin(np.abs(level - factors - middle), axis=0)
    odd: NDArray[np.bool_] = (apart > k.MISFIT) & (nearest < apart / 2)
    return odd


def outliers(level: NDArray[np.float64], gap: float) -> NDArray[np.bool_]:
    """Runs (n,) outside the largest cluster, where a gap parts clusters; all, where no cluster is the largest.

    Parameters
    ----------
    level : (n,) natural log of the levels of runs that should be the same.
    gap : neighbours in size that are further apart belong to different clusters.
    """
    order = np.argsort(level, kind="stable")
    cluster = np.empty(level.size, np.int64)
    cluster[order] = np.concatenate([[0], np.cumsum(np.diff(level[order]) > gap)])
    sizes = np.bincount(cluster)
    largest = np.flatnonzero(sizes == sizes.max())
    if sizes.size == 1:
        return np.zeros(level.size, np.bool_)
    if largest.size > 1:
        return np.ones(level.size, np.bool_)
    return np.asarray(cluster != largest[0])
