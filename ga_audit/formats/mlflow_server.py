"""MLflow tracking servers: the URL of a server, of an experiment or of a run, as the browser shows it.

Asked through the REST interface, so MLflow need not be installed. Of each run only the metrics that have a role are fetched.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ga_audit import naming, settings
from ga_audit.errors import UnreadableLog
from ga_audit.formats import Claim, Target
from ga_audit.formats._points import Rows, need_series
from ga_audit.run import Note, Run, Source, Trust

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
    place = _place(target.path)
    assert place is not None
    if place.run is not None:
        yield target
        return
    timeout = float(target.options.get("timeout", _TIMEOUT))
    if place.experiment is not None:
        experiments = [place.experiment]
    else:
        found = _pages(place, "experiments/search", {"max_results": _PAGE}, "experiments", timeout)
        experiments = [str(e["experiment_id"]) for e in found]
    empty = True
    query = {"experiment_ids": experiments, "max_results": _PAGE}
    for run in _pages(place, "runs/search", query, "runs", timeout):
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
    place = _place(target.path)
    assert place is not None
    timeout = float(target.options.get("timeout", _TIMEOUT))
    run = _asked(place, "runs/get", {"run_id": place.run}, timeout, post=False).get("run", {})
    info, data = run.get("info", {}), run.get("data", {})
    points = Rows(SINK, target.path)
    for metric in data.get("metrics", []):
        name = str(metric.get("key"))
        if naming.role_of(name, loss_key=target.loss_key, grad_norm_key=target.grad_norm_key) is None:
            continue
        query = {"run_id": place.run, "metric_key": name, "max_results": _POINTS}
        history = _pages(place, "metrics/get-history", query, "metrics", timeout, post=False)
        for point in sorted(history, key=lambda p: int(p.get("timestamp") or 0)):
            points.add(name, int(point.get("step") or 0), point.get("value"))
    series, left = points.series(target)
    need_series(series, target.path, left)
    params = {str(p["key"]): _WORDS.get(p.get("value"), p.get("value")) for p in data.get("params", []) if "key" in p}
    found = settings.from_mapping(params, source="mlflow: params", trust=Trust.RECORDED)
    running = info.get("status") == "RUNNING"
    notes = (Note("unfinished", "the run is going on, or it crashed", target.path),) if running else ()
    yield Run(
        target.path, str(info.get("run_name") or place.run), f"mlflow:{place.run}", found, series,
        (Source(SINK, target.path),), notes=notes, left_out=left, private=(urlsplit(place.base).hostname or "",),
    )  # fmt: skip


# --- REST --------------------------------------------------------------------------------------------------------------


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the password to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _pages(
    place: _Place, what: str, query: Mapping[str, Any], key: str, timeout: float, *, post: bool = True
) -> Iterator[dict[str, Any]]:
    token = ""
    while True:
        reply = _asked(place, what, {**query, **({"page_token": token} if token else {})}, timeout, post=post)
        yield from (item for item in reply.get(key, []) if isinstance(item, dict))
        token = str(reply.get("next_page_token") or "")
        if not token:
            return


def _asked(place: _Place, what: str, query: Mapping[str, Any], timeout: float, *, post: bool = True) -> dict[str, Any]:
    url = f"{place.base}/api/2.0/mlflow/{what}" + ("" if post else f"?{urlencode(query)}")
    request = Request(url, data=json.dumps(query).encode() if post else None, headers=_headers(place.base))  # noqa: S310
    try:
        with build_opener(_NoRedirect).open(request, timeout=timeout) as reply:
            found = json.load(reply)
    except HTTPError as error:
        meaning = {
            401: "the server wants a login", 403: "you have no permission to read this",
            404: "there is no such run or experiment",
        }  # fmt: skip
        remedy = "Set MLFLOW_TRACKING_URI with MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN."
        message = meaning.get(error.code, f"the server answers {error.code}")
        raise UnreadableLog(
            message, where=place.base, remedy=remedy if error.code < 404 else "Check the address."
        ) from None
    except TimeoutError:
        message = f"no answer within {timeout:g} s"
        raise UnreadableLog(
            message, where=place.base, remedy="Check the connection, or give a longer --timeout."
        ) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UnreadableLog(f"cannot be reached: {reason}", where=place.base, remedy="Check the address.") from None
    except ValueError:
        raise UnreadableLog(
            "is no MLflow server", where=place.base, remedy="Give the URL that the browser shows."
        ) from None
    if not isinstance(found, dict):
        raise UnreadableLog("is no MLflow server", where=place.base, remedy="Give the URL that the browser shows.")
    return found


def _headers(base: str) -> dict[str, str]:
    """The login goes to the server of MLFLOW_TRACKING_URI alone, never to one that somebody pasted."""
    headers = {"Content-Type": "application/json"}
    own = os.environ.get("MLFLOW_TRACKING_URI", "")
    if urlsplit(own).netloc.rpartition("@")[2] != urlsplit(base).netloc:
        return headers
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers
