"""The advice of an entry: it leads into no other known bug, and into nothing that was measured to be wrong."""

import json
import re
from pathlib import Path

import pytest

from ga_audit.bugs import catalogue, remedies
from ga_audit.bugs.releases import within

BUGS = {bug.id: bug for bug in catalogue.load()}
TABLES = json.loads((Path(__file__).parents[1] / "repro" / "releases.json").read_text("utf-8"))["tables"]
MEASURED = {
    (row["release"], row["variant"]): row
    for table in TABLES if table["title"] in ("transformers: situations", "transformers: DeepSpeed 0.16.4")
    for row in table["rows"] if not row["failure"]
}  # fmt: skip
RELEASES = sorted({release for release, _ in MEASURED})
SEVEN = ("5.2.0", "5.3.0", "5.4.0", "5.5.0", "5.5.1", "5.5.2", "5.5.3")


def _targets():
    """(bug, package, releases, situation) of everything that an entry has its reader install, row by row."""
    for bug in BUGS.values():
        for row in bug.affected:
            if bug.upgrade:
                yield bug, bug.package, bug.upgrade, dict(row.when)
            for way in bug.workarounds:
                if way.leads_to and (after := way.after(row, {})) is not None:
                    yield bug, *way.leads_to, after


@pytest.mark.parametrize("target", list(_targets()), ids=lambda t: f"{t[0].id}-{t[1]}{t[2]}")
def test_no_release_that_an_entry_leads_to_has_another_bug_that_the_reader_would_meet(target):
    bug, package, releases, situation = target
    first = re.findall(r"[\d.]+", releases)[0]
    assert within(releases, first)
    for other, row in remedies.in_the_way(bug, package, releases, situation):
        # a bug that starts later in the range is left out by its releases, one that has no end is named
        assert not (row.is_window and row.holds(first)), (other.id, row)
        assert other.id in remedies.advice(bug), (other.id, row)


def test_a_fixed_release_is_not_affected():
    for bug in BUGS.values():
        if bug.fixed_in:
            assert within(bug.upgrade, bug.fixed_in) or bug.upgrade > f">={bug.fixed_in}"
            assert not any(row.holds(bug.fixed_in) for row in bug.affected), bug.id


# what a reader has after the workaround, as the variants of the repro
AFTER = {("GA004", 0): "B2-flagged", ("GA007", 0): "D-flagged", ("GA007", 1): "C", ("GA008", 0): "C", ("GA009", 0): "A"}


@pytest.mark.parametrize(("name", "way"), AFTER)
@pytest.mark.parametrize("release", RELEASES)
def test_a_workaround_is_shown_only_where_it_was_measured_to_help(name, way, release):
    bug, measured = BUGS[name], MEASURED.get((release, AFTER[name, way]))
    rows = [row for row in bug.affected if row.holds(release)]
    if measured is None or not rows:
        return
    text = bug.workarounds[way].text
    said = remedies.advice(bug, rows, {"transformers": release}, {"deepspeed": False})
    shown = re.search(rf"(?<!then )(?<![a-z]){re.escape(text)}", said, re.IGNORECASE) is not None
    assert not shown or measured["verdict"] == "healthy", said


@pytest.mark.parametrize("release", SEVEN)
def test_on_the_seven_releases_the_reader_leaves_them_first(release):
    said = {
        name: remedies.advice(
            BUGS[name], [r for r in BUGS[name].affected if r.holds(release)], {"transformers": release}
        )
        for name in ("GA004", "GA007", "GA008", "GA009", "GA029")
    }
    leave = "se transformers 4.49.0 or later, but not 5.2.0 to 5.5.3 (GA029), then"
    assert said == {
        "GA004": f"U{leave} set accepts_loss_kwargs = False on the model class.",
        "GA007": f"U{leave} set model_accepts_loss_kwargs = False in the subclass, or u{leave} divide by num_items_in_batch.",
        "GA008": f"U{leave} divide the summed loss by num_items_in_batch in the function.",
        "GA009": "Upgrade transformers to 5.15.0 or later. On several devices of one process a factor of their number "
        "stays (GA028).",
        "GA029": "Upgrade transformers to 5.5.4 or later, or use 5.1.0.",
    }


def test_under_deepspeed_the_seven_releases_are_no_obstacle():
    row = next(r for r in BUGS["GA004"].affected if r.holds("5.3.0") and r.when.get("deepspeed"))
    said = remedies.advice(BUGS["GA004"], [row], {"transformers": "5.3.0"})
    assert said == "Set accepts_loss_kwargs = False on the model class."


@pytest.mark.parametrize(("release", "said"), [
    ("5.1.0", "Set accepts_loss_kwargs = False on the model class."),
    ("5.1.0.dev0", "Set accepts_loss_kwargs = False on the model class."),
    (None, "Set accepts_loss_kwargs = False on the model class, with transformers 4.49.0 or later, but not 5.2.0 to 5.5.3 "
     "(GA029)."),
    ("main", "Use transformers 4.49.0 or later, but not 5.2.0 to 5.5.3 (GA029), then set accepts_loss_kwargs = False on the "
     "model class."),
])  # fmt: skip
def test_what_is_shown_depends_on_the_release(release, said):
    stack = {} if release is None else {"transformers": release}
    assert remedies.advice(BUGS["GA004"], (), stack) == said


def test_a_workaround_of_another_package_is_held_against_its_release():
    said = {
        release: remedies.advice(BUGS["GA017"], (), {"llamafactory": "0.9.5", "transformers": release}).partition(
            " From "
        )[0]
        for release in ("5.1.0", "5.3.0", "5.6.0")
    }
    assert said["5.1.0"] == said["5.6.0"] == "Set accepts_loss_kwargs = False on the model class."
    assert said["5.3.0"].startswith("Use transformers 4.49.0 or later, but not 5.2.0 to 5.5.3 (GA029), then set ")


def test_an_upgrade_leaves_out_the_releases_that_have_another_bug():
    assert remedies.advice(BUGS["GA001"]) == (
        "Upgrade transformers to 4.49.0 or later, but not 5.2.0 to 5.5.3 (GA029), or use 4.47.1 (not with DeepSpeed)."
    )
    # DeepSpeed does not divide there
    assert remedies.advice(BUGS["GA010"]) == "Upgrade transformers to 4.49.0 or later."
    assert remedies.advice(BUGS["GA016"]) == (
        "Upgrade axolotl to 0.7.0 or later, but not 0.15.0 to 0.16.1 (GA030), or pin transformers 4.48.1 (not with DeepSpeed)."
    )
