"""What was measured on real releases, the page made of it, and a part of it measured again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from ga_audit.bugs import coverage
from ga_audit.releases import bisect, tables
from ga_audit.repro import measurement
from ga_audit.repro import verdict as verdicts

HERE = Path(__file__).parent
PAGE = HERE / "RELEASES.md"
MEASURED_PLACE = Path(coverage.__file__).with_name("measured.json")


def _row(row):
    ranks = bisect.Ranks(**row["on_ranks"]) if row.get("on_ranks") else None
    return bisect.Row(**{**row, "bugs": tuple(row["bugs"]), "companions": tuple(row["companions"]), "on_ranks": ranks})


TABLES = json.loads((HERE / "releases.json").read_text("utf-8"))["tables"]
ROWS = [_row(row) for table in TABLES for row in table["rows"]]
MEASURED = [row for row in ROWS if not row.failure]


def _scale(exponent, rest=1.0, on_ranks=None):
    """At GA 1 and 4, on one rank or on one and two, as the rows were measured."""
    if exponent is None:
        return verdicts.Scale(())
    rest = 1.0 if rest is None else rest
    worlds = (1,) if on_ranks is None else (1, 2)
    ratios = tuple(rest * ga**exponent * world ** (on_ranks or 0) for world in worlds for ga in (1, 4))
    return verdicts.Scale(ratios, exponent, on_ranks, rest)


ONE_RANK = bisect.Ranks(None, None, None, in_one_process=False, average_tokens=None)


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row.package}-{row.release}-{row.variant}")
def test_measured_rows_are_whole_exponents_or_point_elsewhere_and_their_verdict(row):
    ranks = row.on_ranks or ONE_RANK
    numbers = [row.loss, row.grad_norm, row.gradient, ranks.loss, ranks.grad_norm, ranks.gradient]
    assert measurement.is_misaligned(row.cosine) or all(abs(e - round(e)) < 0.03 for e in numbers if e is not None)
    scales = (
        _scale(row.loss, on_ranks=ranks.loss), _scale(row.grad_norm, on_ranks=ranks.grad_norm),
        _scale(row.gradient, row.rest, ranks.gradient),
    )  # fmt: skip
    assert row.verdict == verdicts.verdict(*scales, row.cosine)


def test_a_factor_at_every_ga_is_labels_counted_too_many_or_a_known_bug():
    """Labels of 8 to 24 tokens, counted before the shift: 0.93 of the gradient, which is no verdict."""
    straight = [row for row in MEASURED if row.rest is not None and not measurement.is_misaligned(row.cosine)]
    factors = [row for row in straight if abs(row.rest - 1) > 0.03]
    assert {row.variant for row in factors if not 0.92 < row.rest < 0.95} == {"grpo-reused"}
    assert all(0.12 < row.rest < 0.13 and row.bugs == ("GA025",) for row in factors if row.variant == "grpo-reused")


def test_of_one_rank_only_a_deepspeed_that_loses_micro_batches_points_elsewhere():
    astray = {
        (r.package, r.release, r.variant) for r in MEASURED if measurement.is_misaligned(r.cosine) and not r.on_ranks
    }
    lossy, stage_two = ("0.17.6", "0.18.0", "0.18.2"), ("A-deepspeed", "B-deepspeed", "D-deepspeed")
    assert astray == {("deepspeed", release, variant) for release in lossy for variant in stage_two}


def test_devices_of_one_process_lost_their_parts_from_4_51_to_4_56():
    devices = [row for row in MEASURED if row.on_ranks and row.on_ranks.in_one_process]
    astray = {(row.release, row.variant) for row in devices if measurement.is_misaligned(row.cosine)}
    lossy = {row.release for row in devices if (4, 51) <= tuple(map(int, row.release.split(".")[:2])) < (4, 57)}
    assert astray == {(release, variant) for release in lossy for variant in ("A", "B2")}
    assert all(row.bugs[:1] == ("GA026",) for row in devices if (row.release, row.variant) in astray)


def test_the_ranks_of_4_46_2_did_not_synchronise_the_last_micro_batch():
    processes = [row for row in MEASURED if row.on_ranks and not row.on_ranks.in_one_process]
    astray = [row for row in processes if measurement.is_misaligned(row.cosine)]
    assert {row.release for row in astray} == {"4.46.2"}
    assert {row.variant for row in astray} == {"A", "B", "B2", "bert-sequence-classification"}
    assert all(row.bugs == ("GA027",) for row in astray)


def test_a_row_without_numbers_says_why():
    assert all(row.failure for row in ROWS if row.gradient is None)
    # only a loss that is near zero has no ratio, and says so
    assert all("near zero" in (row.note or "") for row in MEASURED if row.loss is None)


def test_the_releases_of_the_issue_are_there_with_every_variant():
    wanted = {"4.45.2", "4.46.0", "4.46.1", "4.46.2", "4.46.3", "4.47.0", "4.47.1", "4.48.0", "4.49.0", "4.51.3", "4.57.6",
              "5.0.0", "5.24.0"}  # fmt: skip
    for variant in ("A", "B", "B2", "B3", "C", "C2", "D", "E", "bert-sequence-classification", "t5-seq2seq"):
        since = wanted - {"4.45.2"} if variant.startswith("C") else wanted  # 4.45.2 has no compute_loss_func
        assert since <= {row.release for row in MEASURED if row.package == "transformers" and row.variant == variant}


def test_the_known_bug_of_a_row_is_what_the_catalogue_says_today():
    assert [row.bugs for row in MEASURED] == [bisect.known_bugs(row) for row in MEASURED]


def test_the_page_is_made_of_the_measured_rows(update_golden):
    parts = PAGE.read_text("utf-8").partition("\n## ")[0].rstrip() + "\n"
    for table in TABLES:
        rows = [_row(row) for row in table["rows"]]
        changes = "\n".join(f"- {line}" for line in tables.changes(rows))
        parts += f"\n## {table['title']}\n\n```bash\n{table['command']}\n```\n\n{tables.grid(rows)}\n"
        parts += f"\nWhere the verdict changes:\n\n{changes}\n" if changes else ""
    if update_golden:
        PAGE.write_text(parts, "utf-8")
    assert PAGE.read_text("utf-8") == parts


def test_what_the_catalogue_takes_for_measured_is_what_was_measured(update_golden):
    """`bugs` says of a release without a known bug whether anybody looked."""
    found = {}
    for table in TABLES:
        for row in map(_row, table["rows"]):
            if row.is_measured:
                held = found.setdefault(row.package, {})
                held[row.release] = max(held.get(row.release, ""), table["measured"])
    ordered = {name: dict(sorted(of.items(), key=lambda i: Version(i[0]))) for name, of in sorted(found.items())}
    if update_golden:
        MEASURED_PLACE.write_text(f"{json.dumps(ordered, indent=1)}\n", "utf-8")
        coverage.measured.cache_clear()
    assert coverage.measured() == ordered


def test_the_seven_releases_divide_once_more_in_every_situation_and_model():
    """Accelerate divides what the Trainer has divided: a level lower in grad_norm and gradient, whatever the loss."""
    alone = [row for table in TABLES[:2] for row in map(_row, table["rows"])]
    assert [table["title"] for table in TABLES[:2]] == ["transformers: situations", "transformers: stock models"]
    exponents = {
        (row.release, row.variant): tuple(round(e) for e in (row.loss, row.grad_norm, row.gradient))
        for row in alone if row.is_measured
    }  # fmt: skip
    variants = {variant for release, variant in exponents if release == "5.1.0"}
    assert len(variants) == 23
    for variant in variants:
        before = exponents["5.1.0", variant]
        assert before in ((0, 0, 0), (1, 1, 1))
        for release in ("5.2.0", "5.3.0", "5.4.0", "5.5.0", "5.5.1", "5.5.2", "5.5.3"):
            assert exponents[release, variant] == (before[0], before[1] - 1, before[2] - 1), (release, variant)
        assert exponents["5.5.4", variant] == exponents["5.6.0", variant] == before
    bugs = {row.variant: row.bugs for row in alone if row.release == "5.3.0"}
    divided = {variant for variant in variants if exponents["5.3.0", variant] == (0, -1, -1)}
    assert {bugs[variant] for variant in divided} == {("GA029",)}
    assert {bugs[v] for v in variants - divided} == {("GA004",), ("GA007",), ("GA008",), ("GA009",)}


def _needs_the_index():
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", os.devnull, "six==0.0.0"]
    said = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=120).stderr
    if "from versions: none" in said:  # an index that answers lists those that it has
        pytest.skip("the package index cannot be reached")


def _measured_again(package, release, variants, tmp_path, config):
    _needs_the_index()
    place = config.cache.mkdir("environments")  # made once for a checkout
    request = bisect.Request(package, tmp_path / "out", sys.executable, cache=place)
    for row in bisect.measure(request, release, variants):
        assert row.failure is None
        same = (package, release, row.variant, row.companions, None)
        (kept,) = (r for r in ROWS if (r.package, r.release, r.variant, r.companions, r.on_ranks) == same)
        # rows of before the weights of micro-batches were judged say healthy where the scale alone is right
        verdict = "healthy" if row.verdict == "unequally weighted" else row.verdict
        assert (verdict, row.bugs) == (kept.verdict, kept.bugs)
        for name in ("loss", "grad_norm", "gradient"):
            assert getattr(row, name) == pytest.approx(getattr(kept, name), abs=0.02)


@pytest.mark.torch
@pytest.mark.parametrize(("release", "variants"), [
    ("4.46.3", ("A", "B", "B3")), ("4.48.0", ("A", "B", "bert-sequence-classification")),
])  # fmt: skip
def test_a_part_measured_again(release, variants, tmp_path, pytestconfig):
    """Installs real releases of transformers from the package index, each in an environment of its own."""
    _measured_again("transformers", release, variants, tmp_path, pytestconfig)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("package", "release", "variants"), [
    ("transformers", "4.47.0", ("A", "B2")), ("transformers", "5.24.0", ("B2", "E", "t5-seq2seq")),
    ("trl", "0.13.0", ("sft", "dpo")), ("trl", "1.4.0", ("grpo", "grpo-reused")), ("trl", "1.9.1", ("grpo-reused",)),
    ("deepspeed", "0.18.3", ("A-deepspeed", "A-deepspeed-zero1")), ("deepspeed", "0.17.6", ("B-deepspeed",)),
    ("accelerate", "0.34.2", ("B",)), ("liger-kernel", "0.3.1", ("liger",)), ("liger-kernel", "0.8.5", ("liger",)),
    ("llamafactory", "0.9.2", ("sft", "ignoring-count")),
])  # fmt: skip
def test_more_measured_again(package, release, variants, tmp_path, pytestconfig):
    """Further packages, some of which are gigabytes or built from source."""
    _measured_again(package, release, variants, tmp_path, pytestconfig)
