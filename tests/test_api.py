"""`import ga_audit`: what works at a prompt, in a notebook and in a typed program."""

import doctest
import importlib
import inspect
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import make_run, twins

import ga_audit
from ga_audit import Options, Role, Run, RunSettings, Verdict, WrongUsage, finding
from ga_audit.output import json_v1
from ga_audit.plots import KINDS

ROOT = Path(__file__).parent.parent
CURVE = 2 + np.exp(-np.arange(60) / 20)
DOCUMENTED = ("ga_audit", "ga_audit.api", "ga_audit._ratio", "ga_audit.run")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.failed == 0
    assert done.attempted > 0


def test_examples_in_the_documentation():
    done = doctest.testfile(str(ROOT / "docs" / "api.md"), module_relative=False)
    assert done.failed == 0
    assert done.attempted > 10


def test_a_typed_program_passes_mypy_strict_and_runs():
    program = ROOT / "tests" / "consumer" / "use.py"
    strict = ["--strict", "--config-file=", "--follow-imports=silent", "--python-version=3.11"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *strict, str(program)], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.stdout == "Success: no issues found in 1 source file\n", checked.stdout + checked.stderr
    done = subprocess.run(
        [sys.executable, str(program)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("ga=(2, 2): two different values are needed\n2 3 16 1.4\n", "")


def test_public_names_are_listed_documented_and_say_where_they_come_from():
    assert dir(ga_audit) == sorted(ga_audit.__all__)
    for name in set(ga_audit.__all__) - {"__version__"}:
        try:
            assert inspect.getdoc(getattr(ga_audit, name)), name
        except ImportError as error:  # a guard of a library that is not installed says which
            assert name in ga_audit._WHERE_WITH
            assert f"ga_audit.{name} needs" in str(error)
    with pytest.raises(AttributeError, match="module 'ga_audit' has no attribute 'audits'"):
        _ = ga_audit.audits


def test_importing_the_package_imports_nothing_else():
    code = "import sys, ga_audit; print(sorted(m for m in sys.modules if m.startswith(('ga_audit', 'numpy'))))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "['ga_audit', 'ga_audit._version']\n"


def test_every_result_type_is_public():
    """What is reachable from an audit by its annotations has a public name."""
    types = {
        value
        for value in vars(finding).values()
        if isinstance(value, type) and value.__module__ == finding.__name__ and not value.__name__.startswith("_")
    }
    assert {kind.__name__ for kind in types} <= set(ga_audit.__all__)


# --- runs from memory ---------------------------------------------------------


def points(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    return {s.role.value: (s.position.tolist(), s.value.tolist()) for s in run.series}


def test_a_frame_of_any_index_gives_each_column_its_own_rows():
    table = pd.DataFrame(
        {"global_step": [20, 10, 20, 30], "loss": [2.0, 3.0, None, 1.0], "grad_norm": [None, 0.5, 0.4, 0.3]},
        index=list("dcba"),
    )
    run = Run.from_frame(table, ga="2,8@20", name="mine", world_size=2, packages={"trl": "1.0"})
    assert points(run) == {"loss": ([10, 20, 30], [3.0, 2.0, 1.0]), "grad_norm": ([10, 20, 30], [0.5, 0.4, 0.3])}
    assert {s.counted for s in run.series} == {ga_audit.Counted.OPTIMIZER_STEP}
    assert str(run.settings.gradient_accumulation_steps.value) == "2 from step 0, 8 from step 20"
    assert (run.settings.world_size.value, run.settings.world_size.trust) == (2, ga_audit.Trust.GIVEN)
    assert run.settings.packages["trl"].value == "1.0"


def test_rows_without_a_step_column_are_numbered_together_and_marked_so():
    run = Run.from_frame(pd.DataFrame({"loss": [None, 3.0, 2.0], "grad_norm": [1.0, None, 0.5]}), ga=1)
    assert points(run) == {"loss": ([2, 3], [3.0, 2.0]), "grad_norm": ([1, 3], [1.0, 0.5])}
    assert {s.counted for s in run.series} == {ga_audit.Counted.ORDER}


def test_arrays_keep_nan_and_eval_losses_have_steps_of_their_own():
    run = Run.from_arrays(loss=[3, np.nan, 1], eval_loss=[2.5], step=[5, 10, 15], eval_step=[15], ga=1)
    assert points(run)["eval_loss"] == ([15], [2.5])
    assert run.get(Role.LOSS).position.tolist() == [5, 10, 15]
    assert np.isnan(run.get(Role.LOSS).value[1])


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Run.from_frame(frame(a=[1])), "no column of the table is loss, grad_norm, eval_loss"),
        (lambda: Run.from_frame(frame(loss=[1]), loss="train/loss"), "the table has no column 'train/loss'"),
        (lambda: Run.from_frame(frame(loss=["a"])), "column 'loss' holds something that is not a number"),
        (lambda: Run.from_frame(frame(loss=[1, 2], step=[3, 3])), "column 'loss' has two values for step 3"),
        (lambda: Run.from_frame(frame(loss=[1], step=[1.5])), "column 'step' holds a step that is not a whole number"),
        (lambda: Run.from_arrays(), "there are no values"),
        (lambda: Run.from_arrays(loss=[1, 2], step=[2, 1]), "the steps do not ascend"),
        (lambda: Run.from_arrays(loss=[1, 2], step=[1]), "loss and step differ in length: 2 and 1"),
        (lambda: Run.from_arrays(loss=[[1, 2]]), "loss has 2 dimensions, not one"),
        (lambda: Run.from_arrays(loss=[1], ga=0), "ga=0 is not a GA: values are positive and steps ascend"),
        (lambda: Run.from_arrays(loss=[1], world_size=0), "world_size is a positive whole number, not 0"),
        (lambda: ga_audit.ratio(1, 2, ga=(2, 2)), "ga=(2, 2): two different values are needed"),
        (lambda: ga_audit.ratio([], [], ga=(2, 8)), "the first curve is empty"),
        (lambda: ga_audit.ratio(1, 2, ga=(2, 8), role="accuracy"), "there is no ratio of 'accuracy'"),
    ],
)
def test_wrong_input_is_named(make, message):
    with pytest.raises(WrongUsage) as error:
        make()
    assert error.value.message == message


def test_plain_values_in_settings_are_refused_with_the_way_to_give_them():
    with pytest.raises(TypeError, match=r"RunSettings\.given\(gradient_accumulation_steps=1\) makes one"):
        RunSettings(gradient_accumulation_steps=1)
    with pytest.raises(TypeError, match=r"a pandas\.DataFrame is needed, not list"):
        Run.from_frame([1, 2])


# --- audits -------------------------------------------------------------------


def test_runs_and_logs_are_audited_together_with_one_set_of_options(tmp_path):
    log = tmp_path / "ga8.jsonl"
    log.write_text("".join(json.dumps({"step": i + 1, "loss": x}) + "\n" for i, x in enumerate(4 * CURVE)))
    memory = Run.from_arrays(loss=CURVE, step=np.arange(1, 61), name="ga2")
    for targets in ((memory, log), ([memory], str(log)), (iter([memory, log]),)):
        audit = ga_audit.audit(*targets, ga={"ga2": 2, "ga8": 8})
        assert repr(audit) == (
            "<Audit: 1 group, 0 set aside, 0 not read\n  scaled: 'ga2', 'ga8' (loss-summed-over-ga)>"
        )
    assert repr(ga_audit.audit(memory, log, Options(ga={"*": 1}))).splitlines()[1] == "  inconclusive: 'ga2', 'ga8'>"


def test_micro_batch_size_is_given_as_the_other_options(tmp_path):
    runs = [make_run("a", ga=2, loss=CURVE, micro_batch_size=1), make_run("b", ga=8, loss=CURVE)]
    (diagnosis,) = ga_audit.audit(runs, micro_batch_size={"a": 4, "b": 1}).diagnoses
    assert [run.settings.effective_batch_size for run in diagnosis.runs] == [8, 8]
    assert [(name, given.value, read.value) for name, given, read in diagnosis.runs[0].settings.conflicts] == [
        ("micro_batch_size", 4, 1)
    ]
    with pytest.raises(WrongUsage, match=r"micro_batch_size c=\.\.\.: no run has this name"):
        ga_audit.audit(runs, micro_batch_size={"c": 4})
    with pytest.raises(ValueError, match="micro_batch_size is a positive whole number, not 0"):
        ga_audit.audit(runs, micro_batch_size=0)


def test_two_runs_of_one_name_are_refused():
    with pytest.raises(WrongUsage) as error:
        ga_audit.audit(Run.from_arrays(loss=[1, 2]), Run.from_arrays(loss=[1, 2]))
    assert error.value.message == "two runs are named 'run'"


def test_results_are_the_public_types_and_survive_a_process_pool():
    audit = pickle.loads(pickle.dumps(ga_audit.audit(twins(1))))
    assert type(audit) is ga_audit.Audit
    assert [type(d) for d in audit.diagnoses] == [ga_audit.Diagnosis]
    assert [type(d) for d in ga_audit.diagnose(twins(1))] == [ga_audit.Diagnosis]


def test_frame_has_a_row_per_run_and_no_factor_where_none_is_claimed():
    unknown = make_run("unknown", loss=[3.0, 2.0])
    table = ga_audit.audit([*twins(1.0, 0.0), unknown]).to_frame()
    assert table.drop(columns=["impact"]).astype(object).where(table.notna(), None).to_dict("records") == [
        {"group": 0, "run": f"ga{ga}", "verdict": "scaled", "gradient_accumulation_steps": ga,
         "micro_batch_size": 16 // ga, "world_size": 1, "loss_factor": pytest.approx(ga), "grad_norm_factor": None,
         "findings": "loss-summed-over-ga"} for ga in (1, 8)
    ] + [
        {"group": None, "run": "unknown", "verdict": None, "gradient_accumulation_steps": None,
         "micro_batch_size": None, "world_size": None, "loss_factor": None, "grad_norm_factor": None, "findings": ""},
    ]  # fmt: skip
    assert ga_audit.audit([unknown]).to_frame().shape == (1, 10)


def test_json_is_that_of_the_command_line():
    audit = ga_audit.audit(twins(1))
    assert audit.to_json(explain=True) == json_v1.render(audit, explain=True)
    assert "detail" not in json.loads(audit.to_json())["diagnoses"][0]["evidence"][0]


def test_html_escapes_what_comes_from_logs():
    hostile = make_run("<script>\x1b[31m", loss=[3.0, 2.0])
    html = ga_audit.audit([*twins(1), hostile])._repr_html_()
    assert html.count("<strong>SCALED</strong>") == 1
    assert "<li>&lt;script&gt;\\x1b[31m: gradient_accumulation_steps is unknown</li>" in html
    assert "<script>" not in html


def test_reprs_are_short_and_print_no_control_characters():
    runs = [make_run(f"\x1b[31m{i}", ga=i, loss=CURVE * i, model=f"m{i % 13}") for i in range(1, 40)]
    audit = ga_audit.audit(runs)
    values = [audit, *audit.diagnoses, *runs, *(s for r in runs for s in r.series)]
    values += [e for d in audit.diagnoses for e in (*d.evidence, *d.findings)]
    assert max(len(repr(value)) for value in values) < 1000
    assert max(repr(value).count("\n") for value in values) < 12
    assert all(c.isprintable() or c == "\n" for value in values for c in repr(value))
    assert repr(make_run("a", ga=2, loss=[3.0, 2.0]).series[0]) == (
        "<Series loss 'loss': 2 points, optimizer step 1 to 2, 3 to 2 (memory)>"
    )


def test_plot_takes_an_audit_or_a_diagnosis_and_asks_which_group():
    audit = ga_audit.audit(twins(1))
    for kind in KINDS:
        assert len(ga_audit.plot(audit, kind).axes) == len(audit.diagnoses[0].plot(kind).axes)
    two = ga_audit.audit([make_run("a", ga=1, loss=CURVE, model="a"), make_run("b", ga=8, loss=CURVE, model="b")])
    with pytest.raises(WrongUsage, match="the audit has 2 groups"):
        ga_audit.plot(two)
    assert ga_audit.plot(two, group=1).axes
    with pytest.raises(WrongUsage, match="there is no group 2"):
        two.plot(group=2)
    with pytest.raises(TypeError, match="an Audit or a Diagnosis is needed, not str"):
        ga_audit.plot("curves")


# --- ratio --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power", "verdict", "hypothesis"),
    [(0, "healthy", "healthy"), (1, "scaled", "summed-over-ga"), (-1, "scaled", "divided-by-ga")],
)
def test_ratio_of_two_curves(power, verdict, hypothesis):
    batches, own = np.random.default_rng(0).normal(0, 1, (2, 60))
    curve = CURVE + 0.05 * batches
    result = ga_audit.ratio(curve, (curve + 1e-3 * own) * 4.0**power, ga=(2, 8), micro_batch_size=(4, 1))
    assert (result.verdict.value, result.hypothesis) == (verdict, hypothesis)
    assert result.factor == pytest.approx(4.0**power, rel=0.01)
    assert result.interval.low < power < result.interval.high


def test_two_equal_numbers_are_no_all_clear():
    result = ga_audit.ratio(2.5, 2.5, ga=(2, 8))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert repr(result).splitlines()[1].startswith("  inconclusive; most probable: healthy")


def test_values_without_a_ratio_give_none():
    result = ga_audit.ratio(-CURVE, -CURVE, ga=(2, 8))
    assert repr(result) == "<Ratio of loss, GA 2 to 8: none; inconclusive>"
    assert np.isnan([result.factor, result.exponent, result.interval.low, result.interval.high]).all()
