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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from ga_audit import next_steps, pipeline
from ga_audit import options as given
from ga_audit._version import __version__
from ga_audit.conclusion import Audit, Diagnosis, SetAside
from ga_audit.errors import AuditError, UnreadableLog
from ga_audit.finding import Verdict
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


class RowReason(StrEnum):
    """What the verdict on a run rests on."""

    FINDINGS = "findings"  # of a diagnosis, about this run
    DIAGNOSIS = "diagnosis"  # what is concluded about the group, or about the run alone
    NOT_ABOUT_RUN = "not-about-run"  # the findings of the group are about other runs
    RUN_CONTRADICTS = "run-contradicts"  # the group is healthy, the run alone is not
    UNCHANGED = "unchanged"  # the findings change nothing at the GA of this run
    SET_ASIDE = "set-aside"
    NOT_READ = "not-read"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """The verdict on one run.

    Attributes
    ----------
    run, source : name of the run, path of its first log.
    verdict : a `Verdict`, or "not read".
    group : number of the diagnosis of its group, from 1.
    ga : "8", "2, 8 from step 500"; empty = unknown.
    loss_factor, grad_norm_factor : logged / intended, where a finding gives it.
    reason : what the verdict rests on; the other fields are its parameters.
    """

    run: str
    source: str
    verdict: str
    group: int | None = None
    ga: str = ""
    loss_factor: float | None = None
    grad_norm_factor: float | None = None
    reason: RowReason
    diagnosis: Diagnosis | None = None
    findings: tuple[str, ...] = ()
    set_aside: SetAside | None = None
    failure: ReadFailure | None = None


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
    judged_groups = _mapped(
        executor, judge, [m for _, m in distinct], lambda done, total: tell("comparing", done, total)
    )
    diagnoses = dict(zip((ids for ids, _ in distinct), judged_groups, strict=True))
    every = [run for members in groups for run in members.runs]
    chunks = [every[i : i + _ALONE_AT_ONCE] for i in range(0, len(every), _ALONE_AT_ONCE)]
    alone: dict[str, Diagnosis] = {}
    for part in _mapped(executor, judge_alone, chunks, lambda done, total: tell("judging", done, total)):
        alone |= part
    deciding = {run.id: _nearest(run, {ids: diagnoses[ids] for ids in kin[run.id]}) for run in every}
    number = {ids: n for n, ids in enumerate(dict.fromkeys(deciding.values()), 1)}
    rows = [_row(run, number[ids], diagnoses[ids], alone[run.id]) for run in every for ids in [deciding[run.id]]]
    rows += [_set_aside_row(item) for item in aside]
    rows += [_failed_row(failure) for failure in failures]
    notes = [
        Note("already-corrected", f"left out, since ga-audit wrote it: {run.name}", run.sources[0].path) for run in own
    ]
    found = Audit(
        diagnoses=tuple(diagnoses[ids] for ids in number),
        failures=tuple(failures),
        notes=tuple(notes),
        version=__version__,
        set_aside=aside,
        ask=next_steps.ask_for_ga([item.run for item in aside], rest, targets) if aside else None,
    )
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


def _nearest(run: Run, nearest_first: Mapping[frozenset[str], Diagnosis]) -> frozenset[str]:
    """The first set of runs whose diagnosis decides about a run, else the last: all that it may be compared with."""
    for ids, diagnosis in nearest_first.items():
        if diagnosis.verdict is Verdict.HEALTHY or _concerns(diagnosis, run):
            return ids
    return list(nearest_first)[-1]


def _concerns(diagnosis: Diagnosis, run: Run) -> bool:
    return diagnosis.verdict is Verdict.SCALED and any(run.id in f.runs for f in diagnosis.findings)


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


def _row(run: Run, number: int, of_group: Diagnosis, alone: Diagnosis) -> Row:
    row = replace(_blank(run, of_group.verdict, RowReason.DIAGNOSIS), group=number, diagnosis=of_group)
    decides = of_group
    if _concerns(alone, run):
        if of_group.verdict is Verdict.HEALTHY:
            # neither is to be trusted over the other without a look
            return replace(row, verdict=Verdict.INCONCLUSIVE.value, reason=RowReason.RUN_CONTRADICTS, diagnosis=alone)
        if not _concerns(of_group, run):
            decides = alone
    if not _concerns(decides, run):
        if decides.verdict is not Verdict.SCALED:
            return row
        return replace(row, verdict=Verdict.INCONCLUSIVE.value, reason=RowReason.NOT_ABOUT_RUN)
    row = replace(
        row,
        verdict=Verdict.SCALED.value,
        reason=RowReason.FINDINGS,
        diagnosis=decides,
        findings=tuple(f.id for f in decides.findings if run.id in f.runs),
        loss_factor=_factor(decides, run, Role.LOSS),
        grad_norm_factor=_factor(decides, run, Role.GRAD_NORM),
    )
    if {row.loss_factor, row.grad_norm_factor} <= {1, None} and run.settings.ga is not None:
        return replace(row, verdict=Verdict.HEALTHY.value, reason=RowReason.UNCHANGED)
    return row


def _blank(run: Run, verdict: Verdict, reason: RowReason) -> Row:
    ga = run.settings.gradient_accumulation_steps
    source = run.sources[0].path if run.sources else ""
    return Row(run=run.name, source=source, verdict=verdict.value, ga=str(ga.value) if ga else "", reason=reason)


def _set_aside_row(item: SetAside) -> Row:
    return replace(_blank(item.run, Verdict.INCONCLUSIVE, RowReason.SET_ASIDE), set_aside=item)


def _failed_row(failure: ReadFailure) -> Row:
    return Row(run=failure.source, source=failure.source, verdict=FAILED, reason=RowReason.NOT_READ, failure=failure)


def _factor(diagnosis: Diagnosis, run: Run, role: Role) -> float | None:
    if not any(f.role is role and run.id in f.runs for f in diagnosis.findings):
        return None
    factor = math.exp(diagnosis.log_factor(run, role))
    return round(factor, 9) if math.isfinite(factor) else None


_ORDER = {Verdict.SCALED.value: 0, Verdict.INCONCLUSIVE.value: 1, FAILED: 2, Verdict.HEALTHY.value: 3}


def _severity(row: Row) -> tuple[Any, ...]:
    """Scaled first; among them gradients before the loss alone, then the largest factor."""
    factors = [row.grad_norm_factor, row.loss_factor]
    size = max((abs(math.log(f)) for f in factors if f), default=0.0)
    return _ORDER[row.verdict], row.grad_norm_factor in {None, 1.0}, -size, row.group or 0, row.run
