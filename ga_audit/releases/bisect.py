"""The same over releases, each in its own environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ga_audit.errors import AuditError, EngineFailed, WrongUsage
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
from ga_audit.repro.tables import FACTOR_SAID

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
    beside: tuple[str, ...] = ()  # the other packages of the environment: "transformers==4.48.3"
    cosine: float | None = None  # the lowest of the real gradient with the whole batch's
    note: str | None = None  # what the numbers must say of themselves
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


def measure(request: Request, release: str, variants: Sequence[str]) -> tuple[Row, ...]:
    """One row for each variant; a release that cannot be installed or run is a row that says why."""
    try:
        needed = requirements(request.package, release, request.pins)
        python = prepare(needed, torch_python=request.torch_python, cache=request.cache)
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


def _row(request: Request, release: str, variant: str, plan: planning.Plan, broken: Mapping[Path, EngineFailed]) -> Row:
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
    beside = tuple(pin for pin in requirements(request.package, release, request.pins)[1:] if "==" in pin)
    told_as_power = len(found.gas) == 1 or (len(found.world_sizes) == 1 and max(found.world_sizes) > 1)
    left = None if told_as_power else found.on_gradient.rest
    cosine, rest = (None if e is None else round(e, 4) for e in (found.cosine, left))
    row = Row(
        request.package, release, variant, loss, norm, gradient, found.verdict, beside=beside, cosine=cosine, rest=rest,
        on_ranks=_ranks(found, on_ranks) if max(request.world_sizes) > 1 else None,
    )  # fmt: skip
    return replace(row, bugs=known_bugs(row), note="; ".join(found.notes) or None)


def _ranks(found: verdicts.Judgement, exponents: Sequence[float | None]) -> Ranks:
    loss, norm, gradient = exponents
    most = found.cells[-1].training  # of the most ranks
    return Ranks(loss, norm, gradient, bool(found.data_parallel), most.average_tokens)


def known_bugs(row: Row) -> tuple[str, ...]:
    """The bugs of the catalogue that the release has in the variant's situation and that do what was measured."""
    stack = {row.package: row.release, **dict(pin.split("==", 1) for pin in row.beside)}
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


def changes(rows: Sequence[Row], releases: Sequence[str] = ()) -> tuple[str, ...]:
    """In words, where the verdict of a variant changes between two measured releases.

    `releases` are all that are known, where not every one of them was asked: between two of which others were not
    measured, the change is not placed.
    """
    found = []
    for variant in dict.fromkeys(row.variant for row in rows):
        asked = [row for row in rows if row.variant == variant]
        for before, after in pairwise([row for row in asked if row.is_measured]):
            if before.verdict == after.verdict:
                continue
            if unasked := _between(before.release, after.release, releases, asked):
                found.append(
                    f"{variant}: {before.verdict} in {before.release}, {after.verdict} in {after.release}; not measured "
                    f"between them: {', '.join(unasked)}"
                )
                continue
            kind = {"healthy": "first good"}.get(
                after.verdict, "first bad" if before.verdict == "healthy" else "changes at"
            )
            line = f"{variant}: {kind} {after.release} ({after.verdict}; {before.release}: {before.verdict})"
            found.append(line + _also_changed(before, after))
    return tuple(found)


def _between(first: str, last: str, releases: Sequence[str], asked: Sequence[Row]) -> list[str]:
    """Releases between two of them that nobody asked about."""
    if first not in releases or last not in releases:
        return []
    inside = releases[releases.index(first) + 1 : releases.index(last)]
    known = {row.release for row in asked}
    return [release for release in inside if release not in known]


def _also_changed(before: Row, after: Row) -> str:
    """The packages beside that are not the same in both rows: the change may be theirs."""
    others = [pin.replace("==", " ") for pin in after.beside if pin not in before.beside]
    return f"; changed with it: {', '.join(others)}" if others else ""


def table(rows: Sequence[Row], releases: Sequence[str] = ()) -> str:
    """Release against what is scaled; `releases` as in `changes`."""
    wide = max([len("variant"), *(len(row.variant) for row in rows)])
    lines = [f"{'release':>10}  {'variant':<{wide}}  {'loss':>6}  {'norm':>6}  {'grad':>6}  {'verdict':<12}  known bug"]
    for row in rows:
        numbers = "  ".join(f"{_exponent(e):>6}" for e in (row.loss, row.grad_norm, row.gradient))
        said = row.failure or f"{row.verdict:<12}  {', '.join(row.bugs) or '-'}"
        said += f"  {', '.join(more)}" if (more := _besides(row)) else ""
        lines.append(f"{row.release:>10}  {row.variant:<{wide}}  {numbers}  {said}".rstrip())
    if any(row.rest is not None and abs(row.rest - 1) > FACTOR_SAID for row in rows):
        lines.append("x0.93: a factor of the real gradient at every GA, which no power of GA explains")
    if any(row.on_ranks for row in rows):
        lines.append("ranks: exponents of loss, grad_norm and gradient on their number")
    return "\n".join([*lines, *(changes(rows, releases) or _ends_alike(rows, releases)), *notes(rows)])


def _ends_alike(rows: Sequence[Row], releases: Sequence[str]) -> Iterator[str]:
    """What a search that found both ends alike has not asked."""
    for variant in dict.fromkeys(row.variant for row in rows):
        asked = [row for row in rows if row.variant == variant]
        measured = [row for row in asked if row.is_measured]
        if len(measured) > 1 and (unasked := _between(measured[0].release, measured[-1].release, releases, asked)):
            yield (
                f"{variant}: {measured[0].verdict} in {measured[0].release} and in {measured[-1].release}; {len(unasked)} "
                "releases between them were not measured (--all measures them)"
            )


def grid(rows: Sequence[Row]) -> str:
    """Releases against variants as Markdown; a cell holds the exponents of loss, grad_norm and gradient, bold if scaled."""
    variants = tuple(dict.fromkeys(row.variant for row in rows))
    lines = [f"| release | {' | '.join(variants)} |", f"|---|{'---|' * len(variants)}"]
    for release in dict.fromkeys(row.release for row in rows):
        cells = {row.variant: _cell(row) for row in rows if row.release == release}
        beside = next((f" ({p.replace('==', ' ')})" for r in rows if r.release == release
                       for p in r.beside if r.package != "transformers" and p.startswith("transformers==")), "")  # fmt: skip
        lines.append(f"| {release}{beside} | {' | '.join(cells.get(name, '') for name in variants)} |")
    lines += ["", *said] if (said := notes(rows)) else []
    broken: dict[str, list[str]] = {}
    for row in rows:
        if row.failure:
            broken.setdefault(row.failure, []).append(f"{row.release} {row.variant}")
    lines += ["", *(f"Not measured: {', '.join(names)}: {why}" for why, names in broken.items())] if broken else []
    return "\n".join(lines)


def notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """What the numbers of a variant must say of themselves, each once."""
    of: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.note:
            of.setdefault(row.note, {})[row.variant] = None
    return tuple(f"{', '.join(variants)}: {note}" for note, variants in of.items())


def _besides(row: Row) -> list[str]:
    """What exponents on GA do not say: that the real gradient points elsewhere, what ranks do, a factor at every GA."""
    found = [f"cosine {row.cosine:.2f}"] if row.cosine is not None and measurement.is_misaligned(row.cosine) else []
    if row.on_ranks:
        exponents = (row.on_ranks.loss, row.on_ranks.grad_norm, row.on_ranks.gradient)
        found.append(f"ranks {', '.join(map(_whole, exponents))}")
    return found + ([f"x{row.rest:.2f}"] if row.rest is not None and abs(row.rest - 1) > FACTOR_SAID else [])


def _exponent(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"  # no minus zero


def _whole(exponent: float | None) -> str:
    """A whole number where it is about one; else as measured."""
    near = exponent is not None and verdicts.is_about(exponent, round(exponent))
    return str(round(exponent)) if near and exponent is not None else _exponent(exponent)


def _cell(row: Row) -> str:
    numbers = (row.loss, row.grad_norm, row.gradient)
    if row.failure or row.verdict == NOT_MEASURED:
        return "not measured"
    text = ", ".join(map(_whole, numbers))
    text += f" ({', '.join(more)})" if (more := _besides(row)) else ""
    return text if row.verdict == "healthy" else f"**{text}**"
