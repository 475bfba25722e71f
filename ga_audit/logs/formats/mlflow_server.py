"""MLflow tracking servers: the URL of a server, of an experiment or of a run, as the browser shows it.

Asked through the REST interface, so MLflow need not be installed. Of each run only the metrics that have a role are fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ga_audit.errors import UnreadableLog
from ga_audit.logs import roles, settings
from ga_audit.logs.formats import Claim, Format, Target
from ga_audit.logs.formats._points import Rows, need_series
from ga_audit.run import Note, NoteCode, Run, Source, Trust

SINK = "mlflow_server"
_PAGE = 1000  # runs of a request; the server's own limit is 50,000
_POINTS = 25_000  # of a metric, of a request
_TIMEOUT = "60"
_WORDS = {"None": None, "True": True, "False": False}


@dataclass(frozen=True, slots=True)
class _Place:
    base: str
    experiment: str | None = None
    run: str | None = None


def claim(target: Target) -> Claim:
    """YES for `http://HOST/#/experiments/...`, and for a bare `http://HOST:PORT`."""
    return Claim.YES if target.text is None and _place(target.path) is not None else Claim.NO


def _place(text: str) -> _Place | None:
    if not text.startswith(("http://", "https://")):
        return None
    try:
        url = urlsplit(text)
        host = url.netloc.rpartition("@")[2]
    except ValueError:
        return None
    base = f"{url.scheme}://{host}{url.path.rstrip('/')}"
    parts = url.fragment.partition("?")[0].strip("/").split("/")
    if parts[0] == "experiments" and len(parts) > 1:
        return _Place(base, parts[1], parts[3] if len(parts) > 3 and parts[2] == "runs" else None)
    return _Place(base) if not url.path.strip("/") and not url.fragment.strip("/") else None


def expand(target: Target) -> Iterator[Target]:
    """The runs of a server or of an experiment.

    Raises
    ------
    AuditError
        no answer, no access, or no runs.
    """
    from ga_audit.logs.formats import _mlflow_rest

    place = _place(target.path)
    assert place is not None
    if place.run is not None:
        yield target
        return
    timeout = float(target.options.get("timeout", _TIMEOUT))
    if place.experiment is not None:
        experiments = [place.experiment]
    else:
        found = _mlflow_rest.pages(place.base, "experiments/search", {"max_results": _PAGE}, "experiments", timeout)
        experiments = [str(e["experiment_id"]) for e in found]
    empty = True
    query = {"experiment_ids": experiments, "max_results": _PAGE}
    for run in _mlflow_rest.pages(place.base, "runs/search", query, "runs", timeout):
        empty = False
        info = run["info"]
        yield replace(target, path=f"{place.base}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}")
    if empty:
        raise UnreadableLog("no runs there", where=target.path, remedy="Check the number of the experiment.")


def read(target: Target) -> Iterator[Run]:
    """One run: its parameters, and every point of the metrics that have a role.

    Raises
    ------
    AuditError
        no answer, no access, no training loss.
    """
    from ga_audit.logs.formats import _mlflow_rest

    place = _place(target.path)
    assert place is not None
    timeout = float(target.options.get("timeout", _TIMEOUT))
    run = _mlflow_rest.asked(place.base, "runs/get", {"run_id": place.run}, timeout, post=False).get("run", {})
    info, data = run.get("info", {}), run.get("data", {})
    points = Rows(SINK, target.path)
    for metric in data.get("metrics", []):
        name = str(metric.get("key"))
        if roles.role_of(name, loss_key=target.loss_key, grad_norm_key=target.grad_norm_key) is None:
            continue
        query = {"run_id": place.run, "metric_key": name, "max_results": _POINTS}
        history = _mlflow_rest.pages(place.base, "metrics/get-history", query, "metrics", timeout, post=False)
        for point in sorted(history, key=lambda p: int(p.get("timestamp") or 0)):
            points.add(name, int(point.get("step") or 0), point.get("value"))
    points.without_default_steps()
    series, left = points.series(target)
    need_series(series, target.path, left)
    params = {str(p["key"]): _WORDS.get(p.get("value"), p.get("value")) for p in data.get("params", []) if "key" in p}
    found = settings.from_mapping(params, source="mlflow: params", trust=Trust.RECORDED)
    running = info.get("status") == "RUNNING"
    notes = (Note(NoteCode.UNFINISHED, where=target.path),) if running else ()
    yield Run(
        target.path, str(info.get("run_name") or place.run), f"mlflow:{place.run}", found, series,
        (Source(SINK, target.path),), notes=notes, left_out=left, private=(urlsplit(place.base).hostname or "",),
    )  # fmt: skip


FORMAT = Format(claim=claim, read=read, expand=expand)
