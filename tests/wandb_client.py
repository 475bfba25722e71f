"""The command line and the fetcher in one other process, so that wandb-core starts once and our environment stays ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from wandb_stub import Stub, environment


@dataclass
class Result:
    status: int
    out: str
    err: str


def _prepare(env: dict[str, str | None], folder: str) -> None:
    for name, value in env.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(folder)


def _command(args: tuple[str, ...], env: dict[str, str | None], folder: str) -> Result:
    from click.testing import CliRunner

    from ga_audit.cli import cli

    _prepare(env, folder)
    done = CliRunner().invoke(cli, args, catch_exceptions=False)
    return Result(done.exit_code, done.stdout, done.stderr)


def _fetch(text: str, env: dict[str, str | None], folder: str, options: dict[str, Any]) -> list[Any]:
    from ga_audit.errors import AuditError
    from ga_audit.logs.formats._wandb import (
        address as wandb_address,
    )
    from ga_audit.logs.formats._wandb import (
        fetch as wandb_fetch,
    )
    from ga_audit.logs.formats._wandb import (
        login as wandb_login,
    )

    _prepare(env, folder)
    timeout = options.pop("timeout", 60)
    try:
        address = wandb_address.parse(text)
        assert address is not None, text
        api = wandb_login.connect(address.base_url, timeout)
        api.flush()
        found = list(wandb_fetch.find(api, address, timeout=timeout, filters=options.pop("filters", None)))
        return [wandb_fetch.read_run(run, timeout=timeout, **options) for run in found]
    except AuditError as error:
        return [error]


class Client:
    """One process with the SDK, to be used with one stub after another."""

    def __init__(self, pool: ProcessPoolExecutor, folder: Path) -> None:
        self.pool, self.folder = pool, folder

    def env(self, stub: Stub, more: dict[str, str | None]) -> dict[str, str | None]:
        return {"WANDB_PROJECT": None, "WANDB_ENTITY": None, **environment(stub.url, self.folder), **more}

    def ga_audit(self, stub: Stub, *args: str, cwd: Path | None = None, **more: str | None) -> Result:
        """What the command line prints; keywords are variables of the environment, None unsets."""
        return self.pool.submit(_command, args, self.env(stub, more), str(cwd or self.folder)).result(timeout=180)

    def fetch(self, stub: Stub, text: str, env: dict[str, str | None] | None = None, **options: Any) -> list[Any]:
        """CloudRuns of an address, or a list of the one error."""
        return self.pool.submit(_fetch, text, self.env(stub, env or {}), str(self.folder), options).result(timeout=180)


@contextmanager
def sdk_client(folder: Path) -> Iterator[Client]:
    """A client in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield Client(pool, folder)
