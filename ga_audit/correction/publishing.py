"""On the user's word only: corrected runs sent beside the originals, and a line on each original."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ga_audit import __version__
from ga_audit.correction.curves import Plan, table
from ga_audit.errors import AuditError
from ga_audit.logs import formats
from ga_audit.logs.formats import Format
from ga_audit.run import Source

T = TypeVar("T")


def upload(made: Sequence[Plan], folders: Mapping[str, Path], *, timeout: int) -> dict[str, str]:
    """Send each corrected run as a new run of the original's project.

    Parameters
    ----------
    made : the corrections.
    folders : by run id: where the corrected logs of the run were written, and of no other run.
    timeout : seconds to wait for the server's answer to the login.

    Returns
    -------
    By run id: the id of the new run; of a run in several W&B logs, the ids.

    Raises
    ------
    AuditError
        a run has no log that a server takes, or it was not sent.
    """
    sent: dict[str, str] = {}
    for plan in made:
        source, upload = _on_server(plan, lambda of: of.upload, "sent to a server")
        offline = sorted(folders[plan.run.id].rglob("run-*.wandb"))
        if not offline:
            raise AuditError(
                "no corrected W&B run was written", where=plan.run.name, remedy="See `ga-audit fix --dry-run`."
            )
        for file in offline:
            try:
                upload(source, file.parent, timeout)
            except AuditError as error:
                before = f"; sent before it: {', '.join(sent.values())}" if sent else ""
                raise type(error)(f"{error.message}{before}", where=error.where, remedy=error.remedy) from None
            new_id = file.stem.removeprefix("run-")
            sent[plan.run.id] = f"{sent[plan.run.id]}, {new_id}" if plan.run.id in sent else new_id
    return sent


def annotate(made: Sequence[Plan], sent: Mapping[str, str], *, timeout: int) -> list[str]:
    """Write what was found into the summary and the notes of each original; its history stays as it is.

    Parameters
    ----------
    made : the corrections.
    sent : by run id: the id of the corrected run on the server, where there is one.
    timeout : seconds to wait for an answer.

    Returns
    -------
    The addresses of the annotated runs.

    Raises
    ------
    AuditError
        a run is on no server, is going on, or may not be written.
    """
    done = []
    for plan in made:
        source, write = _on_server(plan, lambda of: of.annotate, "annotated")
        write(source, facts(plan, sent.get(plan.run.id)), _note(plan, sent.get(plan.run.id)), timeout)
        done.append(source.path)
    return done


def facts(plan: Plan, corrected_run: str | None) -> dict[str, Any]:
    """What the summary of the original gets, under `ga_audit/`: version, finding, the factor of each series."""
    factors = {
        f"factor/{r.name}": float(r.factor[0]) if len(set(r.factor)) == 1 else None
        for rescales in plan.rescales.values() for r in rescales
    }  # fmt: skip
    known = {name: value for name, value in factors.items() if value is not None and math.isfinite(value)}
    link = {"corrected_run": corrected_run} if corrected_run else {}
    return {"version": __version__, "finding": plan.reason, **known, **link}


def _note(plan: Plan, corrected_run: str | None) -> str:
    changes = ", ".join(f"{row['series']} is {'/'.join(f'{f:g}' for f in row['factor'])}x" for row in table(plan))
    link = f"; corrected run: {corrected_run}" if corrected_run else ""
    return f"{__version__}: as logged, {changes} ({plan.reason}){link}"


def _on_server(plan: Plan, choose: Callable[[Format], T | None], said: str) -> tuple[Source, T]:
    """The first log of a run whose format can do what is asked, and the function that does it."""
    for source in plan.run.sources:
        found = choose(formats.load(source.format))
        if plan.of(source) and found is not None:
            return source, found
    raise AuditError(
        f"only W&B runs can be {said}",
        where=plan.run.name,
        remedy="Give the run as entity/project/id, or leave the option.",
    )
