"""Growing logs: what is read again, and what is not; writers that run, are killed, go on, cut and replace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import log_writers
import pytest

from ga_audit import pipeline
from ga_audit.errors import WrongUsage
from ga_audit.finding import Verdict
from ga_audit.run import Schedule
from ga_audit.watch import Watcher

STEPS = range(1, 41)


def lines(folder: Path, ga: int, factor: float, steps: range = STEPS) -> Path:
    log_writers.write_lines(folder, ga, factor, steps, 0)
    return folder / f"ga{ga}.jsonl"


def start(kind: str, folder: Path, ga: int, factor: float, *, first: int = 1, last: int = 41, pause: float = 0.02):
    words = [kind, folder, ga, factor, first, last, pause]
    environment = {**os.environ, "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    return subprocess.Popen(
        [sys.executable, log_writers.__file__, *map(str, words)], env=environment, cwd=folder.parent
    )


def follow(watcher: Watcher, writers: list[subprocess.Popen], seconds: float = 90) -> list:
    """The looks while the writers run, and one after their end."""
    looks, end = [], time.monotonic() + seconds
    while any(writer.poll() is None for writer in writers):
        assert time.monotonic() < end, "the writers take too long"
        looks.append(watcher.look())
        time.sleep(0.05)
    assert [writer.returncode for writer in writers] == [0] * len(writers)
    looks.append(watcher.look())
    return [look for look in looks if look is not None]


def test_only_what_has_changed_is_read(tmp_path):
    lines(tmp_path, 1, 1)
    lines(tmp_path, 8, 8, range(1, 20))
    watcher = Watcher([str(tmp_path)])
    assert watcher.look().read == 2
    assert watcher.look() is None
    lines(tmp_path, 8, 8, range(20, 41))
    look = watcher.look()
    assert (look.read, look.verdict, look.points, look.shrunk) == (1, Verdict.SCALED, 160, ())
    assert look.findings == ("grad-norm-summed-over-ga", "loss-summed-over-ga")


def test_what_is_not_there_yet_is_waited_for(tmp_path):
    watcher = Watcher([str(tmp_path / "runs")], pipeline.Options(ga={"ga8": Schedule.constant(8)}))
    look = watcher.look()
    assert (look.verdict, look.audit.diagnoses) == (Verdict.INCONCLUSIVE, ())
    lines(tmp_path / "runs", 1, 1)
    lines(tmp_path / "runs", 8, 1)
    assert watcher.look().verdict is Verdict.HEALTHY


def test_a_log_that_shrinks_is_read_from_the_start(tmp_path):
    lines(tmp_path, 1, 1)
    file = lines(tmp_path, 8, 8)
    watcher = Watcher([str(tmp_path)])
    assert watcher.look().verdict is Verdict.SCALED
    file.write_text("")
    lines(tmp_path, 8, 1, range(1, 30))
    look = watcher.look()
    assert (look.shrunk, look.verdict) == (("ga8.jsonl",), Verdict.HEALTHY)
    assert look.points == 2 * (40 + 29)


def test_that_a_file_without_a_series_is_replaced_is_no_matter(tmp_path):
    lines(tmp_path, 1, 1)
    (tmp_path / "summary.json").write_text('{"seconds": 100}')
    watcher = Watcher([str(tmp_path)])
    watcher.look()
    (tmp_path / "summary.json").write_text("{}")
    assert watcher.look().shrunk == ()


def test_a_log_that_is_rotated_is_read_from_the_start(tmp_path):
    lines(tmp_path, 1, 1)
    file = lines(tmp_path, 8, 8)
    watcher = Watcher([str(file.parent)])
    watcher.look()
    size = file.stat().st_size
    (tmp_path / "kept").mkdir()
    file.rename(tmp_path / "kept" / "ga8.jsonl.1.gz")
    lines(tmp_path, 8, 1)
    look = watcher.look()
    assert file.stat().st_size != size or look.shrunk
    assert look.verdict is Verdict.HEALTHY


def test_a_log_that_cannot_be_read_for_once_keeps_what_it_held(tmp_path):
    lines(tmp_path, 1, 1)
    file = lines(tmp_path, 8, 8)
    content = file.read_bytes()
    watcher = Watcher([str(tmp_path)])
    watcher.look()
    file.write_bytes(b"\x00" * 40)
    assert watcher.look().verdict is Verdict.SCALED  # as while it is being replaced
    assert watcher.look().verdict is Verdict.INCONCLUSIVE
    file.write_bytes(content)
    assert watcher.look().verdict is Verdict.SCALED


def test_a_log_that_is_removed_is_forgotten(tmp_path):
    lines(tmp_path, 1, 1)
    file = lines(tmp_path, 8, 8)
    watcher = Watcher([str(tmp_path)])
    watcher.look()
    file.unlink()
    look = watcher.look()
    assert ([len(d.runs) for d in look.audit.diagnoses], look.verdict) == ([1], Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("target", ["-", "wandb://e/p/r", "s3://bucket/x"])
def test_only_files_are_watched(target):
    with pytest.raises(WrongUsage, match="only files can be watched"):
        Watcher([target])


@pytest.mark.parametrize("kind", ["lines", "console", pytest.param("tensorboard", marks=pytest.mark.torch), "wandb"])
def test_real_loggers_write_in_another_process_meanwhile(tmp_path, kind):
    if kind == "tensorboard":
        pytest.importorskip("torch")
    folder = tmp_path / "runs"
    folder.mkdir()
    ga = {"*ga1*": 1, "*ga8*": 8} if kind == "console" else {}
    options = pipeline.Options(ga={name: Schedule.constant(value) for name, value in ga.items()})
    watcher = Watcher([str(folder)], options)
    looks = follow(watcher, [start(kind, folder, 1, 1), start(kind, folder, 8, 8)])
    assert len(looks) > 2
    points = [look.points for look in looks if look.audit.diagnoses]
    assert points == sorted(points)
    assert (looks[-1].verdict, points[-1]) == (Verdict.SCALED, 160)
    assert not any(look.verdict is Verdict.HEALTHY for look in looks)
    assert not any(look.shrunk for look in looks)


@pytest.mark.parametrize("kind", ["lines", pytest.param("tensorboard", marks=pytest.mark.torch), "wandb"])
def test_a_writer_that_is_killed_and_resumes(tmp_path, kind):
    if kind == "tensorboard":
        pytest.importorskip("torch")
    folder = tmp_path / "runs"
    folder.mkdir()
    watcher = Watcher([str(folder)])
    killed = start(kind, folder, 8, 8, last=100_000, pause=0.01)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        look = watcher.look()
        if look is not None and look.points >= 20:
            break
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    watcher.look()
    if kind == "lines":  # the cut line stays; the resumed trainer starts a new one
        with (folder / "ga8.jsonl").open("a") as file:
            file.write("\n")
    looks = follow(watcher, [start(kind, folder, 8, 8, first=5), start(kind, folder, 1, 1)])
    last = Watcher([str(folder)]).look()
    assert last.verdict is Verdict.SCALED
    assert (looks[-1].verdict, looks[-1].points) == (last.verdict, last.points)


@pytest.mark.torch
def test_the_trainer_of_transformers_writes_meanwhile(tmp_path):
    """Checkpoints come and go, `trainer_state.json` of each holds all that came before."""
    pytest.importorskip("transformers")
    folder = tmp_path / "runs"
    folder.mkdir()
    watcher = Watcher([str(folder)])
    looks = follow(watcher, [start("trainer", folder, ga, 1, last=61) for ga in (1, 4)], seconds=180)
    assert looks[-1].verdict is Watcher([str(folder)]).look().verdict is Verdict.SCALED  # as of transformers 5.24.0
    assert "loss-summed-over-ga" in looks[-1].findings
    assert not any(look.verdict is Verdict.HEALTHY for look in looks)
