import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_audit.errors import EngineFailed, WrongUsage
from ga_audit.releases import bisect, tables
from ga_audit.repro import verdict as verdicts
from ga_audit.repro.measurement import Measured, Training

RELEASES = ("4.45.2", "4.46.0", "4.46.1", "4.46.3", "4.47.0", "4.48.0", "4.49.0")


def _row(release, verdict="healthy", failure=None):
    return bisect.Row("transformers", release, "A", 0.0, 0.0, 0.0, verdict, failure)


@pytest.mark.parametrize("bad_from", range(1, len(RELEASES)))
def test_search_finds_the_first_bad_release(bad_from):
    asked = []

    def row_of(release):
        asked.append(release)
        return _row(release, "gradients" if RELEASES.index(release) >= bad_from else "healthy")

    rows = bisect.search(RELEASES, row_of)
    (change,) = tables.changes(rows)
    assert f"first bad {RELEASES[bad_from]} " in change
    assert f"{RELEASES[bad_from - 1]}: healthy" in change
    assert len(asked) == len(set(asked)) <= 5


def test_a_release_that_cannot_run_is_a_row_and_stops_nothing():
    def row_of(release):
        if release == "4.46.3":
            return _row(release, "not measured", "cannot install")
        return _row(release, "gradients" if release >= "4.47.0" else "healthy")

    rows = bisect.search(RELEASES, row_of)
    assert "first bad 4.47.0" in tables.changes(rows)[0]
    assert "cannot install" in tables.table(rows)


@given(st.lists(st.sampled_from(["healthy", "gradients", "logging only", "broken"]), min_size=7, max_size=7))
def test_a_change_is_placed_only_between_neighbours(verdicts):
    """Whatever the releases do, and whichever of them cannot run."""
    truth = dict(zip(RELEASES, verdicts, strict=True))

    def row_of(release):
        verdict = truth[release]
        return _row(release, "not measured", "no wheel") if verdict == "broken" else _row(release, verdict)

    rows = bisect.search(RELEASES, row_of)
    assert [row.release for row in rows] == [r for r in RELEASES if r in {row.release for row in rows}]
    measurable = [release for release in RELEASES if truth[release] != "broken"]
    ends = {truth[measurable[0]], truth[measurable[-1]]} if measurable else set()
    placed = 0
    for line in tables.changes(rows, RELEASES):
        words = line.split()
        if "not measured between them" in line:
            continue
        release = next(word for word in words if word in RELEASES)
        before = measurable[measurable.index(release) - 1]
        assert truth[before] != truth[release]
        assert ("first good" in line) == (truth[release] == "healthy")
        assert ("first bad" in line) == (truth[before] == "healthy")
        placed += 1
    assert placed >= (len(ends) == 2)


def test_an_end_that_cannot_run_gives_way_to_the_next_one():
    def row_of(release):
        if release in ("4.45.2", "4.49.0"):
            return _row(release, "not measured", "no wheel")
        return _row(release, "gradients" if release >= "4.47.0" else "healthy")

    rows = bisect.search(RELEASES, row_of)
    assert tables.changes(rows, RELEASES) == ("A: first bad 4.47.0 (gradients; 4.46.3: healthy)",)


def test_ends_that_are_alike_hide_what_is_between_and_it_says_so():
    rows = bisect.search(RELEASES, lambda release: _row(release, "gradients" if release == "4.47.0" else "healthy"))
    (line,) = [line for line in tables.table(rows, RELEASES).splitlines() if line.startswith("A: ")]
    assert line == (
        "A: healthy in 4.45.2 and in 4.49.0; 5 releases between them were not measured (--all measures them)"
    )  # fmt: skip


def test_what_would_break_for_every_release_is_said_before_any_is_installed(tmp_path):
    def request(**changes):
        return bisect.Request("transformers", **{"out": tmp_path, "torch_python": sys.executable, **changes})

    for changes, message in (
        ({"ga": (3,)}, "no multiple of GA 3"), ({"ga": (8,), "world_sizes": (1, 4)}, "GA 8 x world size 4"),
        ({"pins": ("transformers==4.49.0",)}, "would replace the releases"),
        ({"pins": ("trl",)}, "is not PACKAGE==RELEASE"), ({"out": Path("/dev/null/x")}, "cannot write there"),
    ):  # fmt: skip
        with pytest.raises(WrongUsage, match=message):
            bisect.check(request(**changes))
    devices = {"world_sizes": (1, 2), "data_parallel": True}
    with pytest.raises(WrongUsage, match="has no option --data-parallel"):
        bisect.check(bisect.Request("trl", tmp_path, sys.executable, **devices), ("sft",))
    with pytest.raises(WrongUsage, match="a process for each device"):
        bisect.check(request(**devices), ("A", "A-deepspeed"))
    bisect.check(request(**devices), ("A", "t5-seq2seq"))


def test_a_change_that_was_not_placed_says_between_which():
    rows = [_row("4.45.2"), _row("4.47.0", "gradients")]
    (line,) = tables.changes(rows, RELEASES)
    assert line == (
        "A: healthy in 4.45.2, gradients in 4.47.0; not measured between them: 4.46.0, 4.46.1, 4.46.3"
    )  # fmt: skip


def test_an_environment_that_cannot_be_made_is_rows_that_say_why(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise EngineFailed("cannot install it")

    monkeypatch.setattr(bisect, "prepare", broken)
    request = bisect.Request("transformers", tmp_path, sys.executable)
    rows = bisect.measure(request, "4.46.0", ("A", "B"))
    assert [(r.variant, r.failure, r.verdict) for r in rows] == [
        ("A", "cannot install it", "not measured"), ("B", "cannot install it", "not measured"),
    ]  # fmt: skip


def test_a_known_bug_fits_release_situation_and_numbers():
    def row(release, variant, *numbers):
        return bisect.known_bugs(bisect.Row("transformers", release, variant, *numbers, verdict="gradients"))

    assert row("4.47.0", "A", 1.0, 1.0, 1.0) == ("GA001",)
    assert row("4.47.0", "B", 0.0, 1.0, 1.0) == ("GA003",)
    assert row("4.47.0", "A", 0.0, 1.0, 1.0) == ()
    assert row("5.23.0", "t5-seq2seq", 1.0, 1.0, 1.0) == ("GA004",)


def _on_ranks(release, variant, numbers, exponents, *, in_one_process=False, cosine=1.0):
    ranks = bisect.Ranks(*exponents, in_one_process=in_one_process, average_tokens=True)
    return bisect.Row("transformers", release, variant, *numbers, "gradients", cosine=cosine, on_ranks=ranks)


@pytest.mark.parametrize(("row", "bugs"), [
    (_on_ranks("4.57.6", "B2", (1, 1, 1), (1, 1, 1)), ("GA004",)), (_on_ranks("4.57.6", "B2", (1, 1, 1), (-1, -1, -1)), ()),
    (_on_ranks("4.49.0", "A", (0, 0, 0), (-1, -1, -1), in_one_process=True), ("GA026",)),
    (_on_ranks("4.49.0", "A", (0, 0, 0), (-1, -1, -1)), ()),  # processes have no such bug
    (_on_ranks("4.56.2", "A", (0, 0, 0), (-1, -0.8, -0.8), in_one_process=True, cosine=0.86), ("GA026",)),
    (_on_ranks("4.56.2", "B2", (1, 1, 1), (0, 0.2, 0.2), in_one_process=True, cosine=0.86), ("GA026",)),
])  # fmt: skip
def test_a_known_bug_of_several_ranks(row, bugs):
    assert bisect.known_bugs(row) == bugs


def test_what_is_asked_of_ranks_is_planned_and_told_of_the_most_of_them(tmp_path):
    request = bisect.Request("transformers", tmp_path, sys.executable, world_sizes=(1, 2), data_parallel=True)
    plan = bisect._plan(request, "4.57.6", "A", sys.executable)
    assert plan.options["data-parallel"] is True
    assert [(cell.world_size, cell.ga) for cell in plan.cells] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    one, two = (Training(average_tokens=flag, data_parallel=kind) for flag, kind in ((None, ""), (True, "stand-in")))
    cells = [
        Measured(ga, world, 1.0, 1.0, 1.0, 1.0, None, None, training=two if world > 1 else one)
        for world in (1, 2) for ga in (1, 4)
    ]  # fmt: skip
    ranks = bisect._ranks(verdicts.judge(cells), (0.0, 0.0, 0.0))
    assert (ranks.in_one_process, ranks.average_tokens) == (True, True)


def test_what_ranks_do_stands_beside_what_ga_does():
    rows = [_on_ranks("4.57.6", name, (1, 1, 1), (1, 0.98, 0.2)) for name in ("A", "B2")]
    rows = [replace(row, note="two at once") for row in rows]
    text = tables.table(rows)
    assert "ranks 1, 1, 0.20" in text
    assert "ranks: exponents of loss, grad_norm and gradient on their number" in text
    assert "A, B2: two at once" in text
    assert "**1, 1, 1 (ranks 1, 1, 0.20)**" in tables.grid(rows)


def _under_deepspeed(package, release, variant, *numbers, cosine=1.0, companions=()):
    return bisect.Row(package, release, variant, *numbers, "gradients", companions=companions, cosine=cosine)


def test_deepspeed_is_a_situation_of_the_catalogue():
    known = bisect.known_bugs
    assert known(_under_deepspeed("transformers", "4.46.3", "A-deepspeed", 0.0, -1.0, -1.0)) == ("GA010",)
    assert known(_under_deepspeed("transformers", "4.46.3", "A", 0.0, -1.0, -1.0)) == ()
    assert known(_under_deepspeed("transformers", "4.47.0", "A-deepspeed", 1.0, 0.0, 0.0)) == ("GA001",)
    assert known(_under_deepspeed("transformers", "4.47.1", "B-deepspeed", 1.0, 0.0, 0.0)) == ("GA002",)
    assert known(_under_deepspeed("transformers", "4.49.0", "D-deepspeed", 1.0, 1.0, 1.0)) == ("GA007",)
    companions = ("transformers==4.57.6",)
    row = _under_deepspeed("deepspeed", "0.18.3", "A-deepspeed-zero1", 0.0, -2.0, -2.0, companions=companions)
    assert known(row) == ("GA011",)


def test_an_exponent_that_is_no_whole_number_is_shown_and_no_bug_of_a_power():
    lost = _under_deepspeed("transformers", "4.46.3", "A-deepspeed", 0.0, -0.77, -0.77, cosine=0.71)
    assert bisect.known_bugs(lost) == ()
    assert bisect.known_bugs(_under_deepspeed("transformers", "4.46.3", "A-deepspeed", 0.0, -0.77, -0.77)) == ()
    for variant, known in (("A-deepspeed", ("GA024",)), ("A-deepspeed-zero1", ())):
        row = _under_deepspeed("deepspeed", "0.17.6", variant, 0.0, -0.77, -0.77, cosine=0.71)
        assert bisect.known_bugs(row) == known
    assert bisect.known_bugs(_under_deepspeed("deepspeed", "0.17.6", "A-deepspeed", 0.0, -1.0, -1.0)) == ()
    assert "**0, -0.77, -0.77 (cosine 0.71)**" in tables.grid([lost])
    assert "cosine 0.71" in tables.table([lost])


@pytest.mark.parametrize(("transformers", "bugs"), [
    ("4.46.3", {"GA003", "GA022"}), ("4.48.3", set()), ("4.46.1", set()),  # there the loss is scaled too
])  # fmt: skip
def test_a_known_bug_of_two_packages_needs_both(transformers, bugs):
    row = bisect.Row(
        "liger-kernel", "0.3.1", "liger", 0.0, 1.0, 1.0, "gradients", companions=(f"transformers=={transformers}",)
    )
    assert set(bisect.known_bugs(row)) == bugs


def test_a_change_says_what_else_changed_with_it():
    def row(release, companion, verdict):
        return bisect.Row("trl", release, "dpo", 0.0, 0.0, 0.0, verdict, companions=(companion, "accelerate==1.10.1"))

    rows = [row("0.13.0", "transformers==4.48.3", "gradients"), row("0.14.0", "transformers==4.49.0", "healthy")]
    assert tables.changes(rows)[0].endswith("gradients); changed with it: transformers 4.49.0")
    rows[1] = row("0.14.0", "transformers==4.48.3", "healthy")
    assert tables.changes(rows)[0].endswith("gradients)")


def test_the_grid_marks_what_is_wrong():
    good, bad = _row("4.45.2"), bisect.Row("transformers", "4.47.0", "A", 1.0, 1.001, 0.999, "gradients")
    lines = tables.grid([good, bad, _row("4.48.0", "not measured", "no wheel")]).splitlines()
    assert lines[2:] == ["| 4.45.2 | 0, 0, 0 |", "| 4.47.0 | **1, 1, 1** |", "| 4.48.0 | not measured |",
                         "", "Not measured: 4.48.0 A: no wheel"]  # fmt: skip
