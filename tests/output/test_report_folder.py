"""The redacted copy of a diagnosis; `tests/cli/test_report.py` has the files."""

import dataclasses

from conftest import twins

from ga_audit import pipeline
from ga_audit.output import report_folder


def test_names_of_runs_are_redacted_in_a_copy():
    (diagnosis,) = pipeline.diagnose(twins(1, 1, max_grad_norm=4.0))
    named = dataclasses.replace(
        diagnosis, clipping=tuple(dataclasses.replace(c, run="alice") for c in diagnosis.clipping)
    )
    copy = report_folder._redacted(named, ("alice",))
    assert {share.run for share in copy.clipping} == {"<redacted>"}
    assert {share.run for share in named.clipping} == {"alice"}
    assert copy.group is not named.group
