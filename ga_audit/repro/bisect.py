"""The same over releases, each in its own environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from packaging.version import Version

from ga_audit.errors import AuditError, EngineFailed
from ga_audit.repro import judge, matrix
from ga_audit.repro._environments import prepare

KNOWN = (
    "4.45.2", "4.46.0", "4.46.1", "4.46.2", "4.46.3", "4.47.0", "4.47.1", "4.48.0", "4.49.0", "4.51.3", "4.57.6",
    "5.0.0", "5.23.0",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One release and variant: what is scaled, or why it could not be measured."""

    package: str
    release: str
    variant: str
    loss: float | None = None
    grad_norm: float | None = None
    gradient: float | None = None
    verdict: str = "not measured"
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is measured in each environment."""

    package: str
    out: Path
    torch_python: str
    ga: tuple[int, ...] = (1, 4)
    steps: int = 3
    effective_batch_size: int = 16
    cache: Path | None = None


def between(first: str, last: str, releases: Sequence[str] = KNOWN) -> tuple[str, ...]:
    """The releases from `first` to `last`, both ends included, ascending."""
    low, high = Version(first), Version(last)
    if low > high:
        raise AuditError(f"--from {first} is newer than --to {last}")
    return tuple(sorted({first, last, *(r for r in releases if low <= Version(r) <= high)}, key=Version))


def requirements(package: str, release: str) -> tuple[str, ...]:
    """The release, and an accelerate of its time."""
    if package != "transformers":
        return (f"{package}=={release}",)
    return (f"{package}=={release}", f"accelerate=={'1.10.1' if Version(release) < Version('5') else '1.15.0'}")


def measure(request: Request, release: str, variants: Sequence[str]) -> tuple[Row, ...]:
    """One row for each variant; a release that cannot be installed or run is a row that says why."""
    try:
        python = prepare(requirements(request.package, release), torch_python=request.torch_python, cache=request.cache)
        plans = [_plan(request, release, variant, python) for variant in variants]
        matrix.run_together(plans)
    except AuditError as error:
        return tuple(Row(request.package, release, variant, failure=error.message) for variant in variants)
    return tuple(_row(request, release, v, plan) for v, plan in zip(variants, plans, strict=True))


def _plan(request: Request, release: str, variant: str, python: str) -> matrix.Plan:
    out = request.out / f"{request.package}-{release}" / variant
    cells = matrix.plan_cells(out, request.ga, (1,), request.effective_batch_size)
    options = {"steps": request.steps, "measure-every": 1, "variant": variant}
    return matrix.Plan("transformers", cells, request.effective_batch_size, options, python)


def _row(request: Request, release: str, variant: str, plan: matrix.Plan) -> Row:
    try:
        if bad := [cell for cell in plan.cells if not matrix.is_finished(plan, cell)]:
            raise EngineFailed(matrix.last_line(bad[0]))
        found = judge.judge([judge.read_truth(cell.out / "truth.json") for cell in plan.cells])
    except AuditError as error:
        return Row(request.package, release, variant, failure=error.message)
    loss, norm, gradient = (None if e is None else round(e, 4) for e in (found.loss, found.grad_norm, found.gradient))
    return Row(request.package, release, variant, loss, norm, gradient, found.verdict)


def search(releases: Sequence[str], row_of: Callable[[str], Row]) -> tuple[Row, ...]:
    """Binary search for one change of verdict between the ends; the rows that were measured, ascending.

    A verdict that changes more than once between the ends shows only one of the changes.
    A release in the middle that cannot be measured is left out of the search and kept in the rows.
    """
    rows: dict[str, Row] = {r: row_of(r) for r in dict.fromkeys((releases[0], releases[-1]))}
    usable = list(releases)
    low, high = 0, len(usable) - 1
    if rows[usable[low]].verdict == rows[usable[high]].verdict:
        return tuple(rows.values())
    while high - low > 1:
        middle = (low + high) // 2
        row = rows[usable[middle]] = row_of(usable[middle])
        if row.failure:
            del usable[middle]
            high -= 1
        elif row.verdict == rows[usable[low]].verdict:
            low = middle
        else:
            high = middle
    return tuple(rows[r] for r in releases if r in rows)


def changes(rows: Sequence[Row]) -> tuple[str, ...]:
    """In words, where the verdict of a variant changes between two measured releases."""
    found = []
    for variant in dict.fromkeys(row.variant for row in rows):
        measured = [row for row in rows if row.variant == variant and not row.failure]
        for before, after in pairwise(measured):
            if before.verdict != after.verdict:
                kind = "first good" if after.verdict == "healthy" else "first bad"
                found.append(f"{variant}: {kind} {after.release} ({after.verdict}; {before.release}: {before.verdict})")
    return tuple(found)


def table(rows: Sequence[Row]) -> str:
    """Release against what is scaled."""
    lines = [f"{'release':>10}  {'variant':<9}  {'loss':>6}  {'norm':>6}  {'grad':>6}  verdict"]
    for row in rows:
        numbers = "  ".join(f"{'-' if e is None else f'{e:.2f}':>6}" for e in (row.loss, row.grad_norm, row.gradient))
        lines.append(f"{row.release:>10}  {row.variant:<9}  {numbers}  {row.failure or row.verdict}")
    return "\n".join([*lines, *changes(rows)])
