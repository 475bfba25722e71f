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
    "ga_audit.conclusion": ("NextStep", "Retrain", "SetAside", "Undecided"),
    "ga_audit.finding": (
        "Axis", "AxisReason", "BugMatch", "ClipShare", "Comparison", "Estimate", "Evidence",
        "Finding", "Fit", "Hypothesis", "Impact", "Interval", "Method", "NotApplicable", "Reason",
        "Relatedness", "RetrainRule", "Relation", "SettlingRun", "Signature", "Verdict", "Window",
    ),
    "ga_audit.guards._result": ("GradientFault", "Measurement"),
    "ga_audit.errors": (
        "AuditError", "EngineFailed", "MissingSetting", "NoTrainingSeries", "RefusedToOverwrite", "UnknownFormat",
        "UnreadableLog", "WrongUsage",
    ),
}  # fmt: skip
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

# guards run inside another program and need what it is made with
_WHERE_WITH = {
    "GaAuditCallback": ("ga_audit.guards.trainer", "transformers"),
    "LightningGuard": ("ga_audit.guards.lightning", "lightning"),
    "guard": ("ga_audit.guards.loop", "torch"),
    "measure": ("ga_audit.guards.measuring", "torch"),
}

__all__ = ["__version__", *_WHERE, *_WHERE_WITH]

if TYPE_CHECKING:
    from ga_audit._ratio import Ratio as Ratio
    from ga_audit._ratio import ratio as ratio
    from ga_audit.api import Audit as Audit
    from ga_audit.api import Diagnosis as Diagnosis
    from ga_audit.api import audit as audit
    from ga_audit.api import diagnose as diagnose
    from ga_audit.api import plot as plot
    from ga_audit.conclusion import NextStep as NextStep
    from ga_audit.conclusion import Retrain as Retrain
    from ga_audit.conclusion import SetAside as SetAside
    from ga_audit.conclusion import Undecided as Undecided
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
    from ga_audit.finding import AxisReason as AxisReason
    from ga_audit.finding import BugMatch as BugMatch
    from ga_audit.finding import ClipShare as ClipShare
    from ga_audit.finding import Comparison as Comparison
    from ga_audit.finding import Estimate as Estimate
    from ga_audit.finding import Evidence as Evidence
    from ga_audit.finding import Finding as Finding
    from ga_audit.finding import Fit as Fit
    from ga_audit.finding import Hypothesis as Hypothesis
    from ga_audit.finding import Impact as Impact
    from ga_audit.finding import Interval as Interval
    from ga_audit.finding import Method as Method
    from ga_audit.finding import NotApplicable as NotApplicable
    from ga_audit.finding import Reason as Reason
    from ga_audit.finding import Relatedness as Relatedness
    from ga_audit.finding import Relation as Relation
    from ga_audit.finding import RetrainRule as RetrainRule
    from ga_audit.finding import SettlingRun as SettlingRun
    from ga_audit.finding import Signature as Signature
    from ga_audit.finding import Verdict as Verdict
    from ga_audit.finding import Window as Window
    from ga_audit.guards._result import GradientFault as GradientFault
    from ga_audit.guards._result import Measurement as Measurement
    from ga_audit.guards.lightning import LightningGuard as LightningGuard
    from ga_audit.guards.loop import guard as guard
    from ga_audit.guards.measuring import measure as measure
    from ga_audit.guards.trainer import GaAuditCallback as GaAuditCallback
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
    import importlib

    if name in _WHERE:
        found: object = getattr(importlib.import_module(_WHERE[name]), name)
        return found
    if name not in _WHERE_WITH:
        raise AttributeError(f"module 'ga_audit' has no attribute {name!r}")
    module, package = _WHERE_WITH[name]
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"ga_audit.{name} needs {package}: {error}. Install: pip install {package}") from error
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
