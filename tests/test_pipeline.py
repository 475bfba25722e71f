"""The whole path on runs in memory and on small files."""

import json
import os

import pytest
from conftest import make_run, twins

from ga_audit import pipeline
from ga_audit.conclusion import Action, NextStep, UndecidedReason
from ga_audit.errors import AuditError
from ga_audit.finding import Verdict
from ga_audit.output.wording._sentence import in_backticks
from ga_audit.output.wording.advice import ask
from ga_audit.output.wording.verdict import headline
from ga_audit.run import Trust


def write(path, values, **row):
    path.write_text("".join(json.dumps({"step": i + 1, "loss": v, **row}) + "\n" for i, v in enumerate(values)))
    return str(path)


def test_given_settings_win_and_the_conflict_is_kept(tmp_path):
    target = write(tmp_path / "ga4.jsonl", [3.0, 2.0])
    options = pipeline.Options(ga={"ga*": 8}, world_size={"*": 2}, stack=("transformers==4.46.1",))
    (run,), failures = pipeline.read_runs([target], options)
    assert not failures
    assert run.settings.ga == 8
    assert run.settings.gradient_accumulation_steps.trust is Trust.GIVEN
    assert run.settings.world_size.value == 2
    assert run.settings.packages["transformers"].value == "4.46.1"
    assert [name for name, _, _ in run.settings.conflicts] == ["gradient_accumulation_steps"]
    assert not [n for n in run.notes if n.code == "ga-from-name"]


def test_an_exact_name_goes_before_a_glob(tmp_path):
    targets = [write(tmp_path / f"{name}.jsonl", [3.0, 2.0]) for name in ("one", "two")]
    runs, _ = pipeline.read_runs(targets, pipeline.Options(ga={"two": 8, "*": 1}))
    assert {run.name: run.settings.ga for run in runs} == {"one": 1, "two": 8}


def test_a_malformed_stack_is_refused(tmp_path):
    target = write(tmp_path / "a.jsonl", [3.0, 2.0])
    with pytest.raises(AuditError, match="PACKAGE==RELEASE"):
        pipeline.read_runs([target], pipeline.Options(stack=("transformers",)))


@pytest.mark.parametrize("kind", [str, os.fspath, lambda p: p, lambda p: [p], lambda p: (str(p),), lambda p: iter([p])])
def test_one_target_is_a_text_or_a_path_and_a_list_still_is_several(tmp_path, monkeypatch, kind):
    write(tmp_path / "logs.jsonl", [3.0, 2.0])
    (run,), failures = pipeline.read_runs(kind(tmp_path))
    assert (run.name, failures) == ("logs", ())
    result = pipeline.audit(kind(tmp_path), ga=8)
    assert [run.settings.ga for d in result.diagnoses for run in d.runs] == [8]


def test_several_targets_and_options_last(tmp_path):
    a, b = (tmp_path / f"{name}.jsonl" for name in "ab")
    for path in (a, b):
        write(path, [3.0, 2.0])
    for call in (
        lambda: pipeline.read_runs(a, str(b), ga="2,8@2"),
        lambda: pipeline.read_runs([a, str(b)], pipeline.Options(ga={"*": pipeline.Schedule.parse("2,8@2")})),
        lambda: pipeline.read_runs(a, [b], ga={"a": "2,8@2", "b": pipeline.Schedule.parse("2,8@2")}),
    ):
        runs, _ = call()
        assert [(run.name, str(run.settings.gradient_accumulation_steps.value)) for run in runs] == [
            ("a", "2 from step 0, 8 from step 2"),
            ("b", "2 from step 0, 8 from step 2"),
        ]


@pytest.mark.parametrize("target", [b"logs", [b"logs"], 7, None, {"logs": 1}, [["logs"]]])
def test_other_kinds_of_target_are_a_type_error(target):
    with pytest.raises(TypeError, match="a target is text or a path"):
        pipeline.audit(target)


def test_options_are_given_once_and_ga_is_a_positive_whole_number(tmp_path):
    with pytest.raises(TypeError, match="options"):
        pipeline.audit(tmp_path, pipeline.Options(), options=pipeline.Options())
    with pytest.raises(TypeError, match="options"):
        pipeline.audit(tmp_path, ga=8, options=pipeline.Options())
    for ga in (0, -1, 2.5, True, "eight"):
        with pytest.raises(ValueError, match=r"positive|invalid literal"):
            pipeline.audit(tmp_path, ga=ga)


def test_corrected_runs_are_left_out_and_named():
    import dataclasses

    runs = twins(1)
    corrected = dataclasses.replace(make_run("mine", ga=8, loss=[1, 2, 3]), corrected_by="ga-audit 0.1.0")
    result = pipeline.audit_runs([*runs, corrected])
    assert [n.code for n in result.notes] == ["already-corrected"]
    assert "mine" in result.notes[0].message
    assert all(corrected not in d.runs for d in result.diagnoses)


def test_the_two_quoted_numbers_are_a_sum(tmp_path):
    a = write(tmp_path / "a.jsonl", [2.715])
    b = write(tmp_path / "b.jsonl", [10.848])
    result = pipeline.audit([a, b], pipeline.Options(ga={"a": 2, "b": 8}))
    (diagnosis,) = result.diagnoses
    assert diagnosis.verdict is Verdict.SCALED
    assert [f.hypothesis.name for f in diagnosis.findings] == ["summed-over-ga"]
    estimate = diagnosis.findings[0].estimate
    assert estimate.value == pytest.approx(1.0, abs=0.02)
    assert estimate.interval.low < 1 < estimate.interval.high


def test_the_quoted_single_line_is_not_convicted(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("{'loss': 7.9071, 'grad_norm': 6.2117, 'learning_rate': 1e-05, 'epoch': 0.1}\n")
    result = pipeline.audit([str(path)], pipeline.Options(ga={"*": 8}))
    (diagnosis,) = result.diagnoses
    assert diagnosis.verdict is Verdict.INCONCLUSIVE
    assert diagnosis.next_steps


def test_runs_without_ga_are_told_how_to_give_it():
    result = pipeline.audit_runs([make_run("a", loss=[3, 2, 1.5]), make_run("b", loss=[24, 16, 12])])
    assert all(d.verdict is Verdict.INCONCLUSIVE for d in result.diagnoses)
    assert any(step.action is Action.GIVE_GA for d in result.diagnoses for step in d.next_steps)


def test_a_run_of_unknown_ga_is_set_aside_and_changes_no_verdict():
    runs, other = twins(0), make_run("other", loss=[9.0, 5.0, 2.0])
    alone, together = pipeline.audit_runs(runs), pipeline.audit_runs([other, *runs], targets=["runs/a b"])
    assert [(d.verdict, headline(d), d.posterior) for d in together.diagnoses] == [
        (d.verdict, headline(d), d.posterior) for d in alone.diagnoses
    ]
    assert [(item.run, item.reason) for item in together.set_aside] == [(other, UndecidedReason.UNKNOWN_GA)]
    assert together.ask == NextStep(
        action=Action.GIVE_GA, argv=("ga-audit", "inspect", "runs/a b", "--ga", "other=N"), shown=1, of=1
    )
    assert (alone.set_aside, alone.ask) == ((), None)


def test_many_runs_of_unknown_ga_are_asked_for_in_one_command():
    runs = [*twins(0), *(make_run(f"x{i}", loss=[3.0, 2.0]) for i in range(10))]
    result = pipeline.audit_runs(runs, targets=["runs"])
    options = " ".join(f"--ga x{i}=N" for i in range(8))
    sentence = "Say gradient_accumulation_steps (N), of the first 8 of 10 runs"
    assert in_backticks(ask(result.ask)) == f"{sentence}: `ga-audit inspect runs {options}`"


def test_where_no_ga_is_known_the_diagnosis_asks_for_it():
    result = pipeline.audit_runs([make_run("a", loss=[3.0, 2.0]), make_run("b", loss=[3.0, 2.0])])
    assert result.set_aside == ()
    assert [d.verdict for d in result.diagnoses] == [Verdict.INCONCLUSIVE]
