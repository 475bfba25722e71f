"""What a typed program does with `ga_audit`; checked by mypy --strict, and run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import ga_audit
from ga_audit import Audit, Diagnosis, Finding, Options, Ratio, Role, Run, RunSettings, Series, Verdict, WrongUsage


def from_disk(folder: Path) -> list[str]:
    audit: Audit = ga_audit.audit(folder, ga={"run_a": 2, "run_b": "2,8@500"}, world_size=1, micro_batch_size=4)
    again: Audit = ga_audit.audit(str(folder), Options(ga={"*": 8}))
    return [diagnosis.verdict.value for diagnosis in (*audit.diagnoses, *again.diagnoses)]


def from_memory(table: pd.DataFrame) -> tuple[Audit, Diagnosis]:
    small: Run = Run.from_arrays(loss=[2.5, 2.1, 1.9], step=[10, 20, 30], ga=2, name="small", micro_batch_size=4)
    large: Run = Run.from_frame(table, ga=8, name="large", loss="train/loss", packages={"transformers": "4.46.0"})
    audit = ga_audit.audit(small, large)
    first: Diagnosis = next(ga_audit.diagnose([small, large]))
    return audit, first


def shown(audit: Audit) -> tuple[pd.DataFrame, str]:
    findings: tuple[Finding, ...] = audit.diagnoses[0].findings
    assert all(0 <= finding.probability <= 1 for finding in findings)
    audit.plot("ratio", group=0).savefig("/dev/null", format="png")
    ga_audit.plot(audit.diagnoses[0], "regression", dark=True)
    return audit.to_frame(), audit.to_json(explain=True)


def compared() -> float:
    result: Ratio = ga_audit.ratio(2.715, 10.86, ga=(2, 8), role="loss")
    if result.verdict is not Verdict.SCALED:
        raise SystemExit(repr(result))
    return result.exponent + result.interval.low


def settings() -> int | None:
    known: RunSettings = RunSettings.given(gradient_accumulation_steps=8, micro_batch_size=2)
    return known.effective_batch_size


def loss(run: Run) -> Series | None:
    return run.get(Role.LOSS)


if __name__ == "__main__":
    audit, diagnosis = from_memory(pd.DataFrame({"step": [10, 20, 30], "train/loss": [10.0, 8.4, 7.6]}))
    frame, _ = shown(audit)
    try:
        ga_audit.ratio(1, 2, ga=(2, 2))
    except WrongUsage as error:
        print(error.message)
    series = loss(diagnosis.runs[0])
    print(len(frame), 0 if series is None else len(series), settings(), round(compared(), 1))
