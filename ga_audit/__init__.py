"""ga-audit: does a logged loss or grad_norm scale with gradient accumulation, and what is to be done.

Public names are loaded on first use, so that importing the package costs nothing.
"""

from typing import TYPE_CHECKING, Any

from ga_audit import views
from ga_audit._version import __version__

_WHERE = {
    "read_runs": "ga_audit.pipeline",
    "audit": "ga_audit.pipeline",
    "Options": "ga_audit.options",
    "diagnose": "ga_audit.pipeline",
    "correct": "ga_audit.correction.curves",
    "plot": "ga_audit.plots",
    "Run": "ga_audit.run",
    "Role": "ga_audit.run",
    "Series": "ga_audit.run",
    "RunSettings": "ga_audit.run",
    "Diagnosis": "ga_audit.conclusion",
    "Audit": "ga_audit.conclusion",
    "Verdict": "ga_audit.finding",
    "AuditError": "ga_audit.errors",
    "Measurement": "ga_audit.guards._result",
    "GradientFault": "ga_audit.guards._result",
}

# guards run inside another program and need what it is made with
_WHERE_WITH = {
    "GaAuditCallback": ("ga_audit.guards.trainer", "transformers"),
    "LightningGuard": ("ga_audit.guards.lightning", "lightning"),
    "guard": ("ga_audit.guards.loop", "torch"),
    "measure": ("ga_audit.guards.measuring", "torch"),
}

__all__ = ["__version__", *_WHERE, *_WHERE_WITH]

if TYPE_CHECKING:
    from ga_audit.conclusion import Audit as Audit
    from ga_audit.conclusion import Diagnosis as Diagnosis
    from ga_audit.correction.curves import correct as correct
    from ga_audit.errors import AuditError as AuditError
    from ga_audit.finding import Verdict as Verdict
    from ga_audit.guards._result import GradientFault as GradientFault
    from ga_audit.guards._result import Measurement as Measurement
    from ga_audit.guards.lightning import LightningGuard as LightningGuard
    from ga_audit.guards.loop import guard as guard
    from ga_audit.guards.measuring import measure as measure
    from ga_audit.guards.trainer import GaAuditCallback as GaAuditCallback
    from ga_audit.options import Options as Options
    from ga_audit.pipeline import audit as audit
    from ga_audit.pipeline import diagnose as diagnose
    from ga_audit.pipeline import read_runs as read_runs
    from ga_audit.plots import draw as plot  # noqa: F401
    from ga_audit.run import Role as Role
    from ga_audit.run import Run as Run
    from ga_audit.run import RunSettings as RunSettings
    from ga_audit.run import Series as Series


def _headline(diagnosis: "Diagnosis") -> str:
    from ga_audit.output.wording.verdict import headline

    return headline(diagnosis)


def _html(diagnosis: "Diagnosis") -> str:
    from ga_audit.output._notebook import html_fragment

    return html_fragment(diagnosis)


def _markdown(diagnosis: "Diagnosis") -> str:
    from ga_audit.output._notebook import markdown

    return markdown(diagnosis)


def _figure(diagnosis: "Diagnosis", kind: str, **options: Any) -> Any:
    from ga_audit.plots import draw

    return draw(diagnosis, kind, **options)


views.register("headline", _headline)
views.register("html", _html)
views.register("markdown", _markdown)
views.register("figure", _figure)


def __getattr__(name: str) -> Any:
    import importlib

    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), "draw" if name == "plot" else name)
    if name not in _WHERE_WITH:
        raise AttributeError(f"module 'ga_audit' has no attribute {name!r}")
    module, package = _WHERE_WITH[name]
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"ga_audit.{name} needs {package}: {error}. Install: pip install {package}") from error


def __dir__() -> list[str]:
    return sorted(__all__)
