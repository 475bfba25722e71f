import dataclasses

import numpy as np
import pytest
from conftest import make_run
from evidence.single_runs import ratio

from ga_audit.evidence import ga_change
from ga_audit.finding import DIVIDED_GA, Evidence, Reason
from ga_audit.grouping import Group
from ga_audit.run import Role, Schedule, Setting, Trust


def resumed(loss_exponent, norm_exponent=None, *, old=2, new=8, n=60, seed=0, drop=0.0):
    rng = np.random.default_rng(seed)
    ga = np.where(np.arange(1, n + 1) < n // 2, old, new).astype(float)
    right = 1.5 + np.exp(-np.arange(n) / 20) + rng.normal(0, 0.03, n) - drop * (ga == new)
    norm = rng.lognormal(0, 0.2, n)
    run = make_run("r", ga=old, loss=right * ga**loss_exponent, grad_norm=norm * ga ** (norm_exponent or loss_exponent))
    schedule = Setting(Schedule(np.array([0, n // 2]), np.array([old, new])), "test", Trust.RECORDED)
    return dataclasses.replace(run, settings=dataclasses.replace(run.settings, gradient_accumulation_steps=schedule))


def pieces(run):
    return {p.role: p for p in ga_change.gather(Group((run,))) if isinstance(p, Evidence)}


def test_a_sum_jumps_where_ga_changes():
    found = pieces(resumed(1))
    assert ratio(found[Role.LOSS]) > 5
    assert ratio(found[Role.GRAD_NORM]) > 2
    assert found[Role.LOSS].facts["exponent"] == pytest.approx(1, abs=0.05)


def test_a_right_loss_goes_on():
    found = pieces(resumed(0))
    assert ratio(found[Role.LOSS]) < -5
    assert found[Role.LOSS].equivalent


def test_dividing_twice_jumps_down():
    assert ratio(pieces(resumed(-1))[Role.LOSS], DIVIDED_GA) > 5


def test_a_drop_of_the_learning_rate_is_no_power_of_ga():
    found = pieces(resumed(0, drop=0.3))[Role.LOSS]
    assert ratio(found) < -3
    assert ratio(found, DIVIDED_GA) < 0


def test_it_does_not_apply_where_ga_does_not_change():
    (item,) = ga_change.gather(Group((make_run("r", ga=8, loss=[1.0] * 9),)))
    assert item.reason is Reason.GA_CONSTANT


@pytest.mark.parametrize("exponent", [0, 1, -1])
def test_right_over_many_seeds(exponent):
    from ga_audit import pipeline
    from ga_audit.finding import Verdict

    for seed in range(20):
        (diagnosis,) = pipeline.diagnose([resumed(exponent, old=2, new=8, seed=seed)])
        assert diagnosis.verdict in (Verdict.HEALTHY if exponent == 0 else Verdict.SCALED, Verdict.INCONCLUSIVE)
        for finding in diagnosis.findings:
            assert finding.hypothesis.ga == exponent
