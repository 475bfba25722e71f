"""A logged-in W&B client: which key may go to which server, and what an error of the SDK means."""

from __future__ import annotations

import netrc
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ga_audit.errors import AuditError, MissingSetting, UnreadableLog
from ga_audit.logs.formats._wandb import sdk as wandb_sdk
from ga_audit.logs.formats._wandb.address import SAAS

_SAAS_HOSTS = frozenset({"api.wandb.ai", "api.forge.coreweave.com"})  # one service under two names


class NoKey(MissingSetting):
    """There is no key that may be sent to a server."""


def connect(base_url: str | None, timeout: int) -> Any:
    """A logged-in `wandb.Api`; never prompts.

    Parameters
    ----------
    base_url : the server; None = the one of the settings and the environment.
    timeout : seconds to wait for an answer.

    Raises
    ------
    NoKey
        no key for this server.
    UnreadableLog
        the server cannot be reached, or refuses the key.
    """
    # a change of the environment (tests, notebooks) is another login
    names = ("BASE_URL", "API_KEY", "IDENTITY_TOKEN_FILE", "ENTITY", "PROJECT", "CONFIG_DIR")
    return _connected(base_url, timeout, *(os.environ.get(f"WANDB_{name}") for name in names), os.environ.get("NETRC"))


@lru_cache(maxsize=8)
def _connected(base_url: str | None, timeout: int, *environment: str | None) -> Any:
    host = base_url or server()
    key = _key_for(host)
    _reach(host, timeout)
    with wandb_sdk.open_sdk() as wandb, errors(host, timeout):
        return wandb.Api(overrides={"base_url": host}, timeout=timeout, api_key=key or None)


def server() -> str:
    """The server of the environment, else of the user's own settings, else wandb.ai.

    Never that of `./wandb/settings`, as the SDK would: the directory may be somebody else's.
    """
    return (os.environ.get("WANDB_BASE_URL") or _own_setting("base_url") or SAAS).rstrip("/")


def _own_setting(name: str) -> str | None:
    try:
        text = (wandb_sdk.find_config_directory() / "settings").read_text("utf-8", "replace")
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return None
    found = re.search(rf"^\s*{name}\s*=\s*(\S+)", text, re.MULTILINE)
    return found[1] if found else None


def _key_for(host: str) -> str:
    """The key to be sent to a server; empty where the SDK is to exchange the identity token of the environment.

    The key of the environment belongs to the server of the settings. A URL that somebody pasted must not carry it to
    another one, as the SDK would.
    """
    same = _origin(host) == _origin(server())
    if same and (key := os.environ.get("WANDB_API_KEY")):
        return key
    if same and os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return ""
    if (same or _is_private(host)) and (key := _netrc_key(host)):
        return key
    if same and (key := _own_setting("api_key")):
        return key
    raise NoKey(
        "no W&B API key for this server", where=host,
        remedy="Run `wandb login" + ("" if same else f" --host {host}") + "` once, or set WANDB_API_KEY"
        + ("" if same else " and WANDB_BASE_URL") + "; for a local run give its directory (wandb/run-...).",
    )  # fmt: skip


def environment(base_url: str | None) -> dict[str, str]:
    """Variables for a process of the SDK that is to speak to this server, with the key that belongs to it."""
    host = base_url or server()
    variables = {**wandb_sdk.build_environment(), "WANDB_BASE_URL": host}
    if key := _key_for(host):
        variables["WANDB_API_KEY"] = key
        variables.pop("WANDB_IDENTITY_TOKEN_FILE", None)  # the SDK refuses both
    return variables


def _origin(url: str) -> tuple[str, str]:
    """Scheme and host: a key that is sent by https is not to go out in clear text."""
    parts = urlsplit(url)
    host = parts.netloc.lower()
    return parts.scheme, urlsplit(SAAS).netloc if host in _SAAS_HOSTS else host


def _is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in {"localhost", "127.0.0.1", "::1"}


def _netrc_key(host: str) -> str:
    name = urlsplit(host).netloc
    names = _SAAS_HOSTS if name in _SAAS_HOSTS else {name, urlsplit(host).hostname or name}
    for file in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        if not file:
            continue
        try:
            hosts = netrc.netrc(str(Path(file).expanduser())).hosts
        except (netrc.NetrcParseError, OSError, UnicodeDecodeError, RuntimeError):
            continue
        for entry in sorted(names):
            if entry in hosts and hosts[entry][2]:  # not the entry `default`, which is for every host
                return str(hosts[entry][2])
    return ""


def _reach(host: str, timeout: int) -> None:
    """A server that is not there is said at once: the SDK tries for minutes."""
    if any(os.environ.get(name) or os.environ.get(name.lower()) for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")):
        return  # only the proxy knows
    url = urlsplit(host)
    try:
        port = url.port or (80 if url.scheme == "http" else 443)
        socket.create_connection((url.hostname or "", port), timeout=min(timeout, 10)).close()
    except (OSError, ValueError) as error:
        raise explained(f"connection: {error}", host, timeout) from None


# --- errors ----------------------------------------------------------------------------------------------------------


@contextmanager
def errors(place: str, timeout: int) -> Iterator[None]:
    """Turn what the SDK raises into an AuditError that says what to do; keys are never in the text."""
    try:
        yield
    except AuditError:
        raise
    except sdk_errors() as error:
        raise explained(f"{error} {_status(error)}", place, timeout) from None


def sdk_errors() -> tuple[type[Exception], ...]:
    """What calls of the installed SDK raise; a run that is not found is a ValueError."""
    from wandb.errors import Error

    try:
        from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    except ImportError:  # before wandb-core did the asking
        return Error, ValueError, OSError
    return Error, WandbApiFailedError, ValueError, OSError


def _status(error: BaseException | None) -> str:
    """The HTTP status that an error of the SDK, or the one that it wraps, carries."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "http_status", None)
        if status:
            return f"HTTP {status}"
        error = error.__cause__ or getattr(error, "exc", None)
    return ""


_MEANINGS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("http 401", " 401", "relogin", "invalid api key", "not authenticated", "unauthorized"),
     "the server refused the API key", "Run `wandb login --relogin`, or check WANDB_API_KEY and WANDB_BASE_URL."),
    (("http 403", " 403", "permission denied", "forbidden"), "you have no permission to read this",
     "Ask the owner for access, or log in with another account."),
    (("http 404", " 404", "not found", "could not find"), "there is no such run or project on the server",
     "Copy the run's URL from the browser."),
    (("http 429", " 429", "rate limit"), "the server limits the rate of requests", "Wait a minute and call again."),
    (("timed out", "timeout", "deadline"), "no answer within {timeout} s",
     "Check the connection, or give a longer --timeout."),
    (("connection", "refused", "network", "unreachable", "eof", "resolution"), "the server cannot be reached",
     "Check the connection and WANDB_BASE_URL, or audit the local run directory (wandb/run-...)."),
)  # fmt: skip


def explained(text: str, place: str, timeout: int) -> AuditError:
    """The AuditError that the text of an SDK error means; what cannot be told is quoted without its secrets."""
    low = f" {text.lower()}"
    for signs, message, remedy in _MEANINGS:
        if any(sign in low for sign in signs):
            return UnreadableLog(message.format(timeout=timeout), where=place, remedy=remedy)
    return UnreadableLog(
        f"W&B: {without_secrets(text.strip())[:200]}", where=place,
        remedy="Try `wandb login`, or audit the local run directory.",
    )  # fmt: skip


def without_secrets(text: str) -> str:
    """A text of the SDK without the key of the environment, or what looks like a key."""
    for secret in (os.environ.get("WANDB_API_KEY"), _own_setting("api_key")):
        if secret:
            text = text.replace(secret, "<key>")
    return re.sub(r"\b[0-9a-f]{40}\b|wandb_v1_\w{20,}|(?<=://)[^/\s@]+@", "<key>", text)
