"""How cells are started: their commands, one process after an import, what they leave."""

import json
import subprocess
import sys

import pytest

from ga_audit.errors import AuditError, EngineFailed, RefusedToOverwrite, WrongUsage
from ga_audit.files.manifest import foreign
from ga_audit.repro import installed
from ga_audit.repro import plan as planning
from ga_audit.repro import train as training


def test_ranks_of_the_users_command_have_a_place_in_it(tmp_path):
    (cell,) = planning.plan_cells(tmp_path, [2], [2], 16)
    script = "torchrun --nproc_per_node {world_size} t.py {gradient_accumulation_steps} {micro_batch_size} {output_dir}"
    command = training.argv(planning.Plan("script", (cell,), 16, script=script), cell)
    assert command == ["torchrun", "--nproc_per_node", "2", "t.py", "2", "4", str(cell.out.absolute())]
    without = script.replace("{world_size}", "2")
    with pytest.raises(AuditError, match="no place for the 2 ranks"):
        training.argv(planning.Plan("script", (cell,), 16, script=without), cell)


def test_more_ranks_go_through_torchrun(tmp_path):
    (cell,) = planning.plan_cells(tmp_path, [2], [2], 16)
    command = training.argv(planning.Plan("transformers", (cell,), 16, {"steps": 3}), cell)
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    with pytest.raises(AuditError, match="has no option --no-such"):
        training.argv(planning.Plan("transformers", (cell,), 16, {"no-such": 3}), cell)


@pytest.mark.parametrize(("seen", "options", "world", "visible"), [
    (None, {}, 1, "0"), ("2,3", {}, 1, "2"), ("", {}, 1, ""),
    ("GPU-aa,GPU-bb,GPU-cc", {"data-parallel": True}, 2, "GPU-aa,GPU-bb"),
    (None, {"data-parallel": True}, 2, "0,1"), ("2,3", {}, 2, "2,3"), (None, {}, 2, None),  # a rank takes its own
])  # fmt: skip
def test_a_process_sees_as_many_gpus_as_it_is_to_use(tmp_path, monkeypatch, seen, options, world, visible):
    """A Trainer takes all that it sees, and trains on a batch as many times as large."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    (cell,) = planning.plan_cells(tmp_path, [2], [world], 16)
    plan = planning.Plan("transformers", (cell,), 16, options)
    with training._environment(plan, cell) as environment:
        assert environment.get("CUDA_VISIBLE_DEVICES") == visible
        assert environment["WANDB_ERROR_REPORTING"] == "false"
    assert ("torch.distributed.run" in training.argv(plan, cell)) is (world > 1 and not options)


def test_cells_run_together_are_separate_processes(tmp_path):
    body = "import bisect; bisect.bisect_left\n"  # the standard one, not ours
    body += "assert ga != '2'; assert not hasattr(sys, 'seen'); sys.seen = 1; pathlib.Path(out, 'ok').touch()"
    script = str(tmp_path / "train.py")
    (tmp_path / "train.py").write_text(f"import sys, pathlib\nga, micro, out = sys.argv[1:]\n{body}\n")
    cells = planning.plan_cells(tmp_path / "out", (1, 2, 4), [1], 16)
    jobs = [{"argv": [script, str(c.ga), "1", str(c.out)], "console": str(tmp_path / f"{c.ga}.txt")} for c in cells]
    for c in cells:
        c.out.mkdir(parents=True)
    (tmp_path / "bad_library.py").write_text("raise OSError('of another torch')")
    lines = [{"preload": ["json", "no_such_package_anywhere", "bad_library"]}, *jobs]
    done = subprocess.run(
        [sys.executable, str(training.RUNNER)], input="\n".join(map(json.dumps, lines)), capture_output=True, text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["0", "1", "0"]


def test_a_runner_that_ends_says_its_last_words(tmp_path, monkeypatch):
    plan = planning.Plan("torch", planning.plan_cells(tmp_path / "out", (1, 2), (1,), 16), 16)
    broken = tmp_path / "broken.py"
    broken.write_text("import sys\nsys.exit('no library of that name')\n")
    monkeypatch.setattr(training, "RUNNER", broken)
    monkeypatch.setattr(installed, "check", lambda *_: None)
    with pytest.raises(EngineFailed, match="the process that runs the cells ended: no library of that name"):
        planning.run(plan)


def test_a_cell_that_is_trained_anew_reads_none_of_its_old_logs(tmp_path):
    pytest.importorskip("torch")
    cells = planning.plan_cells(tmp_path, (1, 2), (1,), 16)
    planning.run(planning.Plan("torch", cells, 16, {"steps": 2, "sink": ("json",)}))
    other = planning.Plan("torch", cells, 16, {"steps": 2, "sink": ("tensorboard",), "fault": "sum-loss-log"})
    planning.run(other, resume=True)
    assert not any((cell.out / "trainer_state.json").exists() for cell in cells)
    assert all(len(list(cell.out.glob("tensorboard/*"))) == 1 for cell in cells)


def test_what_a_users_command_left_is_moved_aside(tmp_path):
    (cell,) = planning.plan_cells(tmp_path / "out", [1], [1], 16)
    words = "{gradient_accumulation_steps} {output_dir}"
    for status in (1, 1, 0):
        code = f"import pathlib, sys; pathlib.Path(sys.argv[2], 'weights').touch(); sys.exit({status})"
        plan = planning.Plan("script", (cell,), 16, script=f'{sys.executable} -c "{code}" {words}')
        planning.run(plan, resume=True, keep_going=True)
    # beside the output: its logs are all read as one matrix
    assert sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("weights")) == [
        "out.before-1/world1-ga1", "out.before-2/world1-ga1", "out/world1-ga1",
    ]  # fmt: skip


def test_a_users_command_that_removes_its_folder_is_a_broken_cell(tmp_path):
    (cell,) = planning.plan_cells(tmp_path / "out", [1], [1], 16)
    code = "import shutil, sys; shutil.rmtree(sys.argv[2])"
    script = f'{sys.executable} -c "{code}" {{gradient_accumulation_steps}} {{output_dir}}'
    with pytest.raises(EngineFailed, match="folder is gone"):
        planning.run(planning.Plan("script", (cell,), 16, script=script))


def test_deepspeed_has_no_devices_of_one_process(tmp_path):
    (cell,) = planning.plan_cells(tmp_path, [2], [2], 16)
    with pytest.raises(WrongUsage, match="a process for each device"):
        training.argv(
            planning.Plan("transformers", (cell,), 16, {"variant": "A-deepspeed", "data-parallel": True}), cell
        )


def test_a_users_command_keeps_its_environment_and_its_wandb_runs_are_in_the_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (cell,) = planning.plan_cells(tmp_path / "out", [1], [1], 16)
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[2] + '/env', 'w'))"
    words = "{gradient_accumulation_steps} {output_dir}"
    monkeypatch.setenv("TMPDIR", "/kept")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    planning.run(planning.Plan("script", (cell,), 16, script=f'{sys.executable} -c "{code}" {words}'))
    seen = json.loads((cell.out / "env").read_text())
    assert seen["WANDB_DIR"] == str(cell.out)
    assert seen["TMPDIR"] == "/kept"
    assert not {"HF_HUB_OFFLINE", "OMP_NUM_THREADS"} & seen.keys()


@pytest.mark.torch
def test_ranks_leave_nothing_in_the_temporary_folder(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))  # what the ranks would take
    cells = planning.plan_cells(tmp_path / "out", (1,), (2,), 16)
    planning.run(planning.Plan("torch", cells, 16, {"steps": 2, "sink": ("wandb",)}))
    assert (cells[0].out / "wandb").is_dir()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("notes", [True, False])
def test_what_someone_added_to_a_cell_is_moved_aside_with_it(tmp_path, notes):
    (cell,) = cells = planning.plan_cells(tmp_path / "out", (1,), (1,), 16)
    planning.run(planning.Plan("torch", cells, 16, {"steps": 2}))
    assert foreign(cell.out) == []
    if notes:
        (cell.out / "notes.txt").write_text("mine")
    planning.run(planning.Plan("torch", cells, 16, {"steps": 3}), resume=True)
    kept = [p.read_text() for p in tmp_path.rglob("notes.txt")]
    assert kept == (["mine"] if notes else [])
    assert sorted(p.name for p in tmp_path.iterdir()) == (["out", "out.before-1"] if notes else ["out"])


def test_a_folder_of_other_files_is_no_cell(tmp_path):
    cells = planning.plan_cells(tmp_path, (1, 2), (1,), 16)
    cells[0].out.mkdir()
    (cells[0].out / "thesis.md").write_text("mine")
    with pytest.raises(RefusedToOverwrite, match="other files than a cell's"):
        planning.run(planning.Plan("torch", cells, 16, {"steps": 2}), resume=True)
    assert (cells[0].out / "thesis.md").read_text() == "mine"


@pytest.mark.parametrize(("status", "console", "otherwise", "said"), [
    (1, "x\nValueError: no", "", "GA 2: ValueError: no"),
    (1, "half done", "", "GA 2: ended with status 1; its last line: half done"),
    (7, "", "", "GA 2: ended with status 7 and printed nothing"),
    (1, "", ": MemoryError", "GA 2: ended with status 1 and printed nothing: MemoryError"),
    (-9, "", "", "GA 2: was ended by SIGKILL (often: out of memory) and printed nothing"),
    (-11, "step 3", "", "GA 2: was ended by SIGSEGV; its last line: step 3"),
    (-250, "", "", "GA 2: was ended by signal 250 and printed nothing"),
])  # fmt: skip
def test_a_broken_cell_says_why(tmp_path, status, console, otherwise, said):
    (cell,) = planning.plan_cells(tmp_path, [2], [1], 16)
    cell.out.mkdir(parents=True)
    (cell.out / training.CONSOLE).write_text(console)
    assert training.last_line(cell, status, otherwise=otherwise) == said


def test_what_breaks_before_the_output_goes_to_the_console_is_kept(tmp_path):
    """A runner that cannot redirect its output says so in the console of the cell."""
    console = tmp_path / "console.txt"
    console.touch()
    code = (
        f"import sys, os; sys.path.insert(0, {str(training.SCRIPTS)!r}); import _cells\n"
        "def broken(*_): raise OSError('no descriptors left')\n"
        f"os.dup2 = broken\nprint(_cells.one(['x.py'], {str(console)!r}, 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1"]
    assert console.read_text().splitlines()[-1] == "OSError: no descriptors left"
