"""MLflow's REST interface: one request, and answers in pages.

Apart from the format, so that only an audit of a server imports the HTTP client.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ga_audit.errors import UnreadableLog


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the password to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def pages(
    base: str, what: str, query: Mapping[str, Any], key: str, timeout: float, *, post: bool = True
) -> Iterator[dict[str, Any]]:
    """Every item of an answer that comes in pages."""
    token = ""
    while True:
        reply = asked(base, what, {**query, **({"page_token": token} if token else {})}, timeout, post=post)
        yield from (item for item in reply.get(key, []) if isinstance(item, dict))
        token = str(reply.get("next_page_token") or "")
        if not token:
            return


def asked(base: str, what: str, query: Mapping[str, Any], timeout: float, *, post: bool = True) -> dict[str, Any]:
    """The answer to one request.

    Raises
    ------
    UnreadableLog
        the server cannot be reached, refuses, or is no MLflow server.
    """
    url = f"{base}/api/2.0/mlflow/{what}" + ("" if post else f"?{urlencode(query)}")
    request = Request(url, data=json.dumps(query).encode() if post else None, headers=_headers(base))  # noqa: S310
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
        raise UnreadableLog(message, where=base, remedy=remedy if error.code < 404 else "Check the address.") from None
    except TimeoutError:
        message = f"no answer within {timeout:g} s"
        raise UnreadableLog(message, where=base, remedy="Check the connection, or give a longer --timeout.") from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UnreadableLog(f"cannot be reached: {reason}", where=base, remedy="Check the address.") from None
    except ValueError:
        raise UnreadableLog("is no MLflow server", where=base, remedy="Give the URL that the browser shows.") from None
    if not isinstance(found, dict):
        raise UnreadableLog("is no MLflow server", where=base, remedy="Give the URL that the browser shows.")
    return found


def _headers(base: str) -> dict[str, str]:
    """The login goes to the server of MLFLOW_TRACKING_URI alone, never to one that somebody pasted."""
    headers = {"Content-Type": "application/json"}
    try:
        own, asked_of = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", "")), urlsplit(base)
    except ValueError:  # an IPv6 address without its bracket, say
        return headers
    # the scheme too: a login that is sent by https is not to go out in clear text
    if (own.scheme, own.netloc.rpartition("@")[2]) != (asked_of.scheme, asked_of.netloc):
        return headers
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers
