from factories import make_run, twins

from ga_audit import pipeline
from ga_audit.errors import UnreadableLog
from ga_audit.output import text
from ga_audit.run import ReadFailure


def shown(runs, failures=(), **options):
    return text.render(pipeline.audit_runs(runs, failures), **options)


def test_the_verdict_comes_first_and_once():
    lines = shown(twins(1)).splitlines()
    assert lines[0].startswith("SCALED  The logged loss and grad_norm are 8x too high at GA 8: summed")
    assert shown(twins(0)).startswith("HEALTHY  ")
    assert "Healthy:" not in shown(twins(0)).splitlines()[0]


def test_commands_stand_on_lines_of_their_own():
    lines = [line.strip() for line in shown(twins(1), verbose=True).splitlines()]
    assert any(line.startswith("ga-audit fix ") for line in lines)


def test_numbers_come_with_their_interval_and_their_origin():
    out = shown(twins(1, 0), verbose=True)
    assert "exponent" in out.lower()
    row = next(line for line in out.splitlines() if line.strip().startswith("loss") and "on GA" in line)
    assert "[" in row
    assert "2 runs, 80 points, by optimizer step" in row


def test_the_table_says_the_factor_of_each_run():
    row = next(line for line in shown(twins(1), verbose=True).splitlines() if line.strip().startswith("ga8"))
    assert row.split()[-2:] == ["8x", "8x"]


def test_a_hostile_name_cannot_drive_the_terminal():
    runs = twins(1)
    import dataclasses

    runs[0] = dataclasses.replace(runs[0], name="\x1b[2Jevil\x07\u202e", id="x")
    out = shown(runs)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "evil" in out


def test_failures_say_place_and_remedy():
    out = shown([], [ReadFailure("x", UnreadableLog("is broken", where="x.json:3", remedy="Mend it."))])
    assert "error: x.json:3: is broken\n  -> Mend it." in out


def test_explain_shows_levels_covariance_and_likelihoods():
    out = shown(twins(1), explain=True)
    for word in ("posterior", "level", "covariance", "log-likelihood", "tau"):
        assert word in out


def test_no_line_is_much_wider_than_asked_for():
    runs = [*twins(1), make_run("n" * 300, ga=4, loss=[1, 2, 3])]
    # a command holds the whole path, to be copied
    lines = [line for line in shown(runs, width=100).splitlines() if "n" * 100 not in line]
    assert max(map(len, lines)) <= 110
