"""What the user says of the runs: options, applied to the runs that they fit, and refused where they fit none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from ga_audit.bugs import catalogue
from ga_audit.errors import NoTrainingSeries, WrongUsage
from ga_audit.logs import merging, trainers
from ga_audit.run import ReadFailure, Role, Run, RunSettings, Schedule, Setting, Trust

T = TypeVar("T")
_SHOWN = 12  # names that an error lists
_NEAR = 0.5  # share of letters in common, from which a name may be what was meant


@dataclass(frozen=True, slots=True)
class Options:
    """What the user says about the runs; maps go from a name of runs, or a glob, to a value (see `apply`)."""

    ga: Mapping[str, int | Schedule] = field(default_factory=dict)
    world_size: Mapping[str, int] = field(default_factory=dict)
    loss_key: str | None = None
    grad_norm_key: str | None = None
    stack: tuple[str, ...] = ()  # "transformers==4.46.1"
    fetch: Mapping[str, str] = field(default_factory=dict)  # for logs on a server: timeout (s), cache (yes, no)
    micro_batch_size: Mapping[str, int] = field(default_factory=dict)
    eval_loss_key: str | None = None  # this and the three below: of text logs
    step_key: str | None = None
    ga_key: str | None = None
    line: str | None = None  # the form of the lines: "Epoch {epoch} it {step} | loss {loss}"

    @property
    def for_formats(self) -> Mapping[str, str]:
        """What the formats are told beside the names of the loss and the gradient norm."""
        names = ("eval_loss_key", "step_key", "ga_key", "line")
        return {**self.fetch, **{name: value for name in names if (value := getattr(self, name)) is not None}}


def apply(runs: Sequence[Run], options: Options, failures: Sequence[ReadFailure] = ()) -> tuple[Run, ...]:
    """The runs with what the user gave, which wins over what was read.

    A NAME is looked for among the names and ids of the runs, then their paths (those of folders above them included),
    then file names, file names without suffix, and names of folders: the first of these kinds where it fits a run
    counts. Of several that fit a run, an exact name goes before a glob, and a later one before an earlier.

    Parameters
    ----------
    runs : every run that was read, for a NAME may fit any of them.
    options : what the user gave.
    failures : what could not be read: a NAME that fits one of these is no mistake.

    Raises
    ------
    WrongUsage
        an option fits nothing; says what there is.
    """
    packages = _stack(options.stack)
    if not runs:
        _check_keys(runs, failures, options)
        return ()
    ga = _by_run(options.ga, runs, failures, "--ga")
    world = _by_run(options.world_size, runs, failures, "--world-size")
    micro = _by_run(options.micro_batch_size, runs, failures, "micro_batch_size")
    _check_keys(runs, failures, options)
    return tuple(
        _with_micro_batch_size(_with(run, ga.get(i), world.get(i), packages), micro.get(i))
        for i, run in enumerate(runs)
    )


def with_given(run: Run, options: Options) -> Run:
    """One run with what the user gave, whether or not any of it fits."""
    names = {name: value for name, value in options.ga.items() if _level(name, [run]) is not None}
    ranks = {name: value for name, value in options.world_size.items() if _level(name, [run]) is not None}
    sizes = {name: value for name, value in options.micro_batch_size.items() if _level(name, [run]) is not None}
    return apply([run], Options(ga=names, world_size=ranks, stack=options.stack, micro_batch_size=sizes))[0]


def _with(run: Run, ga: int | Schedule | None, world_size: int | None, packages: Mapping[str, Setting[str]]) -> Run:
    given: dict[str, object] = {}
    if ga is not None:
        schedule = ga if isinstance(ga, Schedule) else Schedule.constant(ga)
        given["gradient_accumulation_steps"] = Setting(schedule, "given: --ga", Trust.GIVEN)
    if world_size is not None:
        given["world_size"] = Setting(world_size, "given: --world-size", Trust.GIVEN)
    if packages:
        given["packages"] = {**run.settings.packages, **packages}
    if not given:
        return run
    conflicts = list(run.settings.conflicts)
    for name, setting in given.items():
        read = getattr(run.settings, name, None)
        if isinstance(setting, Setting) and isinstance(read, Setting) and read.value != setting.value:
            conflicts.append((name, setting, read))
    found: RunSettings = replace(run.settings, **given, conflicts=tuple(conflicts))  # type: ignore[arg-type]
    notes = run.notes
    if ga is not None:
        notes = tuple(note for note in run.notes if note.code != "ga-from-name")
    return replace(run, settings=found, notes=notes)


def _with_micro_batch_size(run: Run, size: int | None) -> Run:
    if size is None:
        return run
    given = Setting(size, "given: micro_batch_size", Trust.GIVEN)
    read = run.settings.micro_batch_size
    conflicts = run.settings.conflicts
    if read is not None and read.value != size:
        conflicts = (*conflicts, ("micro_batch_size", given, read))
    return replace(run, settings=replace(run.settings, micro_batch_size=given, conflicts=conflicts))


def contradictions(runs: Iterable[Run]) -> tuple[str, ...]:
    """A sentence for each GA and world size that the user gave against what the log says."""
    words = {"gradient_accumulation_steps": "GA", "world_size": "world size"}
    return tuple(
        f"{run.name}: {words[name]} {given.value} is used, as given; {read.source} says {read.value}"
        for run in runs
        for name, given, read in run.settings.conflicts
        if name in words and given.trust is Trust.GIVEN and read.trust is not Trust.GIVEN
    )


# --- names of runs ---------------------------------------------------------------------------------------------------


def _by_run(values: Mapping[str, T], runs: Sequence[Run], failures: Sequence[ReadFailure], option: str) -> dict[int, T]:
    """The value of each run, by its place among the runs."""
    best: dict[int, tuple[bool, int, int]] = {}
    found: dict[int, T] = {}
    for order, (name, value) in enumerate(values.items()):
        level = _level(name, runs)
        if level is None:
            if not any(_fits_path(name, failure.source) for failure in failures):
                raise _fits_no_run(name, runs, failures, option)
            continue
        for i, run in enumerate(runs):
            exact = _fits(name, run, level)
            # among exact names the more special kind counts, among globs the later
            rank = (exact is True, -level if exact else 0, order)
            if exact is not None and (i not in best or rank > best[i]):
                best[i], found[i] = rank, value
    return found


def _level(name: str, runs: Sequence[Run]) -> int | None:
    """The first kind of name that fits a run."""
    return next((n for n in range(len(_KINDS)) if any(_fits(name, run, n) is not None for run in runs)), None)


def _fits(name: str, run: Run, level: int) -> bool | None:
    """True where a name of this kind is this one, False where it fits as a glob, None where it does not."""
    labels = _KINDS[level](run)
    if name in labels or (level == _PATHS and any(_is_at(path, name) for path in labels)):
        return True
    return False if any(fnmatchcase(label, name) for label in labels) else None


def _is_at(path: str, name: str) -> bool:
    """Whether a path is the one that is named, or lies below it."""
    if not name.strip("./") or path == "-" or "://" in path or not (os.sep in name or Path(name).exists()):
        return False
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(name))


def _fits_path(name: str, path: str) -> bool:
    file = Path(path)
    labels = {path, file.name, file.stem, *file.parent.parts}
    return _is_at(path, name) or any(fnmatchcase(label, name) for label in labels)


def _paths(run: Run) -> list[str]:
    return [source.path for source in run.sources]


def _folders(run: Run) -> set[str]:
    above = {part for path in _paths(run) if path != "-" for part in Path(path).parent.parts}
    return {*above, merging.root(run).name} if run.sources else set()


_KINDS: tuple[Callable[[Run], Iterable[str]], ...] = (
    lambda run: (run.name, run.id),
    _paths,
    lambda run: [Path(path).name for path in _paths(run)],
    lambda run: [Path(path).stem for path in _paths(run)],
    _folders,
)
_PATHS = 1


def _fits_no_run(name: str, runs: Sequence[Run], failures: Sequence[ReadFailure], option: str) -> WrongUsage:
    what = f"{option} {name}=...: no run has this name"
    return WrongUsage(what, remedy=f"The runs are: {_nearest(name, (run.name for run in runs))}.{_unread(failures)}")


def _unread(failures: Sequence[ReadFailure]) -> str:
    if not failures:
        return ""
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    return f" Not read: {'; '.join(f'{f.source} ({f.error.message})' for f in failures[:3])}{more}."


def _nearest(name: str, there: Iterable[str], most: int = _SHOWN) -> str:
    """What there is, for a sentence: what is most like the name first."""
    import difflib

    likeness = {other: difflib.SequenceMatcher(None, name, other).ratio() for other in set(there)}
    ordered = sorted(likeness, key=lambda other: (-likeness[other] if likeness[other] >= _NEAR else 0.0, other))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


# --- names of series and packages ------------------------------------------------------------------------------------


def _check_keys(runs: Sequence[Run], failures: Sequence[ReadFailure], options: Options) -> None:
    """Refuse the name of a series that none of the logs holds that could be read."""
    pairs = (
        (options.loss_key, Role.LOSS, "--loss-key"),
        (options.grad_norm_key, Role.GRAD_NORM, "--grad-norm-key"),
        (options.eval_loss_key, Role.EVAL_LOSS, "--eval-loss-key"),
    )
    missing = [(key, option) for key, role, option in pairs if key and not any(run.views(role) for run in runs)]
    there = {name for run in runs for name in run.names}
    there |= {name for failure in failures for name in getattr(failure.error, "names", ())}
    others = [failure for failure in failures if not isinstance(failure.error, NoTrainingSeries)]
    for key, option in missing:
        if key not in there and there:
            remedy = f"They hold: {_nearest(key, there)}.{_unread(others)}"
            raise WrongUsage(f"{option} {key}: no log holds a series of this name", remedy=remedy)


def _stack(entries: Iterable[str]) -> dict[str, Setting[str]]:
    """Package -> release of `PACKAGE==RELEASE` entries.

    Raises
    ------
    WrongUsage
        another form, or a package that nothing here is known of.
    """
    stack: dict[str, Setting[str]] = {}
    for entry in entries:
        package, sign, release = (part.strip() for part in entry.partition("=="))
        if not sign or not package or not re.match(r"v?\d", release):
            raise WrongUsage(
                f"--stack {entry}: not PACKAGE==RELEASE", remedy="Write e.g. --stack transformers==4.46.1."
            )
        name = trainers.canonical_name(package)
        known = trainers.PACKAGES | catalogue.packages()
        if name not in known:
            raise WrongUsage(
                f"--stack {entry}: {package} is not a package that ga-audit knows",
                remedy=f"The packages are: {_nearest(name, known, len(known))}.",
            )
        stack[name] = Setting(release, "given: --stack", Trust.GIVEN)
    return stack
