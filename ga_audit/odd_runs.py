"""Whether a verdict on a group holds for each of its runs.

The evidence on a group is summed and averaged over its runs, so one run of other code can be outvoted by the others. A
verdict on the group is therefore held against each run: against its own evidence, and against the level of the runs
that it must equal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ga_audit.conclusion import Undecided, UndecidedReason
from ga_audit.evidence import ratio_regression
from ga_audit.finding import HEALTHY, NAMED, OTHER, Evidence, Hypothesis
from ga_audit.grouping import Group, batch_sizes
from ga_audit.posterior import by_kind, log_likelihood
from ga_audit.run import FloatArray, Role, Run
from ga_audit.stats import constants as k
from ga_audit.stats import decision
from ga_audit.stats.arrays import median

_EVEN = 0.5  # own probability of being right, below which a run contradicts `healthy` and from which on a fault


def why(
    role: Role, group: Group, pieces: Sequence[Evidence], prior: Mapping[Hypothesis, float], verdict: Hypothesis
) -> Undecided | None:
    """Why a verdict on the group does not hold for each of its runs; None if it does.

    Parameters
    ----------
    role : LOSS or GRAD_NORM.
    group : the runs.
    pieces : the evidence on this quantity.
    prior : over the hypotheses that were weighed.
    verdict : the hypothesis that is to be stated of all runs.
    """
    if verdict == HEALTHY and (unknown := [run for run in group.runs if run.settings.ga is None]):
        return Undecided(reason=UndecidedReason.UNKNOWN_GA, role=role, runs=_names(unknown))
    if len(group.runs) < 2:
        return None
    compared = list(_compared(role, group, pieces))
    inside = {run.id for runs, _ in compared for run in runs}
    logging = [run for run in group.runs if run.get(role) is not None]
    own = {run.id: _probability_right(run, pieces, prior) for run in logging}
    odd = [run for run in logging if _contradicts(run, own[run.id], verdict, run.id in inside)]
    return _contradiction(role, odd, own) if odd else _among(role, verdict, compared)


def why_undecided(
    role: Role, group: Group, pieces: Sequence[Evidence], prior: Mapping[Hypothesis, float], leading: Hypothesis
) -> Undecided | None:
    """The runs that keep a group from a verdict; None where their levels show none.

    Parameters
    ----------
    role, group, pieces, prior : as of `why`.
    leading : the likeliest hypothesis.
    """
    if len(group.runs) < 2:
        return None
    verdict = HEALTHY if leading == OTHER else leading
    compared = list(_compared(role, group, pieces))
    odd = [run for runs, level in compared for run in _misfits(verdict, role, runs, level)]
    own = {run.id: _probability_right(run, pieces, prior) for run in odd}
    # where no side is the larger one, the run is odd that is likelier not right than right
    against = HEALTHY if len(odd) == sum(len(runs) for runs, _ in compared) else verdict
    contradicting = [run for run in odd if own[run.id] is not None and _contradicts(run, own[run.id], against, True)]
    if contradicting and len(contradicting) < len(odd):
        return _contradiction(role, contradicting, own)
    if leading == OTHER and 2 * len(odd) > sum(len(runs) for runs, _ in compared):
        return None
    return _among(role, verdict, compared)


def _contradiction(role: Role, odd: Sequence[Run], own: Mapping[str, float | None]) -> Undecided:
    known = tuple(p for run in odd if (p := own[run.id]) is not None)
    return Undecided(reason=UndecidedReason.CONTRADICTED, role=role, runs=_names(odd), right=known)


def _among(role: Role, verdict: Hypothesis, compared: Sequence[tuple[tuple[Run, ...], FloatArray]]) -> Undecided | None:
    """The runs that the verdict leaves far from those they were compared with."""
    odd: dict[str, Run] = {}
    factors: dict[str, float] = {}
    for runs, level in compared:
        ids = {run.id for run in _misfits(verdict, role, runs, level)}
        odd.update((run.id, run) for run in runs if run.id in ids)
        corrected = level - np.array([verdict.log_factor(run) for run in runs])
        others = [x for run, x in zip(runs, corrected, strict=True) if run.id not in ids]
        if others:
            middle = median(others)
            factors |= {run.id: float(np.exp(x - middle)) for run, x in zip(runs, corrected, strict=True)}
    if not odd:
        return None
    every = len(odd) == len({run.id for runs, _ in compared for run in runs})
    reason = UndecidedReason.RUNS_DIFFER if every else UndecidedReason.ODD_RUNS
    known = tuple(factors[name] for name in odd if name in factors)
    return Undecided(
        reason=reason,
        role=role,
        runs=_names(list(odd.values())),
        factors=known if len(known) == len(odd) and not every else (),
    )


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(run.name for run in runs)


# --- a run's own evidence ------------------------------------------------------------------------------------------


def _probability_right(run: Run, pieces: Sequence[Evidence], prior: Mapping[Hypothesis, float]) -> float | None:
    """Probability that a run is not scaled, from the evidence on it and the comparisons it is in.

    None where there is no evidence on it alone.
    """
    about = [piece for piece in pieces if run.id in piece.runs]
    if not any(len(piece.runs) < 2 for piece in about):
        return None
    said = []
    for kind in by_kind(about).values():
        single = [piece for piece in kind if len(piece.runs) < 2]
        several = [piece for piece in kind if len(piece.runs) > 1]
        said.append({
            h: sum(piece.log_likelihood.get(h, log_likelihood(piece, h, [run])) for piece in several)
            + sum(log_likelihood(piece, h, [run]) for piece in single) / max(len(single), 1)
            for h in prior
        })  # fmt: skip
    posterior = decision.posterior(prior, said)
    return sum(p for h, p in posterior.items() if h != OTHER and abs(h.log_factor(run)) < k.TIE)


def _contradicts(run: Run, probability: float | None, verdict: Hypothesis, compared: bool) -> bool:
    """Whether what is known of one run is at odds with the verdict on all."""
    if run.settings.ga == 1 and run.settings.ranks == 1:
        return False  # nothing scales there
    if verdict == HEALTHY:
        if probability is None:
            return not compared
        # the level of the others can stand for what the run itself does not show, not against what it does
        return probability < (_EVEN if compared else k.DECIDE_AT)
    return probability is not None and abs(verdict.log_factor(run)) >= k.TIE and probability >= _EVEN


# --- the level of the others ---------------------------------------------------------------------------------------


def _compared(role: Role, group: Group, pieces: Sequence[Evidence]) -> Iterator[tuple[tuple[Run, ...], FloatArray]]:
    """Runs of one release that were compared, with their levels."""
    by_id = {run.id: run for run in group.runs}
    found: set[str] = set()
    for piece in pieces:
        comparison = piece.comparison if piece.kind == ratio_regression.KIND else None
        if comparison is not None and all(name in by_id for name in comparison.runs):
            found.update(comparison.runs)
            yield tuple(by_id[name] for name in comparison.runs), comparison.level
    rest = tuple(run for run in group.runs if run.id not in found)
    if len(rest) > 1:
        yield from ratio_regression.levels(Group(rest), role)


def _misfits(h: Hypothesis, role: Role, runs: Sequence[Run], level: FloatArray) -> Iterator[Run]:
    """Runs that a hypothesis leaves far from the others.

    Runs of one GA and world size must agree as they are. Of three and more of any GA, one is odd where another
    hypothesis would bring it back to the others; under `healthy` all losses must agree, whatever would explain it.
    """
    factors = np.array([[g.log_factor(run) for run in runs] for g in (h, *NAMED)])
    corrected = level - factors[0]
    far = np.abs(corrected - median(corrected)) > k.MISFIT
    odd = np.zeros(len(runs), np.bool_)
    if len(runs) > 2:
        odd |= far if h == HEALTHY and role is Role.LOSS else decision.misfits(level, factors)
    cells: dict[tuple[int | None, int], list[int]] = defaultdict(list)
    for i, run in enumerate(runs):
        cells[(run.settings.ga, run.settings.ranks)].append(i)
    for cell in cells.values():
        gap = _gap(role, [runs[i] for i in cell])
        if len(cell) < 2 or gap is None:
            continue
        outside = decision.outliers(corrected[cell], gap)
        if outside.all() and far[cell].any() and not far[cell].all():
            outside = far[cell]  # the runs of other GA say which of them is right
        odd[cell] |= outside
    yield from (run for run, is_odd in zip(runs, odd, strict=True) if is_odd)


def _gap(role: Role, runs: Sequence[Run]) -> float | None:
    """How far right runs of one GA may lie apart; None where any distance may be that of their batches."""
    if role is Role.LOSS:
        return k.MISFIT
    sizes = batch_sizes(runs)
    if sizes is None:
        return None
    return k.MISFIT + k.GRAD_NORM_BATCH_EXPONENT[1] * float(np.log(max(sizes) / min(sizes)))
