"""targets -> runs -> groups -> evidence -> diagnoses, on one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TypeVar

from ga_audit import __version__, advice, registry
from ga_audit.diagnosis import diagnose_group
from ga_audit.discovery import find_runs
from ga_audit.errors import AuditError
from ga_audit.finding import Audit, Diagnosis, Evidence, SetAside, Silence
from ga_audit.grouping import Group, group
from ga_audit.run import Note, ReadFailure, Run, RunSettings, Schedule, Setting, Trust

T = TypeVar("T")
EVIDENCE = "ga_audit.evidence"
_UNKNOWN_GA = "gradient_accumulation_steps is unknown"


@dataclass(frozen=True, slots=True)
class Options:
    """What the user says about the runs; maps go from a glob on the run's name to a value."""

    ga: Mapping[str, int | Schedule] = field(default_factory=dict)
    world_size: Mapping[str, int] = field(default_factory=dict)
    loss_key: str | None = None
    grad_norm_key: str | None = None
    stack: tuple[str, ...] = ()  # "transformers==4.46.1"
    fetch: Mapping[str, str] = field(default_factory=dict)  # for logs on a server: timeout (s), cache (yes, no)


def read_runs(
    targets: Sequence[str], options: Options | None = None, *, progress: Callable[[str], None] | None = None
) -> tuple[tuple[Run, ...], tuple[ReadFailure, ...]]:
    """Every run of the targets with the user's settings applied, and what could not be read.

    Parameters
    ----------
    targets : files, directories, addresses of W&B runs, "-" for standard input.
    options : what the user says about the runs.
    progress : called with the path of each log before it is read.
    """
    options = options or Options()
    runs: list[Run] = []
    failures: list[ReadFailure] = []
    found = find_runs(
        targets,
        loss_key=options.loss_key,
        grad_norm_key=options.grad_norm_key,
        options=options.fetch,
        progress=progress,
    )
    for item in found:
        if isinstance(item, ReadFailure):
            failures.append(item)
        else:
            runs.append(with_given(item, options))
    return tuple(runs), tuple(failures)


def with_given(run: Run, options: Options) -> Run:
    """The run with what the user gave on the command line, which wins over what was read."""
    given: dict[str, object] = {}
    if (ga := _for_run(options.ga, run)) is not None:
        schedule = ga if isinstance(ga, Schedule) else Schedule.constant(ga)
        given["gradient_accumulation_steps"] = Setting(schedule, "given: --ga", Trust.GIVEN)
    if (world := _for_run(options.world_size, run)) is not None:
        given["world_size"] = Setting(world, "given: --world-size", Trust.GIVEN)
    if options.stack:
        given["packages"] = {**run.settings.packages, **_stack(options.stack)}
    if not given:
        return run
    conflicts = list(run.settings.conflicts)
    for name, setting in given.items():
        read = getattr(run.settings, name, None)
        if isinstance(setting, Setting) and isinstance(read, Setting) and read.value != setting.value:
            conflicts.append((name, setting, read))
    settings: RunSettings = replace(run.settings, **given, conflicts=tuple(conflicts))  # type: ignore[arg-type]
    notes = (
        tuple(n for n in run.notes if n.code != "ga-from-name") if "gradient_accumulation_steps" in given else run.notes
    )
    return replace(run, settings=settings, notes=notes)


def _for_run(values: Mapping[str, T], run: Run) -> T | None:
    """The value whose glob fits the run's name (exact names before globs, later before earlier)."""
    if run.name in values:
        return values[run.name]
    fitting = [value for glob, value in values.items() if fnmatchcase(run.name, glob) or fnmatchcase(run.id, glob)]
    return fitting[-1] if fitting else None


def _stack(entries: Iterable[str]) -> dict[str, Setting[str]]:
    stack: dict[str, Setting[str]] = {}
    for entry in entries:
        package, sign, release = entry.partition("==")
        if not sign or not package or not release:
            raise AuditError(f"{entry!r} is not PACKAGE==RELEASE", remedy="Write e.g. --stack transformers==4.46.1.")
        stack[package.strip().lower().replace("_", "-")] = Setting(release.strip(), "given: --stack", Trust.GIVEN)
    return stack


def gather(members: Group) -> Iterator[Evidence | Silence]:
    """What every kind of evidence says, or why it is silent, on one group."""
    for module in registry.load_all(EVIDENCE).values():
        yield from module.gather(members)


def diagnose(runs: Sequence[Run]) -> Iterator[Diagnosis]:
    """One diagnosis for each set of comparable runs, as it is ready: the caller counts, shows, stops."""
    for members in group(runs):
        yield diagnose_one(members)


def diagnose_one(members: Group) -> Diagnosis:
    """The diagnosis of runs that are known to be comparable."""
    return diagnose_group(members, tuple(gather(members)))


def audit(
    targets: Sequence[str], options: Options | None = None, *, progress: Callable[[str], None] | None = None
) -> Audit:
    """Read the targets, group comparable runs, and diagnose each group.

    Raises
    ------
    AuditError
        only for wrong options; what cannot be read is in `Audit.failures`.
    """
    runs, failures = read_runs(targets, options, progress=progress)
    return audit_runs(runs, failures, targets)


def set_aside(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[SetAside, ...]]:
    """The runs to judge, and those that are set aside since their GA is unknown.

    A run of unknown GA can be neither healthy nor scaled, and beside others it would only take from their verdicts.
    Where the GA of no run is known, all are judged, and the diagnosis says what is missing.
    """
    known = tuple(run for run in runs if run.settings.ga is not None)
    if not known:
        return tuple(runs), ()
    return known, tuple(SetAside(run, _UNKNOWN_GA) for run in runs if run.settings.ga is None)


def audit_runs(runs: Sequence[Run], failures: Sequence[ReadFailure] = (), targets: Sequence[str] = ()) -> Audit:
    """Diagnose runs that are in memory.

    Parameters
    ----------
    runs : of any kind; those whose GA is unknown are set aside, unless it is unknown of all.
    failures : what could not be read.
    targets : where the runs were read from, for the command that asks for what is missing.
    """
    notes: list[Note] = []
    own = [run for run in runs if run.corrected_by is not None]
    if own:
        names = ", ".join(run.name for run in own)
        notes.append(Note("already-corrected", f"left out, since ga-audit wrote them: {names}", count=len(own)))
    rest = [run for run in runs if run.corrected_by is None]
    judged, aside = set_aside(rest)
    remedy = advice.ask_for_ga([item.run for item in aside], rest, targets) if aside else ""
    return Audit(
        tuple(diagnose(judged)), tuple(failures), tuple(notes), __version__, set_aside=aside, set_aside_remedy=remedy
    )
