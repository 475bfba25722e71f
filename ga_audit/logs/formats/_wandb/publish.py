"""To a W&B server, when the user asks for it: a corrected run as a new run, a few words on the original.

The history of the original is never touched.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ga_audit.errors import AuditError, UnreadableLog
from ga_audit.logs.formats._wandb import login as wandb_login
from ga_audit.logs.formats._wandb.address import Address

PREFIX = "ga_audit/"
_LONGEST = 3600  # s; a big run is sent for minutes
_OUR_LINE = re.compile(r"^ga-audit [^\n]*\n?", re.MULTILINE)


def upload(folder: Path, base_url: str | None, *, entity: str | None, project: str | None, timeout: int) -> None:
    """Send an offline run with `wandb sync`, as a new run.

    Parameters
    ----------
    folder : the run directory, `offline-run-*`.
    base_url : the server; None = that of the settings.
    entity, project : where it goes; None = what the run says, or the default.
    timeout : seconds to wait for the login.

    Raises
    ------
    AuditError
        not logged in, or not sent.
    """
    wandb_login.connect(base_url, timeout)  # says what is wrong with the login before anything is sent
    command = [sys.executable, "-m", "wandb", "sync", str(folder.absolute())]
    command += ["--entity", entity] if entity else []
    command += ["--project", project] if project else []
    try:
        # elsewhere: Python would import from this directory, and the SDK take the settings in it
        with tempfile.TemporaryDirectory() as empty:
            done = subprocess.run(
                command,
                cwd=empty,
                env=wandb_login.environment(base_url),
                capture_output=True,
                text=True,
                timeout=_LONGEST,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise AuditError(
            f"not sent within {_LONGEST} s", where=str(folder), remedy=f"Call `wandb sync {folder}`."
        ) from None
    # the SDK leaves this mark where all has arrived, and may exit with 0 where it has not
    if done.returncode or not any(folder.glob("*.wandb.synced")):
        said = wandb_login.without_secrets(" ".join((done.stdout + done.stderr).split()))[-300:]
        raise AuditError(f"not sent: {said}", where=str(folder), remedy=f"Call `wandb sync {folder}`.")


def annotate(address: Address, facts: Mapping[str, Any], note: str, *, timeout: int) -> None:
    """Write facts into the summary of a run, under `ga_audit/`, and one line into its notes; again = the same once.

    Raises
    ------
    AuditError
        the run is going on (its trainer would overwrite the summary, and we its), or it may not be written.
    """
    api = wandb_login.connect(address.base_url, timeout)
    api.flush()  # the whole summary is sent back: it must be that of now
    with wandb_login.errors(str(address), timeout):
        run = api.run(f"{address.entity}/{address.project}/{address.run}")
        if run.state == "running":
            raise UnreadableLog(
                "the run is going on: its summary would be overwritten", where=str(address),
                remedy="Annotate it when it has finished.",
            )  # fmt: skip
        run.notes = f"{_OUR_LINE.sub('', run.notes or '').rstrip()}\nga-audit {' '.join(note.split())}".lstrip()
        run.update()
        run.summary.update({PREFIX + name: value for name, value in facts.items()})
