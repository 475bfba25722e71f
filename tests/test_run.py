import numpy as np
import pytest
from factories import make_run

from ga_audit.run import Role, Schedule


def test_schedule_changes_at_its_steps():
    schedule = Schedule(np.array([0, 100]), np.array([4, 8]))
    assert schedule.at(np.array([0, 99, 100, 500])).tolist() == [4, 4, 8, 8]
    assert not schedule.is_constant
    assert str(schedule) == "4 from step 0, 8 from step 100"
    assert Schedule.constant(4) == Schedule.constant(4) != schedule


def test_effective_batch_size_needs_micro_batch_and_ga():
    assert make_run(ga=4, micro_batch_size=2, world_size=2).settings.effective_batch_size == 16
    assert make_run(ga=4, micro_batch_size=2).settings.effective_batch_size == 8
    assert make_run(ga=4).settings.effective_batch_size is None


def test_frame_is_long():
    frame = make_run(ga=1, loss=[1, 2], eval_loss=[3], eval_steps=[2]).to_frame()
    assert list(frame.columns) == ["step", "role", "name", "sink", "value"]
    assert frame["value"].tolist() == [1, 2, 3]
    assert make_run().to_frame().empty


def test_best_view_is_the_longest():
    run = make_run(ga=1, loss=[1, 2, 3])
    assert len(run.get(Role.LOSS)) == 3
    assert run.get(Role.GRAD_NORM) is None


def test_schedules_are_written_as_people_say_them():
    schedule = Schedule.parse("2,8@500")
    assert schedule.at(np.array([1, 499, 500, 900])).tolist() == [2, 2, 8, 8]
    assert Schedule.parse("8") == Schedule.constant(8)


@pytest.mark.parametrize("text", ["", "0", "x", "2,8", "2,8@", "2,8@0", "2,8@500,4@400", "-1", "2,0@5"])
def test_other_words_are_no_schedule(text):
    with pytest.raises(ValueError):
        Schedule.parse(text)
