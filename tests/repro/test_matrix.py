import json
import math
import sys
from array import array

import pytest

from ga_audit.errors import AuditError, EngineFailed, RefusedToOverwrite
from ga_audit.repro import engine, judge, launch, matrix, tables
from ga_audit.run import Note


def _truth(path, ga, loss=0, norm=0, gradient=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = [
        {"step": s, "reference_loss": 4.0, "reference_norm": 0.5, "ratio": ga**gradient, "cosine": 1.0} for s in (1, 2)
    ]
    logged = [{"step": s, "loss": 4.0 * ga**loss, "grad_norm": 0.5 * ga**norm} for s in (1, 2)]
    kept = {"parameter_count": 2, "parameters_moved": 10.0, "held_out_loss": 2.0 + ga, "max_grad_norm": 0.75}
    path.write_text(json.dumps({"ga": ga, "measured": measured, "logged": logged, **kept}))
    array("f", [3.0, 4.0 + ga]).tofile(path.with_name("parameters.f32").open("wb"))
    return judge.read_truth(path)


@pytest.mark.parametrize(
    ("exponents", "verdict"),
    [((0, 0, 0), "healthy"), ((1, 1, 1), "gradients"), ((0, 1, 1), "gradients"), ((0, -1, -1), "gradients"),
     ((1, 0, 0), "logging only"), ((0, -2, -2), "gradients"), ((-1, 0, 0), "logging only")],
)  # fmt: skip
def test_the_measured_exponents_are_those_of_the_fault(tmp_path, exponents, verdict):
    cells = [_truth(tmp_path / str(ga) / "truth.json", ga, *exponents) for ga in (8, 1, 2, 4)]
    found = judge.judge(cells)
    assert (found.loss, found.grad_norm, found.gradient) == pytest.approx(exponents, abs=1e-9)
    assert found.verdict == verdict
    assert found.parameters_differ == pytest.approx(0.7)  # 4 + 8 against 4 + 1, over a way of 10
    assert found.held_out_loss_differs == pytest.approx(7)
    assert f"verdict: {verdict}" in tables.table(found)
    logs = {"one": (Note("measurement-disagrees", "they contradict"), Note("measurement-agrees", "they agree"))}
    summary = tables.summary({"one": found, "broken": "not measured: no such model"}, logs)
    assert verdict in summary
    assert "  contradict" in summary
    assert "one: they contradict" in summary
    assert found.cells[-1].clipped == (1 if exponents[1] > 0 else 0)


def _at(ga, world, ratio):
    return judge.Measured(ga, world, ratio, ratio, ratio, 1.0, None, None)


@pytest.mark.parametrize(("on_ga", "on_world"), [(0, 0), (1, 0), (0, 1), (1, 1), (0, -1)])
def test_ga_and_world_size_are_told_apart(on_ga, on_world):
    cells = [_at(ga, world, 0.9 * ga**on_ga * world**on_world) for ga in (1, 4) for world in (1, 2)]
    found = judge.judge(cells)
    assert (found.on_loss.ga, found.on_loss.world) == pytest.approx((on_ga, on_world), abs=1e-9)
    assert found.verdict == ("gradients" if on_ga or on_world else "healthy")


def _lost(ga, ratio, cosine):
    return judge.Measured(ga, 1, 1.0, ratio, ratio, cosine, None, None)


@pytest.mark.parametrize("ratio", [1.0, 0.34])
def test_a_gradient_that_points_elsewhere_is_no_healthy_training(ratio):
    """Lost micro-batches may leave the norm as it was; the direction tells."""
    found = judge.judge([_lost(1, 1.0, 1.0), _lost(4, ratio, 0.71)])
    assert found.verdict == "gradients"
    assert "GA 4: the real gradient points elsewhere" in tables.table(found)
    assert "cosine 0.710" in tables.table(found)
    assert any("points elsewhere" in line for line in tables.sentences(found))


def test_weighting_bias_is_not_called_a_lost_micro_batch():
    found = judge.judge([_lost(1, 1.0, 1.0), _lost(8, 1.02, 0.975)])
    assert found.verdict == "healthy"
    assert "elsewhere" not in tables.table(found) + "".join(tables.sentences(found))


def test_ga_and_ranks_that_change_together_are_not_told_apart():
    found = judge.judge([_at(1, 1, 1.0), _at(2, 2, 2.0)])
    assert (found.on_loss.ga, found.on_loss.world, found.on_loss.rest) == (None, None, None)
    assert found.verdict == "gradients"  # whose cause is open, not that it is twice too large


@pytest.mark.parametrize(("cells", "verdict", "said"), [
    ([_at(8, 1, 8.0)], "gradients", "at GA 8 alone: loss x8.000"),
    ([_at(8, 1, 8.0)], "gradients", "if GA is the cause, its exponents are loss 1.000, grad_norm 1.000"),
    ([_at(8, 1, 1.0)], "healthy", None), ([_at(1, 1, 1.0)], "not measured", "nothing was accumulated"),
    ([_at(1, 2, 2.0), _at(4, 2, 2.0)], "gradients", "a factor that GA does not explain; --world-size 1,2 tells"),
    ([_at(1, 2, 2.0)], "gradients", "at GA 1: loss x2.000"), ([_at(4, 2, 8.0)], "gradients", "--ga 1,4 tells; --world-size 1,2"),
    # labels counted before the shift: said, and no verdict
    ([_at(1, 1, 0.934), _at(4, 1, 0.934)], "healthy", "besides, at every GA: loss x0.934"),
    ([_at(1, 1, 0.5), _at(4, 1, 2.0)], "gradients", "besides, at every GA: loss x0.500"),
    ([_at(1, 1, 1.0), _at(4, 1, 4.0)], "gradients", None), ([_at(1, 1, 1.004), _at(4, 1, 0.99)], "healthy", None),
])  # fmt: skip
def test_a_factor_that_no_power_of_ga_explains_is_said_and_judged(cells, verdict, said):
    found = judge.judge(cells)
    assert found.verdict == verdict
    text = tables.table(found)
    assert said in text if said else "at every GA" not in text and "alone" not in text
    assert bool(tables.common_factor(found)) == (said is not None)
    assert said is None or any(said[1:] in line for line in tables.sentences(found))


def test_only_the_log_at_one_ga():
    cell = judge.Measured(4, 1, 4.0, 1.0, 1.0, 1.0, None, None)
    assert judge.judge([cell]).verdict == "logging only"


def test_a_cell_that_left_no_measurement_keeps_the_matrix_from_being_healthy():
    empty = judge.Measured(1, 1, None, None, None, None, None, None)
    assert judge.judge([empty, _at(4, 1, 1.0)]).verdict == "not measured"
    assert judge.judge([empty, _at(4, 1, 4.0)]).verdict == "gradients"


def test_a_loss_without_a_ratio_leaves_the_gradients_judged():
    cells = [judge.Measured(ga, 1, None, 1.0, 1.0, 1.0, None, None) for ga in (1, 4)]
    assert judge.judge(cells).verdict == "healthy"
    nothing_logged = [judge.Measured(ga, 1, None, None, 1.0, 1.0, None, None) for ga in (1, 4)]
    assert judge.judge(nothing_logged).verdict == "not measured"


def test_a_step_that_is_off_is_no_healthy_training(tmp_path):
    path = tmp_path / "truth.json"
    _truth(path, 4)
    truth = json.loads(path.read_text())
    steps = [{**truth["measured"][0], "step": s, "ratio": 0.5 if s == 5 else 1.0} for s in range(1, 6)]
    path.write_text(json.dumps({**truth, "measured": steps}))
    cells = [_truth(tmp_path / "1" / "truth.json", 1), judge.read_truth(path)]
    found = judge.judge(cells)
    assert found.verdict == "gradients at some steps"
    assert "step 5 x0.500" in tables.table(found)


def test_parameters_of_another_length_are_not_compared(tmp_path):
    cells = [_truth(tmp_path / str(ga) / "truth.json", ga) for ga in (1, 2)]
    (tmp_path / "2" / "parameters.f32").write_bytes(b"\0" * 5)
    cells[1] = judge.read_truth(tmp_path / "2" / "truth.json")
    assert judge.judge(cells).parameters_differ is None


def test_a_gradient_that_was_not_measured_is_no_verdict():
    cells = [judge.Measured(ga, 1, float(ga), float(ga), None, None, None, None) for ga in (1, 4)]
    assert judge.judge(cells).verdict == "not measured"


def test_a_nan_step_does_not_decide(tmp_path):
    path = tmp_path / "truth.json"
    _truth(path, 4)
    truth = json.loads(path.read_text())
    truth["measured"][0]["ratio"] = math.nan
    path.write_text(json.dumps(truth))
    assert judge.read_truth(path).gradient == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ga": 1, "logged": 3, "measured": []}', "\x00"])
def test_damaged_truth_is_a_message(tmp_path, text):
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(EngineFailed, match="no measurement"):
        judge.read_truth(tmp_path / "truth.json")


def test_effective_batch_must_divide(tmp_path):
    with pytest.raises(AuditError, match="no multiple of GA 3"):
        matrix.plan_cells(tmp_path, [1, 3], [1], 16)


def _script(tmp_path, body):
    path = tmp_path / "train.py"
    path.write_text(f"import sys, pathlib\nga, micro, out = sys.argv[1:]\n{body}\n")
    words = "{gradient_accumulation_steps} {micro_batch_size} {output_dir}"
    return f"{sys.executable} {path} {words}"


def _plan(tmp_path, body, ga=(1, 2, 4)):
    cells = matrix.plan_cells(tmp_path / "out", ga, [1], 16)
    return matrix.Plan("script", cells, 16, script=_script(tmp_path, body))


def test_the_users_command_gets_ga_micro_batch_and_output(tmp_path):
    plan = _plan(tmp_path, "pathlib.Path(out, 'seen').write_text(ga + ' ' + micro)")
    matrix.run(plan)
    assert [(c.out / "seen").read_text() for c in plan.cells] == ["1 16", "2 8", "4 4"]


def test_ranks_of_the_users_command_have_a_place_in_it(tmp_path):
    (cell,) = matrix.plan_cells(tmp_path, [2], [2], 16)
    script = "torchrun --nproc_per_node {world_size} t.py {gradient_accumulation_steps} {micro_batch_size} {output_dir}"
    command = launch.argv(matrix.Plan("script", (cell,), 16, script=script), cell)
    assert command == ["torchrun", "--nproc_per_node", "2", "t.py", "2", "4", str(cell.out)]
    without = script.replace("{world_size}", "2")
    with pytest.raises(AuditError, match="no place for the 2 ranks"):
        launch.argv(matrix.Plan("script", (cell,), 16, script=without), cell)


def test_resume_keeps_finished_cells_and_trains_the_rest(tmp_path):
    body = "f = pathlib.Path(out, 'n'); f.write_text(f.read_text() + 'x' if f.exists() else 'x')\n"
    broken = _plan(tmp_path, body + "assert ga != '4'")
    with pytest.raises(EngineFailed, match="GA 4: AssertionError"):
        matrix.run(broken)
    mended = _plan(tmp_path, body)
    seen = []
    matrix.run(mended, resume=True, progress=lambda at: seen.append((at.done, at.total, at.cell.ga)))
    assert seen == [(2, 3, 4)]
    assert [(c.out / "n").read_text() for c in mended.cells] == ["x", "x", "xx"]


def test_other_options_are_another_cell(tmp_path):
    plan = _plan(tmp_path, "pass")
    matrix.run(plan)
    other = matrix.Plan("script", plan.cells, 32, script=plan.script)
    assert all(matrix.is_finished(plan, c) for c in plan.cells)
    assert not any(matrix.is_finished(other, c) for c in plan.cells)


def test_an_existing_output_is_refused(tmp_path):
    plan = _plan(tmp_path, "pass")
    matrix.run(plan)
    with pytest.raises(RefusedToOverwrite):
        matrix.run(plan)


def test_a_missing_package_names_the_install_command(monkeypatch):
    kind = engine.Engine("kind", engine.SCRIPTS / "kind.py", needs=("json", "no_such_package_anywhere"))
    monkeypatch.setattr(launch, "engines", lambda: {"kind": kind})
    with pytest.raises(EngineFailed, match="needs no_such_package_anywhere") as caught:
        launch.check_stack("kind", sys.executable)
    assert caught.value.remedy == "Install: pip install no-such-package-anywhere"
    with pytest.raises(EngineFailed, match="no engine 'trll'"):
        launch.check_stack("trll", sys.executable)


def test_more_ranks_go_through_torchrun(tmp_path):
    (cell,) = matrix.plan_cells(tmp_path, [2], [2], 16)
    command = launch.argv(matrix.Plan("transformers", (cell,), 16, {"steps": 3}), cell)
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    with pytest.raises(AuditError, match="has no option --no-such"):
        launch.argv(matrix.Plan("transformers", (cell,), 16, {"no-such": 3}), cell)


def test_cells_run_together_are_separate_processes(tmp_path):
    body = "import bisect; bisect.bisect_left\n"  # the standard one, not ours
    body += "assert ga != '2'; assert not hasattr(sys, 'seen'); sys.seen = 1; pathlib.Path(out, 'ok').touch()"
    plan = _plan(tmp_path, body)
    script = str(tmp_path / "train.py")
    cells = plan.cells
    import subprocess

    jobs = [{"argv": [script, str(c.ga), "1", str(c.out)], "console": str(tmp_path / f"{c.ga}.txt")} for c in cells]
    for c in cells:
        c.out.mkdir(parents=True)
    (tmp_path / "bad_library.py").write_text("raise OSError('of another torch')")
    lines = [{"preload": ["json", "no_such_package_anywhere", "bad_library"]}, *jobs]
    done = subprocess.run(
        [sys.executable, str(launch.RUNNER)], input="\n".join(map(json.dumps, lines)), capture_output=True, text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["0", "1", "0"]


def test_a_runner_that_ends_says_its_last_words(tmp_path, monkeypatch):
    plan = matrix.Plan("torch", matrix.plan_cells(tmp_path / "out", (1, 2), (1,), 16), 16)
    broken = tmp_path / "broken.py"
    broken.write_text("import sys\nsys.exit('no library of that name')\n")
    monkeypatch.setattr(launch, "RUNNER", broken)
    monkeypatch.setattr(launch, "check_stack", lambda *_: None)
    with pytest.raises(EngineFailed, match="the process that runs the cells ended: no library of that name"):
        matrix.run(plan)


def test_a_broken_matrix_stops_no_other_where_it_is_asked_for(tmp_path):
    plan = _plan(tmp_path, "assert ga != '2', 'no'")
    broken = matrix.run(plan, keep_going=True)
    assert [c.out for c in plan.cells if c.ga == 2] == list(broken)
    assert [matrix.is_finished(plan, c) for c in plan.cells] == [True, False, True]


def test_models_and_variants_are_chosen_by_name():
    assert launch.chosen("model", "all") == [
        (name, {"model": name}) for name in engine.engines()["transformers"].models
    ]
    with pytest.raises(AuditError, match="no model 'gpt9'"):
        launch.chosen("model", "t5-seq2seq,gpt9")
