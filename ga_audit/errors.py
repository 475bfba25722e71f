"""AuditError and the exit codes."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What `ga-audit` tells a shell; "found" and "broke" are never the same number."""

    HEALTHY = 0
    SCALED = 1
    USAGE = 2  # Click's own
    UNDECIDED = 3  # could not audit, or inconclusive
    DEFECT = 70  # of ga-audit itself; EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # Ctrl-C, as shells have it


class AuditError(Exception):
    """Something in the user's world that we cannot work with: says what, where, and what to do.

    Parameters
    ----------
    message : what is wrong, in one sentence.
    where : file, `file:line`, record number or byte offset.
    remedy : what the user can do about it.
    """

    def __init__(self, message: str, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" {self.remedy}" if self.remedy else ""
        return f"{place}{self.message}{advice}"

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments survive a process pool
        return _rebuild, (type(self), self.message, self.where, self.remedy)


def _rebuild(kind: type[AuditError], message: str, where: str | None, remedy: str | None) -> AuditError:
    return kind(message, where=where, remedy=remedy)


class WrongUsage(AuditError):
    """What was asked for cannot be meant so: nothing was done."""


class UnknownFormat(AuditError):
    """No format recognises the file."""


class UnreadableLog(AuditError):
    """The format is known and the content is damaged, empty or of no use."""


class NoTrainingSeries(UnreadableLog):
    """The log holds series, and none that is a training loss or a gradient norm; `names` are those that it holds."""

    def __init__(
        self, message: str, *, where: str | None = None, remedy: str | None = None, names: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.names = names

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_with_names, (self.message, self.where, self.remedy, self.names)


def _rebuild_with_names(
    message: str, where: str | None, remedy: str | None, names: tuple[str, ...]
) -> NoTrainingSeries:
    return NoTrainingSeries(message, where=where, remedy=remedy, names=names)


class MissingSetting(AuditError):
    """A setting (mostly `gradient_accumulation_steps`) is nowhere to be found."""


class NothingToCompare(AuditError):
    """Runs were read, and no two of them, nor any alone, allow a statement."""


class RefusedToOverwrite(AuditError):
    """The output exists already."""


class EngineFailed(AuditError):
    """A repro engine could not be started or broke."""
