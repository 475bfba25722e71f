"""Where the audit of a check comes from: logs, a command that writes them, or `ga-audit repro`."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ga_audit import pipeline
from ga_audit.commands import split_command
from ga_audit.conclusion import Audit
from ga_audit.errors import AuditError, ExitCode, WrongUsage
from ga_audit.repro import as_evidence, measurement
from ga_audit.repro import verdict as verdicts
from ga_audit.run import ReadFailure, Run, Schedule

_CELL = re.compile(r"world(\d+)-ga(\d+)")
_STANDARD_ERROR = 2  # standard output is for the check itself


def run_command(command: str) -> None:
    """Run a command that writes the logs; its output goes to standard error, no shell reads it.

    Raises
    ------
    WrongUsage
        it cannot be split into words.
    AuditError
        it cannot be started, or ends with another status than 0.
    """
    words = split_command(command, "the command")
    try:
        done = subprocess.run(words, stdout=_STANDARD_ERROR, check=False)
    except OSError as error:
        message = f"cannot be started: {error.strerror}"
        raise AuditError(message, where=words[0], remedy="Check the command.") from None
    if done.returncode:
        message = f"ended with status {done.returncode}"
        raise AuditError(message, where=command, remedy="Its logs are not audited.")


def audit_of_repro(arguments: str) -> Audit:
    """Train with `ga-audit repro` in a temporary folder; the audit of its logs with what was measured.

    Raises
    ------
    WrongUsage
        repro refuses the arguments.
    AuditError
        nothing was measured.
    """
    words = split_command(arguments, "the arguments of repro") if arguments.strip() else []
    with tempfile.TemporaryDirectory(prefix="ga-audit-check-") as folder:
        out = Path(folder) / "repro"
        command = [sys.executable, "-m", "ga_audit", "repro", *words, "--out", str(out)]
        done = subprocess.run(command, stdout=_STANDARD_ERROR, check=False)
        if done.returncode == ExitCode.USAGE:
            message = f"repro refuses its arguments: {arguments}"
            raise WrongUsage(message, remedy="See `ga-audit repro --help`.")
        matrices = sorted({cell.parent for cell in out.rglob("world*-ga*") if _CELL.fullmatch(cell.name)})
        if not matrices:
            message = f"repro ended with status {done.returncode} and trained nothing"
            raise AuditError(message, remedy="See its output above.")
        return _joined([_audit_of_matrix(matrix) for matrix in matrices])


def _audit_of_matrix(folder: Path) -> Audit:
    runs: list[Run] = []
    failures: list[ReadFailure] = []
    truths = []
    for cell in sorted(folder.iterdir()):
        if not (match := _CELL.fullmatch(cell.name)):
            continue
        world_size, ga = map(int, match.groups())
        found, broken = pipeline.read_runs([str(cell)])
        failures += broken
        if logs := [run for run in found if run.series]:
            fullest = max(logs, key=lambda log: sum(map(len, log.series)))
            named = replace(fullest, id=cell.name, name=cell.name)
            given = pipeline.Options(ga={"*": Schedule.constant(ga)}, world_size={"*": world_size})
            runs.append(pipeline.with_given(named, given))
        if (cell / "truth.json").exists():
            truths.append(measurement.read_truth(cell / "truth.json"))
    audit = pipeline.audit_runs(runs, failures)
    return as_evidence.with_truth(audit, verdicts.judge(truths)) if truths else audit


def _joined(audits: Sequence[Audit]) -> Audit:
    return replace(
        audits[0],
        diagnoses=tuple(one for audit in audits for one in audit.diagnoses),
        failures=tuple(one for audit in audits for one in audit.failures),
        notes=tuple(one for audit in audits for one in audit.notes),
        set_aside=tuple(one for audit in audits for one in audit.set_aside),
    )
