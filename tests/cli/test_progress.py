import sys
from types import SimpleNamespace

from ga_audit.cli import _progress

CELL = SimpleNamespace(
    plan=SimpleNamespace(name="A"), cell=SimpleNamespace(ga=8, world_size=2), seconds_left=5.0, done=1, total=2
)


def test_without_a_terminal_only_trainings_are_shown(capsys):
    with _progress.reading() as read, _progress.tasks() as task, _progress.training() as train:
        assert (read, task) == (None, None)
        train(CELL)
    assert capsys.readouterr().err == "1/2 trained, about 5 s left; A GA 8 x 2 ranks\n"


def test_on_a_terminal_one_line_is_overwritten_and_erased(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with _progress.reading() as read:
        read("a/" + "x" * 80)
    with _progress.tasks() as task:
        task("judging", 1, 3)
        task("listing", 2, 0)
    with _progress.training() as train:
        train(CELL)
    assert capsys.readouterr().err.split("\r\x1b[K") == [
        "", f"reading 1: ...{'x' * 57}",
        "", f"judging [{'#' * 10}{'-' * 20}] 1/3", "listing 2",
        "", f"training [{'#' * 15}{'-' * 15}] 1/2 A GA 8 x 2 ranks, about 5 s left",
        "",
    ]  # fmt: skip
