import pytest
from conftest import make_run, twins

from ga_audit import clipping as clip_share
from ga_audit import pipeline


def test_share_as_logged_and_as_corrected():
    runs = twins(1, 1, max_grad_norm=4.0)
    diagnosis = next(iter(pipeline.diagnose(runs)))
    by_run = {c.run: c for c in diagnosis.clipping}
    assert by_run["ga8"].as_logged == 1
    assert by_run["ga8"].as_corrected == pytest.approx(by_run["ga1"].as_logged, abs=0.03)
    assert by_run["ga1"].as_logged == by_run["ga1"].as_corrected


def test_norms_logged_after_clipping_are_not_counted():
    run = make_run("a", ga=8, loss=[3] * 20, grad_norm=[1.0] * 20, max_grad_norm=1.0)
    assert list(clip_share.shares([run], [])) == []
