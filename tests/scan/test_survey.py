"""Many runs: who is judged among whom, which row comes first, and the same whoever does the work."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from factories import twins
from jsonschema import validate

from ga_audit import pipeline, registry
from ga_audit.output.wording.survey import why
from ga_audit.run import Source
from ga_audit.scan.survey import RowReason, survey

SAMPLES = Path(__file__).parents[2] / "sample_logs"
drawn = registry.load("ga_audit.output", "_survey")


def scan(*targets, **fields):
    with ThreadPoolExecutor(2) as executor:
        return survey([str(t) for t in targets], executor=executor, **fields)


@pytest.fixture(scope="module")
def samples():
    return scan(SAMPLES)


def test_runs_of_several_releases_are_judged_each_among_their_kin(samples):
    """All share model and data; the truth is in the folder names."""
    for row in samples.rows:
        assert row.verdict == ("scaled" if "4.48.0" in row.run and row.ga != "1" else "healthy"), row
        assert row.loss_factor == (float(row.ga) if "4.48.0" in row.run else None), row
    assert samples.counts == {"scaled": 6, "healthy": 10}


def test_the_worst_comes_first(samples):
    scaled = [row for row in samples.rows if row.verdict == "scaled"]
    assert samples.rows[: len(scaled)] == tuple(scaled)
    factors = [row.grad_norm_factor or 0 for row in scaled]
    assert factors == sorted(factors, reverse=True)


def test_what_cannot_be_read_is_a_row_that_says_why(tmp_path, monkeypatch):
    (tmp_path / "trainer_state.json").write_text('{"log_history": [{"loss": 1.0, "step": 1}], ')
    (tmp_path / "x").mkdir()
    (tmp_path / "x/trainer_state.json").write_text('{"log_history": [{"loss": 1.0, "step": 1}]}')
    from ga_audit.scan import survey as module

    def broken(log):
        if "/x/" in log.target.path:
            raise RuntimeError("out of order")
        return read_log(log)

    read_log = module.read_log
    monkeypatch.setattr(module, "read_log", broken)
    found = scan(tmp_path, tmp_path / "missing")
    whys = " | ".join(why(row) for row in found.rows)
    assert "RuntimeError: out of order" in whys
    assert "no such file or directory" in whys
    assert all(row.verdict in {"not read", "inconclusive"} for row in found.rows)


def test_a_finding_that_is_not_about_a_run_does_not_convict_it(monkeypatch):
    """A run of a right release, alone of its kind, beside runs of one that sums: nothing was found about it."""
    bad = twins(1.0, packages={"transformers": "4.48.0"})
    lonely = replace(twins(0.0, gas=(4,), packages={"transformers": "4.57.6"})[0], id="lonely", name="lonely")
    runs = [replace(r, sources=(Source("memory", f"{r.name}/{r.name}"),)) for r in [*bad, lonely]]
    from ga_audit.scan import survey as module

    monkeypatch.setattr(module, "_read", lambda *args: (runs, []))
    rows = {row.run: row for row in scan().rows}
    assert rows["ga8"].verdict == "scaled"
    assert rows["lonely"].verdict == "inconclusive"
    assert rows["lonely"].reason is RowReason.NOT_ABOUT_RUN
    assert rows["lonely"].loss_factor is None


def test_a_group_with_a_run_of_other_code_is_not_convicted_as_one(monkeypatch):
    """Changed code under one release: three runs are summed, a fourth is right."""
    right = replace(twins(0.0, gas=(4,))[0], id="right", name="right")
    runs = [replace(r, sources=(Source("memory", f"x/{r.name}"),)) for r in [*twins(1.0, gas=(1, 2, 8)), right]]
    from ga_audit.scan import survey as module

    monkeypatch.setattr(module, "_read", lambda *args: (runs, []))
    rows = {row.run: row for row in scan().rows}
    assert rows["right"].verdict == "inconclusive", rows["right"]
    assert "the loss of right is 0.25 times the level of the other runs" in why(rows["right"])
    assert rows["right"].loss_factor is None
    assert rows["right"].grad_norm_factor is None


def test_at_ga_1_a_sum_changes_nothing():
    rows = {row.run: row for row in scan(SAMPLES / "transformers-4.48.0").rows}
    assert (rows["ga1"].verdict, rows["ga1"].loss_factor) == ("healthy", 1)
    assert rows["ga1"].reason is RowReason.UNCHANGED


def test_options_and_an_empty_folder(tmp_path):
    found = scan(SAMPLES / "transformers-4.48.0", options=pipeline.Options(ga={"*": 4}))
    assert {row.ga for row in found.rows} == {"4"}
    found = scan(tmp_path)
    assert [row.verdict for row in found.rows] == ["not read"]


def test_every_form_holds_every_run(samples):
    text = drawn.text(samples, every=True)
    assert text.startswith("16 runs in 6 groups: 6 scaled, 10 healthy")
    assert all(row.run in text for row in samples.rows)
    content = json.loads(drawn.json_text(samples))
    validate(content, {"required": ["schema", "version", "counts", "rows", "groups", "notes"]})
    assert [row["run"] for row in content["rows"]] == [row.run for row in samples.rows]
    assert {group["group"] for group in content["groups"]} == {row["group"] for row in content["rows"]}
    lines = list(csv.DictReader(io.StringIO(drawn.csv_text(samples))))
    assert [line["run"] for line in lines] == [row.run for row in samples.rows]
    page = drawn.html(samples)
    assert page.count("<tr>") == 2 + 16 + 6
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_offenders_come_first_and_healthy_runs_are_counted(samples):
    *_, table, rest = drawn.text(samples).split("\n\n")
    header, *lines = table.splitlines()
    assert header.split() == ["verdict", "run", "GA", "loss", "is", "norm", "is", "loss", "/", "eval", "loss", "group"]
    assert [line.split() for line in lines[2:4]] == [
        ["scaled", "transformers-4.48.0/ga8", "8", "8x", "8x", "8.06x", "3"],
        ["scaled", "wandb-4.48.0/ga8/ga8", "8", "8x", "8x", "8.06x", "5"],
    ]
    assert len(lines) == 6
    assert rest == "10 healthy runs not listed: -v, or --format csv"


def test_a_group_has_one_sentence(samples):
    said = "The logged loss and grad_norm are 8x too high at GA 8: summed over"
    assert drawn.text(samples, every=True).count(said) == 4


def test_names_from_logs_are_harmless_in_every_form(tmp_path):
    evil = "<script>alert(1)</script>"
    for name in (evil.replace("/", "_"), "=cmd()", "\x1b[31mred"):
        (tmp_path / f"{name}.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.9}\n')
    found = scan(tmp_path)
    assert "<script>" not in drawn.html(found)
    assert "\x1b" not in drawn.text(found)
    assert "\x1b" not in drawn.csv_text(found)
    assert "\n=" not in drawn.csv_text(found).replace(",=", "\n=")


def test_long_tables_are_cut_and_say_so():
    base = scan(SAMPLES / "transformers-4.48.0")
    many = replace(base, rows=tuple(replace(base.rows[0], run=f"run {i}") for i in range(100)))
    text = drawn.text(many)
    assert "... and 60 more runs" in text
    assert len(drawn.text(many, every=True).splitlines()) > 100
    assert max(len(line) for line in text.splitlines()) <= 101


def test_a_run_of_unknown_ga_is_a_row_of_no_group():
    folder = Path(__file__).parents[1] / "golden" / "cases" / "unknown-ga-beside"
    found = scan(folder)
    assert [(r.run, r.verdict, r.group) for r in found.rows] == [
        ("ga8", "scaled", 1), ("ga4", "scaled", 1), ("ga2", "scaled", 1), ("other", "inconclusive", None),
        ("ga1", "healthy", 1),
    ]  # fmt: skip
    remedy = f"Specify gradient_accumulation_steps (N): `ga-audit inspect {folder} --ga other=N`"
    content = json.loads(drawn.json_text(found))
    assert content["set_aside"] == [{"run": "other", "why": "gradient_accumulation_steps is unknown"}]
    assert content["set_aside_remedy"] == remedy
    asked = f"ga-audit inspect {folder} --ga other=N"
    assert drawn.text(found).endswith(f"1 run set aside. Specify gradient_accumulation_steps (N):\n  {asked}")
    assert "--ga other=N</code>" in drawn.html(found, redacted=False)
