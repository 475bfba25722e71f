"""`ga-audit watch`: lines, status, --exec, as a process and in this one."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import log_writers
import pytest
from click.testing import CliRunner

from ga_audit.cli import cli

ROOT = Path(__file__).parents[2]
STEPS = range(1, 41)


def watch(*words):
    done = CliRunner().invoke(cli, ["watch", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    log_writers.write_lines(folder, 1, 1, STEPS, 0)
    log_writers.write_lines(folder, 8, 8, STEPS, 0)
    return folder


@pytest.mark.parametrize(("factor", "status", "word"), [(8, 1, "scaled"), (1, 0, "healthy")])
def test_once(runs, factor, status, word):
    (runs / "ga8.jsonl").unlink()
    log_writers.write_lines(runs, 8, factor, STEPS, 0)
    done = watch(runs, "--once")
    assert done.exit_code == status
    (line,) = done.stdout.splitlines()
    assert line[8:].startswith(f"  {word}  ga1, ga8: ")
    assert done.stderr == ""  # no bell and no status line, where there is no terminal


def test_without_a_log_it_waits_until_the_time_is_over(tmp_path):
    done = watch(tmp_path / "none", "--interval", 0.1, "--timeout", 0.3)
    (line,) = done.stdout.splitlines()
    assert (done.exit_code, line[10:]) == (3, "waiting: no log with a loss or a grad_norm yet")


def test_a_command_that_cannot_be_one_is_wrong_usage(runs):
    assert watch(runs, "--once", "--exec", "a 'b").exit_code == 2
    assert watch("-", "--once").exit_code == 2


def test_exec_has_the_verdict_in_its_environment_and_no_shell(runs):
    code = (
        "import os, sys; open('out', 'a').write(' '.join(["
        "os.environ['GA_AUDIT_VERDICT'], os.environ['GA_AUDIT_FINDINGS'], *sys.argv[1:]]) + chr(10))"
    )
    command = f"{shlex.join([sys.executable, '-c', code])} '$HOME' ; touch pwned"
    assert watch(runs, "--once", "--exec", command).exit_code == 1
    assert Path("out").read_text() == "scaled grad-norm-summed-over-ga,loss-summed-over-ga $HOME ; touch pwned\n"
    assert not Path("pwned").exists()
    failing = watch(runs, "--once", "--exec", "false")
    assert (failing.exit_code, failing.stdout.splitlines()[-1][10:]) == (1, "--exec: ended with status 1")
    missing = watch(runs, "--once", "--exec", "no-such-command")
    assert missing.stdout.splitlines()[-1][10:] == "--exec: cannot be started: No such file or directory"


def test_it_rings_once_for_a_verdict_and_again_for_another(tmp_path):
    """As a process, while another one writes; each step waits for the line that the one before it must give."""
    folder = tmp_path / "runs"
    folder.mkdir()
    log_writers.write_lines(folder, 1, 1, STEPS, 0)
    log_writers.write_lines(folder, 8, 8, STEPS, 0)
    code = "import os; print('RANG', os.environ['GA_AUDIT_VERDICT'], flush=True)"
    words = [
        "watch",
        str(folder),
        "--interval",
        "0.1",
        "--timeout",
        "60",
        "--exec",
        shlex.join([sys.executable, "-c", code]),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "ga_audit", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    seen: list[str] = []

    def until(text: str) -> None:
        for line in process.stdout:
            seen.append(line.rstrip("\n"))
            if text in line:
                return
        raise AssertionError(seen)

    try:
        until("RANG scaled")
        log_writers.write_lines(folder, 8, 8, range(41, 60), 0)  # the same verdict
        time.sleep(0.5)
        (folder / "ga8.jsonl").write_text("")
        until("was cut or replaced")
        log_writers.write_lines(folder, 8, 1, STEPS, 0)
        until("RANG healthy")
    finally:
        process.terminate()
        process.wait(30)
    assert process.returncode == 143
    assert [line for line in seen if "RANG" in line] == ["RANG scaled", "RANG healthy"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
def test_a_terminal_has_a_status_line_and_one_bell(runs):
    import pty

    ours, theirs = pty.openpty()
    words = ["watch", str(runs), "--interval", "0.1", "--timeout", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ga_audit", *words], stdout=subprocess.PIPE, stderr=theirs, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(theirs)
    out, _ = process.communicate(timeout=60)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert (process.returncode, len(out.splitlines())) == (1, 1)
    assert shown.count(b"\a") == 1
    assert re.search(rb"160 points, loss summed-over-ga 99\.\d%, grad_norm summed-over-ga 99\.\d%", shown)
    assert shown.endswith(b"\r\x1b[K")
