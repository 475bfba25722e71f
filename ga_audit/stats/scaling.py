"""log-likelihood of scaling hypotheses; exponent and interval.

Levels of runs are modelled as

    level_i = c_family(i) + factor_i + nuisance_i + u_i + noise_i,    u_i ~ N(0, tau^2 / 2)

with `factor` what a hypothesis predicts, the nuisance linear with known scales, and the run effect's tau uncertain
around a centre that the metadata sets. The constants c are removed by contrasts (restricted likelihood; Patterson &
Thompson 1971), so a factor common to all runs cannot be seen, by construction. In a basis that diagonalises the
rest, V(tau) = diag(lambda) + tau^2/2, and everything that follows is a sum over coordinates for each tau.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ga_audit.stats import constants as k
from ga_audit.stats.arrays import Floats, distinct
from ga_audit.stats.normal import log_interval, log_sum, mixture_quantiles

H = TypeVar("H", bound=Hashable)


@dataclass(frozen=True, slots=True, eq=False)
class Nuisance:
    """What makes right runs differ, with scales."""

    tau: tuple[tuple[float, float], ...]
    """(centre, weight): a mixture of lognormals for the sd of the contrast of two runs."""
    modes: tuple[Floats, ...] = ()
    """Vectors (n,) that enter with a N(0, 1) coefficient each: kB log B, klr log lr."""
    batch: tuple[tuple[Floats, float], ...] = ()
    """(log B (n,), weight): the norm of a gradient falls as B^-gamma. Several where B is unknown."""
    family: tuple[int, ...] = ()
    """Family of each run; each has a level of its own. Empty: one family."""
    extra: float = 0.0
    """sd of a contrast from the choice of window and axis."""
    wander: float = 0.0
    """Slow wandering inside the runs: a floor for tau."""


@dataclass(frozen=True, slots=True)
class Exponent:
    """An exponent: the line through the observed levels, and its posterior under a flat prior."""

    axis: str
    value: float
    """Least squares through the levels. What could confound it widens the intervals, which hold it, and never moves it."""
    interval95: tuple[float, float]
    interval90: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Fit(Generic[H]):
    """The comparison of hypotheses, named by keys of any kind, on the levels of runs."""

    log_likelihood: dict[H, float]
    """Nats, relative to `healthy`; the last is `other`."""
    exponents: tuple[Exponent, ...]
    """The main axis first."""
    ties: tuple[tuple[H, ...], ...]
    """Hypotheses that predict the same contrasts."""
    tau: float
    """Posterior median of tau under the likeliest hypothesis."""
    tau_grid: Floats
    """(J,) the values of tau that were summed over."""
    contrast: Floats
    """(r,) the contrasts of the levels in which V(tau) is diagonal."""
    direction: Floats
    """(r,) the same contrasts of the main axis."""


@dataclass(frozen=True, slots=True, eq=False)
class _Basis:
    """Contrasts in which V(tau) is diagonal: `project @ level`, variances (J, r), log weights and normalisers (J,)."""

    project: Floats
    variance: Floats
    log_weight: Floats
    tau: Floats


def fit(
    level: Floats,
    covariance: Floats,
    factors: Mapping[H, Floats],
    axes: Mapping[str, Floats],
    nuisance: Nuisance,
    *,
    healthy: H,
    other: H,
    run_effect: Floats | None = None,
) -> Fit[H] | None:
    """Compare scaling hypotheses on the levels of runs.

    Parameters
    ----------
    level : (n,) ndarray
        Level of each run, natural log; only contrasts have a meaning.
    covariance : (n, n) ndarray
        Of `level`, noise inside the runs only; natural logs squared.
    factors : mapping from K keys to (n,) ndarray
        ln(logged / intended) of every run under each named hypothesis, `healthy` among them.
    axes : mapping from names to (n,) ndarray
        Directions of a free exponent, the main one first: log GA, log world size.
    nuisance : Nuisance
        What makes correct runs differ, natural logs.
    healthy : H
        The hypothesis of `factors` that the log-likelihoods are relative to.
    other : H
        The key under which a free exponent within +- `constants.OTHER_RANGE` is reported.
    run_effect : (n, n) ndarray, optional
        Covariance of the run effects for tau^2/2 = 1; the identity by default.

    Returns
    -------
    Fit or None
        None if no contrast of the runs varies along any axis.

    Raises
    ------
    KeyError
        `healthy` is not one of `factors`.

    References
    ----------
    Patterson & Thompson 1971, "Recovery of inter-block information when block sizes are unequal".

    Examples
    --------
    Two runs of GA 1 and 8, the second 8 times as high:

    >>> log_ga = np.log([1.0, 8.0])
    >>> factors = {"mean": 0 * log_ga, "sum": log_ga}
    >>> found = fit(log_ga, 1e-6 * np.eye(2), factors, {"ga": log_ga}, Nuisance(tau=((0.01, 1.0),)),
    ...             healthy="mean", other="other")
    >>> max(found.log_likelihood, key=found.log_likelihood.get), round(found.exponents[0].value, 3)
    ('sum', 1.0)
    """
    factors[healthy]
    contrasts = _contrasts(level.size, nuisance.family)
    axes = {name: v for name, v in axes.items() if contrasts.size and _varies(contrasts @ v)}
    if not axes:
        return None
    basis = _basis(contrasts, covariance, nuisance, run_effect)
    shifts, shift_weight = _shifts(level.size, nuisance)
    direction = basis.project @ next(iter(axes.values()))
    z = basis.project @ level
    means = np.stack([basis.project @ v for v in factors.values()])
    residual = z - means[:, None, :] + (shifts @ basis.project.T)[None, :, :]  # (K, Q, r)
    log_weight = basis.log_weight[None, None, :] + np.log(shift_weight)[None, :, None]
    fitted = _along(residual, direction, basis.variance)
    point = log_sum(log_weight + fitted.at_zero, axis=(1, 2))
    slab = log_sum(log_weight + fitted.within(k.SLAB), axis=(1, 2))
    each = np.logaddexp(point, slab) - np.log(2)
    base = list(factors).index(healthy)
    free = _log_free(residual[base : base + 1], basis, axes.values(), log_weight[0])
    log_likelihood = {name: float(x - each[base]) for name, x in zip(factors, each, strict=True)}
    log_likelihood[other] = free - float(each[base])
    best = int(np.argmax(each))
    at_tau = log_sum((log_weight + np.logaddexp(fitted.at_zero, fitted.within(k.SLAB)))[best], axis=0)
    tau = float(basis.tau[int(np.searchsorted(np.cumsum(np.exp(at_tau - log_sum(at_tau))), 0.5))])
    exponents = _exponents(level, covariance, axes, contrasts, nuisance, run_effect)
    return Fit(log_likelihood, exponents, ties(factors, nuisance.family), tau, basis.tau, z, direction)


def _varies(direction: Floats) -> bool:
    return bool(np.ptp(direction) + abs(direction).max() > 1e-9)


def _log_free(residual: Floats, basis: _Basis, axes: Iterable[Floats], log_weight: Floats) -> float:
    """Log-likelihood of an exponent that is free on one of the axes, each as likely as the others."""
    each = []
    for axis in axes:
        along = _along(residual, basis.project @ axis, basis.variance)
        each.append(float(log_sum(log_weight + along.within(k.OTHER_RANGE)[0])))
    return float(np.logaddexp.reduce(each) - np.log(len(each)))


def ties(factors: Mapping[H, Floats], family: tuple[int, ...] = ()) -> tuple[tuple[H, ...], ...]:
    """Groups of two and more hypotheses whose factors differ only by what contrasts cannot see."""
    names = list(factors)
    n = len(next(iter(factors.values())))
    labels = np.asarray(family if family else (0,) * n)
    centred = {}
    for name in names:
        v = factors[name].astype(np.float64).copy()
        for label in distinct(labels):
            v[labels == label] -= v[labels == label].mean()
        centred[name] = v
    left = names
    groups: list[tuple[H, ...]] = []
    while left:
        near = [name for name in left if np.abs(centred[name] - centred[left[0]]).max() < k.TIE]
        left = [name for name in left if name not in near]
        if len(near) > 1:
            groups.append(tuple(near))
    return tuple(groups)


@dataclass(frozen=True, slots=True, eq=False)
class _Along:
    """Log-density as a quadratic in an exponent: c0 - (A d^2 - 2 B d) / 2 for every hypothesis, shift and tau."""

    at_zero: Floats
    linear: Floats
    curvature: Floats

    def within(self, reach: float) -> Floats:
        """Log of the mean density over an exponent uniform in +-reach, in closed form."""
        root = np.sqrt(self.curvature)
        peak = self.linear / self.curvature
        mass = log_interval((-reach - peak) * root, (reach - peak) * root)
        log_height = self.at_zero + 0.5 * self.linear * peak + 0.5 * np.log(2 * np.pi)
        return np.asarray(log_height - np.log(root * 2 * reach) + mass)


def _along(residual: Floats, direction: Floats, variance: Floats) -> _Along:
    """Quadratic forms of residuals (K, Q, r) for variances (J, r)."""
    precision = 1.0 / variance
    square = (residual**2) @ precision.T
    linear = residual @ (precision * direction).T
    curvature = np.broadcast_to(np.maximum(precision @ direction**2, 1e-12), linear.shape)
    normal = -0.5 * (np.log(variance).sum(axis=1) + variance.shape[1] * np.log(2 * np.pi))
    return _Along(normal - 0.5 * square, linear, curvature)


def _contrasts(n: int, family: tuple[int, ...]) -> Floats:
    """Orthonormal rows (n - families, n) that sum to 0 inside each family."""
    labels = np.asarray(family if family else (0,) * n)
    rows = []
    for label in distinct(labels):
        members = np.flatnonzero(labels == label)
        for i in range(1, members.size):  # Helmert
            row = np.zeros(n)
            row[members[:i]] = -1.0
            row[members[i]] = i
            rows.append(row / np.sqrt(i * (i + 1)))
    return np.array(rows).reshape(len(rows), n)


def _basis(contrasts: Floats, covariance: Floats, nuisance: Nuisance, run_effect: Floats | None) -> _Basis:
    if run_effect is None and contrasts.shape[0] >= k.MANY_RUNS and not any(nuisance.family):
        project, values = _of_many(covariance, nuisance)
    else:
        project, values = _diagonal(contrasts, covariance, nuisance, run_effect)
    values = np.maximum(values, 1e-12)
    tau = np.geomspace(*k.TAU_GRID)
    weight = np.zeros_like(tau)
    for centre, share in nuisance.tau:
        away = (np.log(tau) - np.log(np.hypot(centre, nuisance.wander))) / k.TAU_SPREAD
        density = np.exp(-0.5 * away**2)
        weight += share * density / density.sum()
    variance = values + 0.5 * tau[:, None] ** 2
    return _Basis(project, variance, np.log(np.maximum(weight, 1e-300)), tau)


def _diagonal(
    contrasts: Floats, covariance: Floats, nuisance: Nuisance, run_effect: Floats | None
) -> tuple[Floats, Floats]:
    """Contrasts (r, n) in which the covariance without the run effect is diagonal, and its diagonal (r,)."""
    n = contrasts.shape[1]
    fixed = covariance + 0.5 * nuisance.extra**2 * np.eye(n)
    for mode in nuisance.modes:
        fixed = fixed + np.outer(mode, mode)
    project = contrasts
    if run_effect is not None:
        project = np.linalg.solve(np.linalg.cholesky(contrasts @ run_effect @ contrasts.T), contrasts)
    values, vectors = np.linalg.eigh(project @ fixed @ project.T)
    return vectors.T @ project, values


def _of_many(covariance: Floats, nuisance: Nuisance) -> tuple[Floats, Floats]:
    """The same for many runs, whose noise is taken as equal and independent: no cost grows with the cube of the runs.

    What runs differ by is then the run effect and the modes, which act as before.
    """
    n = len(covariance)
    centred = [mode - mode.mean() for mode in nuisance.modes]
    frame, _ = np.linalg.qr(np.stack([np.ones(n), *centred], axis=1), mode="complete")
    project = np.ascontiguousarray(frame[:, 1:].T)
    values = np.full(n - 1, float(np.trace(covariance)) / n + 0.5 * nuisance.extra**2)
    if centred:  # the modes lie in the first rows
        rows = len(centred)
        inside = project[:rows] @ np.stack(centred, axis=1)
        size, turn = np.linalg.eigh(inside @ inside.T)
        project[:rows] = turn.T @ project[:rows]
        values[:rows] += size
    return project, values


def _shifts(n: int, nuisance: Nuisance) -> tuple[Floats, Floats]:
    """What is added to residuals for each value of gamma (q, n), and its weight (q,)."""
    if not any(np.ptp(v) > 1e-9 for v, _ in nuisance.batch):
        return np.zeros((1, n)), np.ones(1)
    low, high = k.GRAD_NORM_BATCH_EXPONENT
    steps = k.GRAD_NORM_BATCH_GRID
    gamma = low + (high - low) * (np.arange(steps) + 0.5) / steps
    shifts, weights = [], []
    for log_batch, share in nuisance.batch:
        if np.ptp(log_batch) > 1e-9:
            shifts.append(gamma[:, None] * (log_batch - log_batch.mean()))
            weights.append(np.full(steps, share / steps))
        else:
            shifts.append(np.zeros((1, n)))
            weights.append(np.array([share]))
    return np.concatenate(shifts), np.concatenate(weights)


def _exponents(
    level: Floats,
    covariance: Floats,
    axes: Mapping[str, Floats],
    contrasts: Floats,
    nuisance: Nuisance,
    run_effect: Floats | None,
) -> tuple[Exponent, ...]:
    """Posterior of the exponent on each axis; of two axes that can be told apart, each with the other free (sd 1)."""
    out = []
    shifts, shift_weight = _shifts(level.size, nuisance)
    for name, axis in axes.items():
        free = [v for other, v in axes.items() if other != name and _separable(contrasts @ axis, contrasts @ v)]
        if name != next(iter(axes)) and not free:
            continue  # the same contrast as the main axis: one number, not two
        wider = Nuisance(nuisance.tau, (*nuisance.modes, *free), (), nuisance.family, nuisance.extra, nuisance.wander)
        basis = _basis(contrasts, covariance, wider, run_effect)
        residual = (basis.project @ level + shifts @ basis.project.T)[None]
        a = _along(residual, basis.project @ axis, basis.variance)
        log_weight = basis.log_weight + np.log(shift_weight)[:, None]
        log_weight = (log_weight + a.at_zero[0] + 0.5 * a.linear[0] ** 2 / a.curvature[0]) - 0.5 * np.log(
            a.curvature[0]
        )
        weight = np.exp(log_weight - log_weight.max()).ravel()
        at = np.array([0.025, 0.05, 0.95, 0.975])
        mean, sd = (a.linear[0] / a.curvature[0]).ravel(), (a.curvature[0] ** -0.5).ravel()
        q = [float(x) for x in mixture_quantiles(weight, mean, sd, at)]
        value = _least_squares(contrasts @ level, contrasts @ axis, [contrasts @ v for v in free])
        out.append(Exponent(name, value, (min(q[0], value), max(q[3], value)), (min(q[1], value), max(q[2], value))))
    return tuple(out)


def _least_squares(z: Floats, direction: Floats, free: Sequence[Floats]) -> float:
    """Coefficient of a direction in the contrasts (r,) of the levels, the free directions fitted with it."""
    design = np.stack([direction, *free], axis=1)
    return float(np.linalg.lstsq(design, z, rcond=None)[0][0])


def _separable(a: Floats, b: Floats) -> bool:
    """Whether two directions are told apart by the contrasts that there are."""
    cosine = abs(float(a @ b)) / max(1e-12, float(np.linalg.norm(a) * np.linalg.norm(b)))
    return cosine < 0.95
