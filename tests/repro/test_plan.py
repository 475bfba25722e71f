"""The matrix: which cells, which are kept."""

import json
import sys

import pytest

from ga_audit.errors import AuditError, EngineFailed, RefusedToOverwrite
from ga_audit.repro import installed
from ga_audit.repro import plan as planning


def test_effective_batch_must_divide(tmp_path):
    with pytest.raises(AuditError, match="no multiple of GA 3"):
        planning.plan_cells(tmp_path, [1, 3], [1], 16)


def _script(tmp_path, body):
    path = tmp_path / "train.py"
    path.write_text(f"import sys, pathlib\nga, micro, out = sys.argv[1:]\n{body}\n")
    words = "{gradient_accumulation_steps} {micro_batch_size} {output_dir}"
    return f"{sys.executable} {path} {words}"


def _plan(tmp_path, body, ga=(1, 2, 4)):
    cells = planning.plan_cells(tmp_path / "out", ga, [1], 16)
    return planning.Plan("script", cells, 16, script=_script(tmp_path, body))


def test_the_users_command_gets_ga_micro_batch_and_output(tmp_path):
    plan = _plan(tmp_path, "pathlib.Path(out, 'seen').write_text(ga + ' ' + micro)")
    planning.run(plan)
    assert [(c.out / "seen").read_text() for c in plan.cells] == ["1 16", "2 8", "4 4"]


def test_resume_keeps_finished_cells_and_trains_the_rest(tmp_path):
    body = "f = pathlib.Path(out, 'n'); f.write_text(f.read_text() + 'x' if f.exists() else 'x')\n"
    broken = _plan(tmp_path, body + "assert ga != '4'")
    with pytest.raises(EngineFailed, match="GA 4: AssertionError"):
        planning.run(broken)
    mended = _plan(tmp_path, body)
    seen = []
    planning.run(mended, resume=True, progress=lambda at: seen.append((at.done, at.total, at.cell.ga)))
    assert seen == [(2, 3, 4)]
    assert [(c.out / "n").read_text() for c in mended.cells] == ["x", "x", "x"]  # the broken one from its start


def test_other_options_are_another_cell(tmp_path):
    plan = _plan(tmp_path, "pass")
    planning.run(plan)
    other = planning.Plan("script", plan.cells, 32, script=plan.script)
    assert all(planning.is_finished(plan, c) for c in plan.cells)
    assert not any(planning.is_finished(other, c) for c in plan.cells)


def test_an_existing_output_is_refused(tmp_path):
    plan = _plan(tmp_path, "pass")
    planning.run(plan)
    with pytest.raises(RefusedToOverwrite):
        planning.run(plan)


def test_a_broken_matrix_stops_no_other_where_it_is_asked_for(tmp_path):
    plan = _plan(tmp_path, "assert ga != '2', 'no'")
    broken = planning.run(plan, keep_going=True)
    assert [c.out for c in plan.cells if c.ga == 2] == list(broken)
    assert [planning.is_finished(plan, c) for c in plan.cells] == [True, False, True]


def test_a_finished_cell_is_of_one_stack(tmp_path, monkeypatch):
    """After an upgrade, --resume trains anew."""
    pytest.importorskip("torch")
    plan = planning.Plan("torch", planning.plan_cells(tmp_path, (1, 2), (1,), 16), 16, {"steps": 1})
    trained = []

    def show(at):
        trained.append(at.cell.ga)

    planning.run(plan, progress=show)
    planning.run(plan, resume=True, progress=show)
    assert trained == [1, 2]
    real = installed.releases
    monkeypatch.setattr(installed, "releases", lambda *key: {**real(*key), "transformers": "99.0.0"})
    planning.run(plan, resume=True, progress=show)
    assert trained == [1, 2, 1, 2]
    assert json.loads((plan.cells[0].out / "cell.json").read_text())["stack"]["transformers"] == "99.0.0"
