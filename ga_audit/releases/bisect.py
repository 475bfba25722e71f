"""The same over releases, each in its own environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ga_audit.errors import AuditError, EngineFailed, WrongUsage
from ga_audit.releases import index
from ga_audit.releases.environments import prepare
from ga_audit.releases.packages import packages, requirements
from ga_audit.repro import (
    installed,
    measurement,
    scenarios,
)
from ga_audit.repro import (
    plan as planning,
)
from ga_audit.repro import (
    train as training,
)
from ga_audit.repro import (
    verdict as verdicts,
)
from ga_audit.repro.engine import engines

NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Ranks:
    """What several ranks do besides GA: the exponents on their number, and what they were."""

    loss: float | None
    grad_norm: float | None
    gradient: float | None
    in_one_process: bool  # devices of one process, not processes
    average_tokens: bool | None  # the Trainer's average_tokens_across_devices; None: not known


@dataclass(frozen=True, slots=True)
class Row:
    """One release and variant: what is scaled, or why it could not be measured."""

    package: str
    release: str
    variant: str
    loss: float | None = None
    grad_norm: float | None = None
    gradient: float | None = None
    verdict: str = NOT_MEASURED
    failure: str | None = None
    bugs: tuple[str, ...] = ()  # of the catalogue, that this stack has and that do what was measured
    companions: tuple[str, ...] = ()  # other packages of the environment: "transformers==4.48.3"
    cosine: float | None = None  # the lowest of the real gradient with the whole batch's
    note: str | None = None  # caveats on the measurement
    rest: float | None = None  # factor of the real gradient at every GA, which no power of GA explains
    on_ranks: Ranks | None = None  # None: one rank

    @property
    def is_measured(self) -> bool:
        """Whether there is a verdict."""
        return self.failure is None and self.verdict != NOT_MEASURED


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
    pins: tuple[str, ...] = ()  # further packages: "transformers==4.49.0"
    world_sizes: tuple[int, ...] = (1,)
    data_parallel: bool = False  # the ranks are devices of one process


def check(request: Request, variants: Sequence[str] = ()) -> None:
    """Say in one line what would break for every release, before any is installed.

    Raises
    ------
    WrongUsage
        the effective batch cannot be divided, a pin cannot be meant so, the engine has no such option, the output cannot be
        written.
    EngineFailed
        the interpreter cannot be run, or has no torch to share.
    """
    planning.plan_cells(request.out, request.ga, request.world_sizes, request.effective_batch_size)
    requirements(request.package, "0", request.pins)
    for variant in variants:
        plan = _plan(request, "0", variant, request.torch_python)
        training.argv(plan, plan.cells[-1])
    try:
        request.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write there: {error.strerror}"
        raise WrongUsage(message, where=str(request.out), remedy="Give a writable folder with --out.") from error
    if gone := installed.missing(("torch",), request.torch_python):
        remedy = f"Install: {installed.install(gone, request.torch_python)}"
        raise EngineFailed("the interpreter has no torch", where=request.torch_python, remedy=remedy)


def needed(request: Request, release: str) -> tuple[str, ...]:
    """The requirements of a release's environment.

    The companions of a known release are those of the table. Those of any other release are the newest of its own day,
    which pip would have chosen, as far as the package index says when it was.
    """
    chosen = requirements(request.package, release, request.pins)
    if release in packages()[request.package].releases:
        return chosen
    pinned = {pin.partition("==")[0] for pin in request.pins}
    names = [name for name, sign, _ in (need.partition("==") for need in chosen[1:]) if sign]
    of_its_day = index.companions(request.package, release, [n for n in names if n not in pinned])
    pins = (*request.pins, *(f"{name}=={version}" for name, version in of_its_day.items()))
    return requirements(request.package, release, pins)


def measure(request: Request, release: str, variants: Sequence[str]) -> tuple[Row, ...]:
    """One row for each variant; a release that cannot be installed or run is a row that says why."""
    try:
        python = prepare(needed(request, release), torch_python=request.torch_python, cache=request.cache)
        plans = [_plan(request, release, variant, python) for variant in variants]
        broken = planning.run(*plans, resume=True, keep_going=True)
    except AuditError as error:
        return tuple(Row(request.package, release, variant, failure=error.message) for variant in variants)
    return tuple(_row(request, release, v, plan, broken) for v, plan in zip(variants, plans, strict=True))


def _plan(request: Request, release: str, variant: str, python: str) -> planning.Plan:
    out = request.out / f"{request.package}-{release}" / variant
    cells = planning.plan_cells(out, request.ga, request.world_sizes, request.effective_batch_size)
    engine = packages()[request.package].engine
    which = "model" if variant in engines()[engine].models else "variant"
    options = {"steps": request.steps, "measure-every": 1, which: variant}
    if request.data_parallel:
        options["data-parallel"] = True
    return planning.Plan(engine, cells, request.effective_batch_size, options, python, name=variant)


def _row(
    request: Request,
    release: str,
    variant: str,
    plan: planning.Plan,
    broken: Mapping[Path, EngineFailed],
) -> Row:
    try:
        for cell in plan.cells:
            if cell.out in broken:
                raise broken[cell.out]
        found = verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in plan.cells])
    except AuditError as error:
        return Row(request.package, release, variant, failure=error.message)
    scales = (found.on_loss, found.on_grad_norm, found.on_gradient)
    # measured at one GA, an exponent is what the factor would be as its power
    exponents = [[None if e is None else round(e, 4) + 0.0 for e in found.exponents(scale)] for scale in scales]
    (loss, norm, gradient), on_ranks = ([pair[i] for pair in exponents] for i in (0, 1))
    companions = tuple(pin for pin in needed(request, release)[1:] if "==" in pin)
    told_as_power = len(found.gas) == 1 or (len(found.world_sizes) == 1 and max(found.world_sizes) > 1)
    left = None if told_as_power else found.on_gradient.rest
    cosine, rest = (None if e is None else round(e, 4) for e in (found.cosine, left))
    row = Row(
        request.package, release, variant, loss, norm, gradient, found.verdict, companions=companions, cosine=cosine, rest=rest,
        on_ranks=_ranks(found, on_ranks) if max(request.world_sizes) > 1 else None,
    )  # fmt: skip
    return replace(row, bugs=known_bugs(row), note="; ".join(found.notes) or None)


def _ranks(found: verdicts.Judgement, exponents: Sequence[float | None]) -> Ranks:
    loss, norm, gradient = exponents
    most = found.cells[-1].training  # of the most ranks
    return Ranks(loss, norm, gradient, bool(found.data_parallel), most.average_tokens)


def known_bugs(row: Row) -> tuple[str, ...]:
    """The bugs of the catalogue that the release has in the variant's situation and that do what was measured."""
    stack = {row.package: row.release, **dict(pin.split("==", 1) for pin in row.companions)}
    ranks = row.on_ranks or Ranks(None, None, None, in_one_process=False, average_tokens=None)
    seen = scenarios.Seen(
        (row.loss, ranks.loss), (row.grad_norm, ranks.grad_norm), (row.gradient, ranks.gradient), row.verdict, row.cosine,
        multi_rank=row.on_ranks is not None, average_tokens=ranks.average_tokens, data_parallel=ranks.in_one_process,
    )  # fmt: skip
    return scenarios.known_bugs(row.variant, stack, seen)


def search(releases: Sequence[str], row_of: Callable[[str], Row]) -> tuple[Row, ...]:
    """Binary search for one change of verdict between the ends; the rows that were measured, ascending.

    A verdict that changes more than once between the ends shows only one of the changes. A release that cannot be
    measured is left out of the search and kept in the rows; at an end, the next one inwards takes its place.
    """
    rows: dict[str, Row] = {}

    def measured(release: str) -> Row:
        rows[release] = rows.get(release) or row_of(release)
        return rows[release]

    usable = list(releases)
    while usable and not measured(usable[0]).is_measured:
        del usable[0]
    while usable and not measured(usable[-1]).is_measured:
        del usable[-1]
    low, high = 0, len(usable) - 1
    if usable and rows[usable[low]].verdict != rows[usable[high]].verdict:
        while high - low > 1:
            middle = (low + high) // 2
            row = measured(usable[middle])
            if not row.is_measured:
                del usable[middle]
                high -= 1
            elif row.verdict == rows[usable[low]].verdict:
                low = middle
            else:
                high = middle
    return tuple(rows[r] for r in releases if r in rows)
