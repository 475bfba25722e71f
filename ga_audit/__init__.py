"""ga-audit: finds a logged loss or grad_norm that scales with gradient accumulation.

>>> import ga_audit
>>> ga_audit.ratio(2.715, 10.86, ga=(2, 8)).verdict
<Verdict.SCALED: 'scaled'>

`audit` reads logs and diagnoses them, `ratio` compares two curves or numbers, `Run.from_frame` and
`Run.from_arrays` take data from memory. Public names are loaded on first use, so that importing the
package costs nothing.
"""

from typing import TYPE_CHECKING

from ga_audit._version import __version__ as __version__

_MODULES = {
    "ga_audit.api": ("Audit", "Diagnosis", "audit", "diagnose", "plot"),
    "ga_audit._ratio": ("Ratio", "ratio"),
    "ga_audit.pipeline": ("read_runs",),
    "ga_audit.options": ("Options",),
    "ga_audit.correction.curves": ("correct",),
    "ga_audit.run": (
        "Counted", "Event", "Note", "ReadFailure", "Role", "Run", "RunSettings", "Schedule", "Series", "Setting",
        "Source", "Trust",
    ),
    "ga_audit.finding": (
        "Axis", "BugMatch", "ClipShare", "Estimate", "Evidence", "Finding", "Hypothesis", "Interval", "Reach",
        "SetAside", "Signature", "Silence", "Verdict",
    ),
    "ga_audit.errors": (
        "AuditError", "EngineFailed", "MissingSetting", "NoTrainingSeries", "RefusedToOverwrite", "UnknownFormat",
        "UnreadableLog", "WrongUsage",
    ),
}  # fmt: skip
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    from ga_audit._ratio import Ratio as Ratio
    from ga_audit._ratio import ratio as ratio
    from ga_audit.api import Audit as Audit
    from ga_audit.api import Diagnosis as Diagnosis
    from ga_audit.api import audit as audit
    from ga_audit.api import diagnose as diagnose
    from ga_audit.api import plot as plot
    from ga_audit.correction.curves import correct as correct
    from ga_audit.errors import AuditError as AuditError
    from ga_audit.errors import EngineFailed as EngineFailed
    from ga_audit.errors import MissingSetting as MissingSetting
    from ga_audit.errors import NoTrainingSeries as NoTrainingSeries
    from ga_audit.errors import RefusedToOverwrite as RefusedToOverwrite
    from ga_audit.errors import UnknownFormat as UnknownFormat
    from ga_audit.errors import UnreadableLog as UnreadableLog
    from ga_audit.errors import WrongUsage as WrongUsage
    from ga_audit.finding import Axis as Axis
    from ga_audit.finding import BugMatch as BugMatch
    from ga_audit.finding import ClipShare as ClipShare
    from ga_audit.finding import Estimate as Estimate
    from ga_audit.finding import Evidence as Evidence
    from ga_audit.finding import Finding as Finding
    from ga_audit.finding import Hypothesis as Hypothesis
    from ga_audit.finding import Interval as Interval
    from ga_audit.finding import Reach as Reach
    from ga_audit.finding import SetAside as SetAside
    from ga_audit.finding import Signature as Signature
    from ga_audit.finding import Silence as Silence
    from ga_audit.finding import Verdict as Verdict
    from ga_audit.options import Options as Options
    from ga_audit.pipeline import read_runs as read_runs
    from ga_audit.run import Counted as Counted
    from ga_audit.run import Event as Event
    from ga_audit.run import Note as Note
    from ga_audit.run import ReadFailure as ReadFailure
    from ga_audit.run import Role as Role
    from ga_audit.run import Run as Run
    from ga_audit.run import RunSettings as RunSettings
    from ga_audit.run import Schedule as Schedule
    from ga_audit.run import Series as Series
    from ga_audit.run import Setting as Setting
    from ga_audit.run import Source as Source
    from ga_audit.run import Trust as Trust


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'ga_audit' has no attribute {name!r}")
    import importlib

    found: object = getattr(importlib.import_module(_WHERE[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
