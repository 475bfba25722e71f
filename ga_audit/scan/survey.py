"""Many runs at once: read and judged by several workers, a row for each run, the worst first.

Any `concurrent.futures.Executor` does the work: threads, processes, or a Dask cluster (`Client.get_executor()`). The
order of the results is that of the targets, so every executor gives the same survey.

A scan sees runs of many experiments and releases at once. So a run is judged among its nearest kin first (one folder and
one release), and among all that it may be compared with only where that decides nothing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

from ga_audit import __version__, advice, pipeline
from ga_audit import options as given
from ga_audit.errors import AuditError, UnreadableLog
from ga_audit.finding import Audit, Diagnosis, Verdict
from ga_audit.grouping import Group, group, version_families
from ga_audit.logs import merging
from ga_audit.logs.discovery import Log, find_logs, join, read_log
from ga_audit.run import Note, ReadFailure, Role, Run
from ga_audit.scan.selection import Selection

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[str, int, int], None]  # what is being done, done, in all
FAILED = "not read"
_ALONE_AT_ONCE = 50  # runs: a task that takes long enough to be worth sending


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of one run."""

    run: str
    source: str
    verdict: str  # of Verdict, or "not read"
    group: int | None  # number of its diagnosis, from 1
    ga: str  # "8", "2, 8 from step 500", "" = unknown
    loss_factor: float | None  # logged / intended, where a finding says so
    grad_norm_factor: float | None
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The rows of all runs, the worst first, and the diagnosis of each group."""

    rows: tuple[Row, ...]
    audit: Audit

    @property
    def counts(self) -> dict[str, int]:
        """Rows by verdict."""
        return dict(Counter(row.verdict for row in self.rows))


def survey(
    targets: Sequence[str],
    options: pipeline.Options | None = None,
    *,
    executor: Executor,
    selection: Selection | None = None,
    progress: Progress | None = None,
) -> Survey:
    """Read the targets, group comparable runs, judge each group and each run alone.

    Parameters
    ----------
    targets : directories, files, W&B projects or runs.
    options : what the user says about the runs.
    executor : does the reading and the judging.
    selection : which runs are wanted; None = all.
    progress : called with what is being done, and how far it is.
    """
    options, selection = options or pipeline.Options(), selection or Selection()
    tell = progress or (lambda what, done, total: None)
    runs, failures = _read(targets, options, selection, executor, tell)
    own = [run for run in runs if run.corrected_by is not None]
    rest = [run for run in runs if run.corrected_by is None]
    judged, aside = pipeline.set_aside(rest)
    groups = group(judged)
    kin = {run_id: sets for members in groups for run_id, sets in _kin(members).items()}
    distinct = list({ids: members for sets in kin.values() for ids, members in sets.items()}.items())
    told = _mapped(executor, judge, [m for _, m in distinct], lambda done, total: tell("comparing", done, total))
    diagnoses = dict(zip((ids for ids, _ in distinct), told, strict=True))
    every = [run for members in groups for run in members.runs]
    chunks = [every[i : i + _ALONE_AT_ONCE] for i in range(0, len(every), _ALONE_AT_ONCE)]
    alone: dict[str, Diagnosis] = {}
    for part in _mapped(executor, judge_alone, chunks, lambda done, total: tell("judging", done, total)):
        alone |= part
    deciding = {run.id: _nearest(run, [diagnoses[ids] for ids in kin[run.id]]) for run in every}
    shown = list({id(d): d for d in deciding.values()}.values())
    number = {id(d): n for n, d in enumerate(shown, 1)}
    rows = [_row(run, number[id(d)], d, alone[run.id]) for run in every for d in [deciding[run.id]]]
    rows += [_of(item.run, None, Verdict.INCONCLUSIVE, None, f"set aside: {item.why}") for item in aside]
    rows += [_failure(failure) for failure in failures]
    notes = [
        Note("already-corrected", f"left out, since ga-audit wrote it: {run.name}", run.sources[0].path) for run in own
    ]
    remedy = advice.ask_for_ga([item.run for item in aside], rest, targets) if aside else ""
    found = Audit(
        tuple(shown), tuple(failures), tuple(notes), __version__, set_aside=aside, set_aside_remedy=remedy
    )  # fmt: skip
    return Survey(tuple(sorted(rows, key=_severity)), found)


def _kin(members: Group) -> dict[str, dict[frozenset[str], Group]]:
    """By run id: the sets of comparable runs that it is in, the nearest kin first, all of the group last."""
    families = {run.id: number for number, runs in enumerate(version_families(members.runs)) for run in runs}
    roots = {run.id: merging.root(run) for run in members.runs}
    sets: dict[str, dict[frozenset[str], Group]] = {run.id: {} for run in members.runs}
    for key in (
        lambda run: (families[run.id], roots[run.id]),
        lambda run: (families[run.id], roots[run.id].parent),
        lambda run: families[run.id],
        lambda run: None,
    ):
        parts: dict[Any, list[Run]] = {}
        for run in members.runs:
            parts.setdefault(key(run), []).append(run)
        for part in parts.values():
            if len(part) > 1 or len(part) == len(members.runs):
                ids = frozenset(run.id for run in part)
                for run in part:
                    sets[run.id].setdefault(ids, members if len(part) == len(members.runs) else Group(tuple(part)))
    return sets


def _nearest(run: Run, nearest_first: Sequence[Diagnosis]) -> Diagnosis:
    """The first diagnosis that decides about a run, else the last, of all that it may be compared with."""
    for said in nearest_first:
        if said.verdict is Verdict.HEALTHY or _concerns(said, run):
            return said
    return nearest_first[-1]


def _concerns(said: Diagnosis, run: Run) -> bool:
    return said.verdict is Verdict.SCALED and any(run.id in finding.runs for finding in said.findings)


def _read(
    targets: Sequence[str], options: pipeline.Options, selection: Selection, executor: Executor, tell: Progress
) -> tuple[list[Run], list[ReadFailure]]:
    """The runs that are wanted, with the user's settings, and what could not be read."""
    fetch = {**options.for_formats, **({"filters": json.dumps(wanted)} if (wanted := selection.for_server()) else {})}
    logs: list[Log | ReadFailure] = []
    for log in find_logs(targets, loss_key=options.loss_key, grad_norm_key=options.grad_norm_key, options=fetch):
        logs.append(log)
        tell("listing", len(logs), 0)
    to_read = [log for log in logs if isinstance(log, Log)]
    read = iter(_mapped(executor, read_safely, to_read, lambda done, total: tell("reading", done, total), lost=_lost))
    found = list(join([(log, next(read) if isinstance(log, Log) else []) for log in logs]))
    failures = [item for item in found if isinstance(item, ReadFailure)]
    # a NAME may be that of a run that is not wanted: it is no mistake
    runs = given.apply([item for item in found if isinstance(item, Run)], options, failures)
    selection.check(runs)
    return [run for run in runs if selection.fits(run)], failures


def _mapped(
    executor: Executor, function: Callable[[T], R], items: Sequence[T], tell: Callable[[int, int], None],
    *, lost: Callable[[T, Exception], R] | None = None,
) -> list[R]:  # fmt: skip
    """The results in the order of the items; `lost` makes one of an item whose worker broke."""
    futures = [executor.submit(function, item) for item in items]
    for done, _ in enumerate(as_completed(futures), 1):
        tell(done, len(futures))
    results = []
    for item, future in zip(items, futures, strict=True):
        try:
            results.append(future.result())
        except Exception as error:
            if lost is None:
                raise
            results.append(lost(item, error))
    return results


def read_safely(log: Log) -> list[Run | ReadFailure]:
    """The runs of a log; of many, one that breaks us is a row that says so."""
    try:
        return read_log(log)
    except Exception as error:
        return _lost(log, error)


def _lost(log: Log, error: Exception) -> list[Run | ReadFailure]:
    if isinstance(error, AuditError):
        return [ReadFailure(log.target.path, error)]
    message = f"could not be read: {type(error).__name__}: {str(error)[:200]}"
    remedy = "Try it alone with `ga-audit inspect`; if that fails too, it is a bug of ga-audit."
    return [ReadFailure(log.target.path, UnreadableLog(message, where=log.target.path, remedy=remedy))]


def judge(members: Group) -> Diagnosis:
    """The diagnosis of one group."""
    return pipeline.diagnose_one(members)


def judge_alone(runs: Iterable[Run]) -> dict[str, Diagnosis]:
    """What each run says by itself, by run id."""
    return {run.id: pipeline.diagnose_one(Group((run,))) for run in runs}


# --- rows ------------------------------------------------------------------------------------------------------------


def _row(run: Run, number: int, group_says: Diagnosis, alone: Diagnosis) -> Row:
    verdict, said, why = group_says.verdict, group_says, group_says.headline
    if verdict is Verdict.SCALED and not _concerns(said, run):
        verdict, why = Verdict.INCONCLUSIVE, f"what was found in group {number} is not about this run: {why}"
    if verdict is Verdict.HEALTHY and _concerns(alone, run):
        # neither is to be trusted over the other without a look
        verdict, why = Verdict.INCONCLUSIVE, f"the group is healthy, the run alone is not: {alone.headline}"
    elif verdict is Verdict.INCONCLUSIVE and _concerns(alone, run):
        verdict, said, why = alone.verdict, alone, alone.headline
    if verdict is not Verdict.SCALED:
        return _of(run, number, verdict, None, why)
    row = _of(run, number, verdict, said, ", ".join(f.id for f in said.findings if run.id in f.runs))
    if {row.loss_factor, row.grad_norm_factor} <= {1, None} and run.settings.ga is not None:
        why = f"at its GA what was found in group {number} changes nothing ({row.why})"
        return _of(run, number, Verdict.HEALTHY, said, why)
    return row


def _of(run: Run, number: int | None, verdict: Verdict, said: Diagnosis | None, why: str) -> Row:
    """`said` gives the factors; None where nothing is claimed."""
    ga = run.settings.gradient_accumulation_steps
    return Row(
        run.name, run.sources[0].path if run.sources else "", verdict.value, number, str(ga.value) if ga else "",
        _factor(said, run, Role.LOSS), _factor(said, run, Role.GRAD_NORM), why,
    )  # fmt: skip


def _factor(said: Diagnosis | None, run: Run, role: Role) -> float | None:
    if said is None or not any(f.role is role and run.id in f.runs for f in said.findings):
        return None
    factor = math.exp(said.log_factor(run, role))
    return round(factor, 9) if math.isfinite(factor) else None


def _failure(failure: ReadFailure) -> Row:
    why = f"{failure.error.message}. {failure.error.remedy or ''}".strip()
    return Row(failure.source, failure.source, FAILED, None, "", None, None, why)


_ORDER = {Verdict.SCALED.value: 0, Verdict.INCONCLUSIVE.value: 1, FAILED: 2, Verdict.HEALTHY.value: 3}


def _severity(row: Row) -> tuple[Any, ...]:
    """Scaled first; among them gradients before the loss alone, then the largest factor."""
    factors = [row.grad_norm_factor, row.loss_factor]
    size = max((abs(math.log(f)) for f in factors if f), default=0.0)
    return _ORDER[row.verdict], row.grad_norm_factor in {None, 1.0}, -size, row.group or 0, row.run
