"""targets -> runs -> groups -> evidence -> diagnoses, on one page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from ga_audit import evidence, next_steps
from ga_audit._columns import is_count
from ga_audit._version import __version__
from ga_audit.conclusion import Audit, Diagnosis, SetAside, UndecidedReason
from ga_audit.diagnosis import diagnose_group
from ga_audit.finding import Evidence, NotApplicable
from ga_audit.grouping import Group, group
from ga_audit.logs.discovery import find_runs
from ga_audit.options import Options as Options
from ga_audit.options import apply
from ga_audit.options import with_given as with_given
from ga_audit.run import Note, ReadFailure, Run, Schedule

T = TypeVar("T")
Given: TypeAlias = T | Mapping[str, T] | None
Targets: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def read_runs(
    *targets: Targets | Options,
    ga: Given[int | str | Schedule] = None,
    world_size: Given[int] = None,
    micro_batch_size: Given[int] = None,
    loss_key: str | None = None,
    grad_norm_key: str | None = None,
    stack: str | Iterable[str] = (),
    options: Options | None = None,
    progress: Callable[[str], None] | None = None,
    runs: Sequence[Run] = (),
) -> tuple[tuple[Run, ...], tuple[ReadFailure, ...]]:
    """Every run of the targets with the user's settings applied, and what could not be read.

    Parameters
    ----------
    targets : files, directories, addresses of W&B runs, "-" for standard input: texts or paths, or a list of them.
    options : what the user says about the runs; it may also be the last of the targets.
    progress : called with the path of each log before it is read.
    runs : further runs, in memory, to which the options apply too.
    ga, world_size, micro_batch_size, loss_key, grad_norm_key, stack : the fields of `options`, in place of it; one
        value of GA (8, "2,8@500"), world size or micro-batch size is for every run, a mapping goes from names of
        runs or globs to values.

    Raises
    ------
    TypeError
        a target is no text and no path, or a field is given beside `options`.
    ValueError
        GA is no positive whole number and no schedule; world or micro-batch size is no positive whole number.
    WrongUsage
        an option fits nothing that was read.
    """
    if targets and isinstance(targets[-1], Options):
        if options is not None:
            raise TypeError("options are given twice")
        *targets, options = targets  # type: ignore[assignment]
    options = _options(options, ga, world_size, micro_batch_size, loss_key, grad_norm_key, stack)
    read = list(runs)
    failures: list[ReadFailure] = []
    found = find_runs(
        target_texts(*targets),
        loss_key=options.loss_key,
        grad_norm_key=options.grad_norm_key,
        options=options.for_formats,
        progress=progress,
    )
    for item in found:
        if isinstance(item, ReadFailure):
            failures.append(item)
        else:
            read.append(item)
    return apply(read, options, failures), tuple(failures)


def target_texts(*targets: Any) -> tuple[str, ...]:
    """Targets as text: each is a text or a path, or an iterable of them.

    Raises
    ------
    TypeError
        anything else, bytes included.
    """
    texts: list[str] = []
    for target in targets:
        if isinstance(target, str | os.PathLike):
            text = os.fspath(target)
            if not isinstance(text, str):
                raise TypeError(f"a target is text or a path of text, not {text!r}")
            texts.append(text)
        elif isinstance(target, Iterable) and not isinstance(target, bytes | bytearray | memoryview | Mapping):
            for inner in target:
                if not isinstance(inner, str | os.PathLike):
                    raise TypeError(f"a target is text or a path, not {type(inner).__name__}")
                texts += target_texts(inner)
        else:
            raise TypeError(f"a target is text or a path, or a list of them, not {type(target).__name__}")
    return tuple(texts)


def _options(
    options: Options | None, ga: Given[int | str | Schedule], world_size: Given[int],
    micro_batch_size: Given[int], loss_key: str | None, grad_norm_key: str | None, stack: str | Iterable[str],
) -> Options:  # fmt: skip
    """The options, given whole or field by field."""
    schedules = {
        name: value if isinstance(value, Schedule) else Schedule.parse(str(value))
        for name, value in _by_name(ga).items()
    }
    for name, values in (("world_size", _by_name(world_size)), ("micro_batch_size", _by_name(micro_batch_size))):
        wrong = [value for value in values.values() if not is_count(value)]
        if wrong:
            raise ValueError(f"{name} is a positive whole number, not {wrong[0]!r}")
    packages = (stack,) if isinstance(stack, str) else tuple(stack)
    given = Options(
        schedules, _by_name(world_size), loss_key, grad_norm_key, packages,
        micro_batch_size=_by_name(micro_batch_size),
    )  # fmt: skip
    if options is not None and given != Options():
        raise TypeError("give either options, or its fields by name")
    return given if options is None else options


def _by_name(given: Given[T]) -> Mapping[str, T]:
    if given is None:
        return {}
    return given if isinstance(given, Mapping) else {"*": given}


def gather(members: Group) -> Iterator[Evidence | NotApplicable]:
    """What every kind of evidence says, or why it does not apply, on one group."""
    for kind in evidence.kinds().values():
        yield from kind.gather(members)


def diagnose(runs: Sequence[Run]) -> Iterator[Diagnosis]:
    """One diagnosis for each set of comparable runs, as it is ready: the caller counts, shows, stops."""
    for members in group(runs):
        yield diagnose_one(members)


def diagnose_one(members: Group) -> Diagnosis:
    """The diagnosis of runs that are known to be comparable."""
    return diagnose_group(members, tuple(gather(members)))


def audit(
    *targets: Targets | Options,
    ga: Given[int | str | Schedule] = None,
    world_size: Given[int] = None,
    micro_batch_size: Given[int] = None,
    loss_key: str | None = None,
    grad_norm_key: str | None = None,
    stack: str | Iterable[str] = (),
    options: Options | None = None,
    progress: Callable[[str], None] | None = None,
) -> Audit:
    """Read the targets, group comparable runs, and diagnose each group; the parameters are those of `read_runs`.

    Raises
    ------
    TypeError
        a target is no text and no path, or a field is given beside `options`.
    WrongUsage
        an option fits nothing that was read; what cannot be read is in `Audit.failures`.
    """
    runs, failures = read_runs(
        *targets, ga=ga, world_size=world_size, micro_batch_size=micro_batch_size, loss_key=loss_key,
        grad_norm_key=grad_norm_key, stack=stack, options=options, progress=progress,
    )  # fmt: skip
    logs = [target for target in targets if not isinstance(target, Options)]
    return audit_runs(runs, failures, target_texts(*logs))


def set_aside(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[SetAside, ...]]:
    """The runs to judge, and those that are set aside since their GA is unknown.

    A run of unknown GA can be neither healthy nor scaled, and beside others it would only take from their verdicts.
    Where the GA of no run is known, all are judged, and the diagnosis says what is missing.
    """
    known = tuple(run for run in runs if run.settings.ga is not None)
    if not known:
        return tuple(runs), ()
    return known, tuple(SetAside(run, UndecidedReason.UNKNOWN_GA) for run in runs if run.settings.ga is None)


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
    return Audit(
        diagnoses=tuple(diagnose(judged)),
        failures=tuple(failures),
        notes=tuple(notes),
        version=__version__,
        set_aside=aside,
        ask=next_steps.ask_for_ga([item.run for item in aside], rest, targets) if aside else None,
    )
