"""Logs that grow: look again, read what has changed, judge anew."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from ga_audit import pipeline
from ga_audit.conclusion import Audit, Diagnosis
from ga_audit.errors import WrongUsage
from ga_audit.finding import HEALTHY, OTHER, Hypothesis, Verdict
from ga_audit.logs.discovery import Log, find_logs, join, read_log
from ga_audit.options import Options, with_given
from ga_audit.run import ReadFailure, Role, Run

_State: TypeAlias = tuple[tuple[str, int, int, int, int], ...]  # path, device, inode, size, time in ns
_Key: TypeAlias = tuple[str, str]  # path, format
_Pieces: TypeAlias = list[Run | ReadFailure]
_Known: TypeAlias = tuple[Log, _State, _Pieces]
_SKIPPED = frozenset({".git", "__pycache__", "node_modules", ".venv", "venv"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """What one look at the logs gave."""

    audit: Audit
    read: int  # logs that were read at this look; the others have not changed
    shrunk: tuple[str, ...] = ()  # files that are shorter than before, or other ones, and were read from the start

    @property
    def verdict(self) -> Verdict:
        """The verdict on all of it: scaled before inconclusive before healthy."""
        return overall(self.audit)

    @property
    def points(self) -> int:
        """Points of loss and grad_norm in the judged runs."""
        runs = [run for diagnosis in self.audit.diagnoses for run in diagnosis.runs]
        return sum(len(s) for run in runs for role in (Role.LOSS, Role.GRAD_NORM) if (s := run.get(role)))

    @property
    def findings(self) -> tuple[str, ...]:
        """Ids of what was found, sorted."""
        return tuple(sorted({f.id for d in self.audit.diagnoses for f in d.findings}))


def overall(audit: Audit) -> Verdict:
    """One verdict for an audit: scaled before inconclusive before healthy."""
    verdicts = {diagnosis.verdict for diagnosis in audit.diagnoses}
    if Verdict.SCALED in verdicts:
        return Verdict.SCALED
    if audit.failures or audit.set_aside or verdicts != {Verdict.HEALTHY}:
        return Verdict.INCONCLUSIVE
    return Verdict.HEALTHY


def leading(diagnosis: Diagnosis) -> Iterator[tuple[Role, Hypothesis, float]]:
    """The most probable hypothesis about each quantity, and its probability."""
    for role, posterior in diagnosis.posterior.items():
        top = max(posterior, key=lambda h: (posterior[h], h == HEALTHY, h != OTHER), default=None)
        if top is not None:
            yield role, top, posterior[top]


class Watcher:
    """Follows the logs of some targets.

    Parameters
    ----------
    targets : files and folders; they need not exist yet.
    options : what the user says about the runs; what fits no run waits for one that it fits.

    Raises
    ------
    WrongUsage
        a target is standard input or an address.
    """

    def __init__(self, targets: Sequence[str], options: Options | None = None) -> None:
        for target in targets:
            if target == "-" or "://" in target:
                remedy = "Give the files or folders that the trainer writes."
                raise WrongUsage("only files can be watched", where=target, remedy=remedy)
        self.targets = tuple(targets)
        self.options = options or Options()
        self._state: _State | None = None
        self._known: dict[_Key, _Known] = {}
        self._held: set[_Key] = set()  # whose last reading failed, and of which the one before is shown

    def look(self) -> Look | None:
        """Read what has changed and judge; None where no file has changed since the last look."""
        state = _state_of(self.targets)
        if state == self._state and not self._held:
            return None
        shrunk = _shrunk(self._state or (), state, self._with_series())
        self._state = state
        count = 0
        known: dict[_Key, _Known] = {}
        results: list[tuple[Log | ReadFailure, _Pieces]] = []
        for log in find_logs(self.targets, loss_key=self.options.loss_key, grad_norm_key=self.options.grad_norm_key):
            if isinstance(log, ReadFailure):
                results.append((log, []))
                continue
            # taken before the log is read: what is written in between is seen at the next look
            here = _state_of([log.target.path])
            before = self._known.get(_key(log))
            if before is not None and before[1] == here and _key(log) not in self._held:
                pieces = before[2]
            else:
                pieces, count = self._reading(log, before), count + 1
            known[_key(log)] = (log, here, pieces)
        known |= self._unrecognised(known)
        results += [(log, pieces) for log, _, pieces in known.values()]
        self._known = known
        self._held &= known.keys()
        return Look(audit=self._judge(results), read=count, shrunk=shrunk)

    def _with_series(self) -> frozenset[str]:
        """Files that series were read from: of others, as of a summary, it is no matter that they are replaced."""
        pieces = [piece for _, _, found in self._known.values() for piece in found]
        return frozenset(series.source for run in pieces if isinstance(run, Run) for series in run.series)

    def _unrecognised(self, known: Mapping[_Key, _Known]) -> dict[_Key, _Known]:
        """Logs that still exist and look like none for once, as while they are being replaced."""
        gone = {
            key: before
            for key, before in self._known.items()
            if key not in known and key not in self._held and os.path.exists(key[0])
        }
        self._held |= gone.keys()
        return gone

    def _reading(self, log: Log, before: _Known | None) -> _Pieces:
        """What a log holds; where it cannot be read for once, what it held before."""
        pieces = read_log(log)
        if before is not None and _has_runs(before[2]) and not _has_runs(pieces) and _key(log) not in self._held:
            self._held.add(_key(log))
            return before[2]
        self._held.discard(_key(log))
        return pieces

    def _judge(self, results: Sequence[tuple[Log | ReadFailure, _Pieces]]) -> Audit:
        runs: list[Run] = []
        failures: list[ReadFailure] = []
        for item in join(results):
            if isinstance(item, Run):
                runs.append(with_given(item, self.options))
            else:
                failures.append(item)
        audit = pipeline.audit_runs(runs, failures, self.targets)
        return replace(audit, failures=tuple(failures))


def _key(log: Log) -> _Key:
    return log.target.path, log.format


def _state_of(targets: Sequence[str]) -> _State:
    """Path, identity, size and time of every file of the targets, sorted; unreadable folders are passed over."""
    return tuple(sorted(fact for target in targets for fact in _facts(target)))


def _facts(target: str) -> Iterator[tuple[str, int, int, int, int]]:
    if not os.path.isdir(target):
        yield from _fact(target)
        return
    for folder, inner, files in os.walk(target):
        inner[:] = [name for name in inner if name not in _SKIPPED]
        for name in files:
            yield from _fact(os.path.join(folder, name))


def _fact(path: str) -> Iterator[tuple[str, int, int, int, int]]:
    try:
        found = os.stat(path)
    except OSError:  # gone since it was listed, or a link that leads nowhere
        return
    yield path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _shrunk(before: _State, now: _State, of: Container[str]) -> tuple[str, ...]:
    """Those of some files that are shorter than they were, or other ones of the same name."""
    old = {path: (device, inode, size) for path, device, inode, size, _ in before}
    return tuple(
        Path(path).name
        for path, device, inode, size, _ in now
        if path in of and path in old and (size < old[path][2] or (device, inode) != old[path][:2])
    )


def _has_runs(pieces: _Pieces) -> bool:
    return any(isinstance(piece, Run) for piece in pieces)
