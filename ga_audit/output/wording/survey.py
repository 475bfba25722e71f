"""The sentences of a survey: what the verdict on each run rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ga_audit.output.wording import verdict
from ga_audit.scan.survey import RowReason

if TYPE_CHECKING:
    from ga_audit.scan.survey import Row


def why(row: Row) -> str:
    """What the verdict on a run rests on."""
    if row.reason is RowReason.DIAGNOSIS and row.diagnosis is not None:
        return verdict.headline(row.diagnosis)
    return _why(row)


def why_in_table(row: Row) -> str:
    """The same beside a column that has the verdict."""
    if row.reason is RowReason.DIAGNOSIS and row.diagnosis is not None:
        return verdict.statement(row.diagnosis)
    return _why(row)


def _why(row: Row) -> str:
    match row.reason:
        case RowReason.FINDINGS:
            return ", ".join(row.findings)
        case RowReason.UNCHANGED:
            found = ", ".join(row.findings)
            return f"at its GA what was found in group {row.group} changes nothing ({found})"
        case RowReason.SET_ASIDE:
            assert row.set_aside is not None
            return f"set aside: {verdict.set_aside(row.set_aside)}"
        case RowReason.NOT_READ:
            assert row.failure is not None
            return f"{row.failure.error.message}. {row.failure.error.remedy or ''}".strip()
        case _:
            assert row.diagnosis is not None
            said = verdict.headline(row.diagnosis)
            if row.reason is RowReason.RUN_CONTRADICTS:
                return f"the group is healthy, the run alone is not: {said}"
            return f"what was found in group {row.group} is not about this run: {said}"
