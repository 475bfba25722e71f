"""`ga-audit fix` as installed: killed at any moment it leaves the originals and nothing half-written."""

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ga_audit.files.manifest import foreign

COMMAND = str(Path(sys.executable).with_name("ga-audit"))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two runs of 60,000 steps, as a trainer of one's own writes them."""
    top = tmp_path_factory.mktemp("logs")
    for ga in (1, 8):
        lines = (f'{{"step": {s}, "loss": {ga * (1 + 300 / (s + 100)):.6f}, "lr": 0.001}}' for s in range(1, 60_001))
        (top / f"ga{ga}.jsonl").write_text("\n".join(lines) + "\n")
    return top


def digests(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def command(logs, out):
    return [COMMAND, "fix", str(logs), "--ga", "ga1=1", "--ga", "ga8=8", "-o", str(out)]


def test_killed_at_random_moments_it_leaves_all_or_nothing(logs, tmp_path):
    originals = digests(logs)
    begun = time.monotonic()
    done = subprocess.run(command(logs, tmp_path / "whole"), capture_output=True, text=True, timeout=120)
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    whole = digests(tmp_path / "whole")
    chance = random.Random(5)
    killed = 0
    for i in range(12):
        out = tmp_path / f"out{i}"
        process = subprocess.Popen(command(logs, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # the later part is the one that writes
        time.sleep(took * chance.uniform(0.3, 1.0))
        killed += process.poll() is None
        process.kill()
        process.wait()
        assert not out.exists() or set(digests(out)) == set(whole)
        if out.exists():
            assert {k: v for k, v in digests(out).items() if k.suffix == ".jsonl"} == {
                k: v for k, v in whole.items() if k.suffix == ".jsonl"
            }
    assert killed
    assert digests(logs) == originals
    # what a killed one left beside the output does not stand in the way of the next
    assert subprocess.run(command(logs, tmp_path / "out0"), capture_output=True).returncode in (0, 3)
    assert digests(tmp_path / "out0").keys() == whole.keys()


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_of_two_at_once_exactly_one_writes(logs, tmp_path, force):
    out = tmp_path / "out"
    if force:
        assert subprocess.run(command(logs, out), capture_output=True).returncode == 0
    begun = [
        subprocess.Popen([*command(logs, out), *force], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {}
    for process in begun:
        written, error = process.communicate(timeout=120)
        said[process.returncode] = (written, error)
    assert set(said) == {0, 3}
    assert f"written: {out} (3 files" in said[0][0]
    assert "written" not in said[3][0]
    remedy = {
        f"error: {out}: another process wrote it at the same time\n  -> Look at it, or give another -o.\n",
        *([] if force else [f"error: {out}: exists already\n  -> Give another -o, or --force to replace it.\n"]),
    }
    assert said[3][1] in remedy
    assert foreign(out) == []
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_change_of_ga_in_mid_run_that_the_user_knows(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(f'{{"step": {s}, "loss": {16.0 if s < 50 else 64.0}}}\n' for s in range(1, 100)))
    done = subprocess.run(
        [COMMAND, "fix", str(path), "--ga", "2,8@50", "--assume", "loss=1", "-o", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2, 8" in done.stdout
    (fixed,) = (tmp_path / "out").rglob("*.jsonl")
    assert {line.split('"loss": ')[1].split(",")[0].rstrip("}") for line in fixed.read_text().splitlines()[1:]} == {
        "8.0"
    }
