"""The W&B SDK in this process: without telemetry, and without the settings of the current directory.

The SDK reads `./wandb/settings`, which may come with somebody else's logs and name a server, a proxy or headers.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_QUIET = {"WANDB_ERROR_REPORTING": "false"}  # error reports and usage counts, of Python and of wandb-core
_INHERITED = ("WANDB_SERVICE",)  # a wandb-core that somebody else started, with settings of its own
_lock = threading.RLock()  # the environment and the working directory belong to the whole process


def find_config_directory() -> Path:
    """The directory of the user's own settings, absolute."""
    own = os.environ.get("WANDB_CONFIG_DIR")
    return (Path(own) if own else Path("~/.config/wandb")).expanduser().absolute()


def build_environment() -> dict[str, str]:
    """Variables for a process of the SDK, to be started in a directory of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in _INHERITED}
    return {**kept, **_QUIET, **_make_config_variable()}


@contextmanager
def open_sdk() -> Iterator[Any]:
    """The module `wandb`, to be started inside; the environment is restored afterwards.

    What the SDK starts inside (wandb-core, recorders of telemetry) keeps what it was started with.
    """
    names = (*_QUIET, *_INHERITED, "WANDB_CONFIG_DIR")
    with _lock:
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(_QUIET, **_make_config_variable())
        for name in _INHERITED:
            os.environ.pop(name, None)
        try:
            yield _load()
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _make_config_variable() -> dict[str, str]:
    """The variable with an absolute path: the SDK resolves it in another working directory."""
    return {"WANDB_CONFIG_DIR": str(find_config_directory())} if os.environ.get("WANDB_CONFIG_DIR") else {}


def _load() -> Any:
    """`wandb` with its settings loaded, which happens once in a process and reads `./wandb/settings`."""
    import wandb
    from wandb.sdk import wandb_setup

    singleton = getattr(wandb_setup, "singleton", None) or wandb.setup  # the first releases have only the latter
    if hasattr(wandb_setup, "singleton") and getattr(singleton(), "settings_if_loaded", None) is not None:
        return wandb
    with tempfile.TemporaryDirectory() as empty, _replace_working_directory(empty):
        settings = singleton().settings
    if os.path.realpath(settings.root_dir) == os.path.realpath(empty):
        with suppress(OSError):  # a directory that was deleted
            settings.root_dir = os.getcwd()  # where the user's own runs of this process are written
    return wandb


@contextmanager
def _replace_working_directory(folder: str) -> Iterator[None]:
    """Give this thread alone another working directory: other threads may be opening relative paths."""
    before, thread = os.getcwd, threading.get_ident()

    def getcwd() -> str:
        return folder if threading.get_ident() == thread else before()

    os.getcwd = getcwd
    try:
        yield
    finally:
        os.getcwd = before
