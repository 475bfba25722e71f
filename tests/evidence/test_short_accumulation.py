from pathlib import Path

import numpy as np
import pytest
from conftest import make_run, make_series
from evidence.single_runs import evidence, one, ratio

from ga_audit import pipeline
from ga_audit.evidence import short_accumulation
from ga_audit.finding import Reason, Verdict
from ga_audit.run import Role

LOGS = Path(__file__).parents[1] / "golden" / "short-epochs"


def run(release, every):
    options = pipeline.Options(ga={"*": 8})
    (found,), _ = pipeline.read_runs([str(LOGS / f"{release}-every{every}-ga8.json")], options)
    return found


@pytest.mark.parametrize("every", [1, 4])
def test_a_real_sum_dips(every):
    piece = evidence(short_accumulation, run("4.48.0", every))
    assert 0 < ratio(piece) < 1  # a right trainer may dip too
    assert piece.weak
    assert piece.facts["shape"] == "dips"


@pytest.mark.parametrize("every", [1, 4])
def test_a_real_mean_does_not_and_that_is_against_a_sum(every):
    assert ratio(evidence(short_accumulation, run("4.57.6", every))) < -2


@pytest.mark.parametrize("release", ["4.45.2", "4.46.0"])
def test_remainders_that_are_carried_over_say_nothing(release):
    assert one(short_accumulation, run(release, 1)).reason is Reason.NO_SHORT_STEP


def test_a_loss_that_falls_by_the_half_between_its_points_shows_no_dip():
    # the shape of a real log: six points, 285 to 5, one epoch end among them
    loss = np.array([284.9, 161.2, 9.9, 5.39, 5.18, 5.02])
    steps = 100 * np.arange(1, 7)
    done = np.minimum(steps, 347) * 16 + np.maximum(steps - 347, 0) * 16  # 346 full steps and one of 1 micro-batch
    epochs = make_series(Role.EPOCH, (done - 15 * (steps > 346)) / 5537, steps)
    run = make_run("steep", ga=16, loss=loss, steps=steps, series=(epochs,))
    found = one(short_accumulation, run)
    assert found.reason is Reason.TOO_NOISY


def test_a_healthy_loss_that_dips_is_divided_by_the_wrong_count():
    import numpy as np
    from conftest import make_run, make_series

    from ga_audit.run import Role

    def trained(ga):
        length, steps = 4 * ga + ga // 2 if ga > 1 else 5, 60
        past, within = np.divmod(np.arange(steps), 5)
        epoch = past + np.minimum((within + 1) * ga, length) / length
        loss = 2 + np.exp(-np.arange(steps) / 20)
        loss = np.where((within == 4) & (ga > 1), loss / 2, loss)
        known = {
            "micro_batch_size": 16 // ga,
            "world_size": 1,
            "seed": 1,
            "learning_rate": 1e-3,
            "model": "m",
            "dataset": "d",
        }
        return make_run(f"ga{ga}", ga=ga, loss=loss, series=[make_series(Role.EPOCH, epoch)], **known)

    (diagnosis,) = pipeline.diagnose([trained(1), trained(8)])
    assert diagnosis.verdict is Verdict.HEALTHY
    (note,) = [n for n in diagnosis.notes if n.code == "short-steps"]
    assert "4/8 of the right one" in note.message
