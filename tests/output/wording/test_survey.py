import pytest
from conftest import make_run, twins

from ga_audit import pipeline
from ga_audit.conclusion import SetAside, UndecidedReason
from ga_audit.errors import UnreadableLog
from ga_audit.output.wording import survey
from ga_audit.run import ReadFailure
from ga_audit.scan.survey import Row, RowReason


@pytest.fixture(scope="module")
def row():
    (diagnosis,) = pipeline.diagnose(twins(0))
    return Row(
        run="r", source="r", verdict="healthy", group=1, reason=RowReason.DIAGNOSIS, diagnosis=diagnosis,
        findings=("loss-summed-over-ga",), set_aside=SetAside(make_run(), UndecidedReason.UNKNOWN_GA),
        failure=ReadFailure("r", UnreadableLog("it is empty", remedy="Log something.")),
    )  # fmt: skip


HEALTHY = "logged loss and grad_norm do not scale with GA (GA 1, 8)."


@pytest.mark.parametrize(("reason", "why"), [
    (RowReason.FINDINGS, "loss-summed-over-ga"),
    (RowReason.DIAGNOSIS, f"Healthy: {HEALTHY}"),
    (RowReason.NOT_ABOUT_RUN, f"what was found in group 1 is not about this run: Healthy: {HEALTHY}"),
    (RowReason.RUN_CONTRADICTS, f"the group is healthy, the run alone is not: Healthy: {HEALTHY}"),
    (RowReason.UNCHANGED, "at its GA what was found in group 1 changes nothing (loss-summed-over-ga)"),
    (RowReason.SET_ASIDE, "set aside: gradient_accumulation_steps is unknown"),
    (RowReason.NOT_READ, "it is empty. Log something."),
])  # fmt: skip
def test_every_reason_has_its_sentence(row, reason, why):
    import dataclasses

    shown = dataclasses.replace(row, reason=reason)
    assert survey.why(shown) == why
    assert survey.why_in_table(shown) == (HEALTHY if reason is RowReason.DIAGNOSIS else why)
