"""Two curves, or two numbers, held against each other: the shortest way to a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ga_audit.api import Diagnosis, diagnose
from ga_audit.errors import WrongUsage
from ga_audit.finding import Interval, Verdict
from ga_audit.run import Role, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How two runs of different GA differ in one quantity."""

    role: Role
    ga: tuple[int, int]
    factor: float
    """How many times the second is the first; NaN where values of zero or below have no ratio."""
    exponent: float
    """The a in factor = (ga[1] / ga[0])**a: 0 correct, 1 summed, -1 divided one time too many."""
    interval: Interval
    """95 % interval of the exponent."""
    verdict: Verdict
    probability: float
    """Of the most probable hypothesis."""
    hypothesis: str
    """Name of the most probable hypothesis, "healthy" among them."""
    diagnosis: Diagnosis
    """All that led to it."""

    def __repr__(self) -> str:
        a, b = self.ga
        if math.isnan(self.factor):
            return f"<Ratio of {self.role.value}, GA {a} to {b}: none; {self.verdict.value}>"
        measured = (
            f"{self.factor:.4g}x from GA {a} to {b}, exponent {round(self.exponent, 3) + 0.0:.3f} "
            f"[{self.interval.low:.3f}, {self.interval.high:.3f}]"
        )
        return (
            f"<Ratio of {self.role.value}: {measured}\n"
            f"  {self.verdict.value}; most probable: {self.hypothesis} ({self.probability:.3f})>"
        )


def ratio(
    first: ArrayLike,
    second: ArrayLike,
    *,
    ga: tuple[int, int],
    role: Role | str = Role.LOSS,
    micro_batch_size: tuple[int, int] | None = None,
    world_size: int | None = None,
) -> Ratio:
    """Whether two runs of different GA differ by a power of GA.

    Parameters
    ----------
    first, second : float or array_like
        One logged value of each run, or its logged curve, at the same optimizer steps from the
        first on.
    ga : tuple of two int
        gradient_accumulation_steps of the two runs; they differ.
    role : Role or str
        "loss" or "grad_norm".
    micro_batch_size : tuple of two int, optional
        Of the two runs. Correct runs of an equal effective batch size differ less.
    world_size : int, optional
        Of both runs.

    Returns
    -------
    Ratio
        The interval is wide where nothing shows that the runs are of the same model and data;
        `inconclusive` is a possible verdict.

    Raises
    ------
    WrongUsage
        The GA are equal or not positive, the role is another one, or there are no numbers.

    Examples
    --------
    >>> ratio(2.715, 10.86, ga=(2, 8)).verdict
    <Verdict.SCALED: 'scaled'>
    >>> ratio([2.5, 2.1, 1.9], [10.0, 8.4, 7.6], ga=(2, 8)).hypothesis
    'summed-over-ga'
    """
    if role not in (Role.LOSS, Role.GRAD_NORM):
        raise WrongUsage(f"there is no ratio of {str(role)!r}", remedy="role is loss or grad_norm.")
    if len(ga) != 2 or ga[0] == ga[1]:
        raise WrongUsage(f"ga={ga!r}: two different values are needed")
    role = Role(role)
    sizes = (None, None) if micro_batch_size is None else micro_batch_size
    runs = [
        _run(name, values, role, ga=g, micro_batch_size=size, world_size=world_size)
        for name, values, g, size in zip(("first", "second"), (first, second), ga, sizes, strict=True)
    ]
    (diagnosis,) = diagnose(runs)
    posterior = diagnosis.posterior.get(role, {})
    best = max(posterior, key=lambda h: posterior[h], default=None)
    estimate = next((e for found, e in diagnosis.exponents if found is role), None)
    exponent = math.nan if estimate is None else estimate.value
    return Ratio(
        role=role,
        ga=(ga[0], ga[1]),
        factor=(ga[1] / ga[0]) ** exponent,
        exponent=exponent,
        interval=Interval(math.nan, math.nan) if estimate is None else estimate.interval,
        verdict=diagnosis.verdict,
        probability=math.nan if best is None else posterior[best],
        hypothesis="" if best is None else best.name,
        diagnosis=diagnosis,
    )


def _run(
    name: str, values: ArrayLike, role: Role, *, ga: int, micro_batch_size: int | None, world_size: int | None
) -> Run:
    value = np.atleast_1d(np.asarray(values))
    if not value.size:
        raise WrongUsage(f"the {name} curve is empty")
    known = {"micro_batch_size": micro_batch_size, "world_size": world_size}
    settings = {key: size for key, size in known.items() if size is not None}
    if role is Role.LOSS:
        return Run.from_arrays(loss=value, ga=ga, name=name, **settings)  # type: ignore[arg-type]
    return Run.from_arrays(grad_norm=value, ga=ga, name=name, **settings)  # type: ignore[arg-type]
