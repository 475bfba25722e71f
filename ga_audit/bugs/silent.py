"""Bugs that leave the loss curve perfect and scale the gradient: only a look-up of the stack finds them from one log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ga_audit.bugs import catalogue
from ga_audit.run import Note, Role, Run
from ga_audit.stats.arrays import median


def notes(runs: Sequence[Run]) -> Iterator[Note]:
    """A note on each such bug that may well be about these runs, with what its grad_norm would be as a mean."""
    seen: set[str] = set()
    for run in runs:
        for package, release in run.settings.packages.items():
            for bug, row in catalogue.of_release(package, release.value):
                factor = _factor(row, run)
                if factor == 1 or bug.id in seen or not catalogue.concerns(row, [run]):
                    continue
                seen.add(bug.id)
                open_ones = ", ".join(f"{k} = {v}" for k, v in catalogue.open_conditions(row, [run]))
                condition = f", if {open_ones}" if open_ones else ""
                does = (
                    "turn the gradient away from that of the whole batch"
                    if factor is None
                    else f"make the gradient x{factor:g}"
                )
                norm = "" if factor is None else _norm(run, factor)
                yield Note(
                    "loss-cannot-show",
                    f"{bug.id}: {package} {release.value} is known to {does} with a perfect loss curve{condition}; the loss of "
                    f"{run.name} cannot show it{norm}",
                )


def _factor(row: catalogue.Affected, run: Run) -> float | None:
    """What a row multiplies the gradient of a run by where it leaves the loss alone, 1 otherwise; None: it turns it."""
    loss, gradient, ga = row.signature.loss, row.signature.gradient, run.settings.ga or 1
    if loss != (0.0, 0.0):
        return 1.0
    if gradient is None:
        return 1.0 if ga == 1 and "multi_rank" not in row.when else None
    return float(ga ** gradient[0] * run.settings.ranks ** gradient[1])


def _norm(run: Run, factor: float) -> str:
    series = run.get(Role.GRAD_NORM)
    values = series.value[np.isfinite(series.value)] if series is not None else np.zeros(0)
    if not len(values):
        return ""
    middle = median(values)
    return f"; the logged grad_norm (median {middle:.3g}) would be {middle / factor:.3g} as a mean"
