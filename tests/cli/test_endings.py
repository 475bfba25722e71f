"""How a command ends that is interrupted, stopped, asked for what is not there, or whose reader has gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ga_audit.cli import cli

SAMPLES = Path(__file__).parents[2] / "sample_logs"


def started(*args, **options):
    def usual():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # a shell's background jobs ignore them

    return subprocess.Popen(
        [sys.executable, "-m", "ga_audit", *args], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=usual, text=True, **options,
    )  # fmt: skip


def wait_until_it_reads(process):
    """Until it blocks on its standard input."""
    deadline = time.monotonic() + 30
    while "pipe" not in Path(f"/proc/{process.pid}/wchan").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)


@pytest.mark.skipif(not Path("/proc/self/wchan").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("command", ["inspect", "fix", "report", "plot", "scan"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_never_the_status_of_a_finding(tmp_path, command, number, status):
    output = ("-o", "a.png") if command == "plot" else ()
    process = started(command, "-", *output, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)})
    wait_until_it_reads(process)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == status, said
    assert said.strip() == ("interrupted" if number == signal.SIGINT else "")
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith("matplotlib")] == []


@pytest.mark.parametrize("args", [("inspect", str(SAMPLES)), ("scan", str(SAMPLES), "--all"), ("--help",)])
def test_a_closed_pipe_ends_quietly(args):
    reading, writing = os.pipe()
    os.close(reading)
    process = started(*args, stdout=writing)
    os.close(writing)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_no_defect():
    with Path("/dev/full").open("w") as full:
        process = started("inspect", str(SAMPLES / "transformers-4.48.0"), stdout=full)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 3
    assert said == "error: cannot write: No space left on device\n"


@pytest.mark.parametrize("command", ["inspect", "fix", "report", "plot", "scan"])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--ga", "gaX=8"), "--ga gaX=...: no run has this name\n  -> The runs are: ga1, ga2, ga4, ga8.\n"),
        (("--stack", "foo==1.2"), "--stack foo==1.2: foo is not a package that ga-audit knows\n"),
        (("--loss-key", "los"), "--loss-key los: no log holds a series of this name\n"),
    ],
)
def test_an_option_that_fits_nothing_is_wrong_usage_everywhere(tmp_path, command, option, said):
    output = ("-o", str(tmp_path / "a.png")) if command == "plot" else ()
    arguments = [command, str(SAMPLES / "transformers-4.48.0"), *option, *output]
    done = CliRunner().invoke(cli, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {said}")
    assert not list(tmp_path.iterdir())


def test_fix_shows_a_given_ga_that_contradicts_the_log():
    arguments = ["fix", str(SAMPLES / "transformers-4.48.0"), "--ga", "ga8*=4", "--dry-run"]
    line = "ga8: GA 4 is used, as given; training_args.bin: gradient_accumulation_steps says 8"
    done = CliRunner().invoke(cli, arguments)
    assert done.stdout.splitlines()[0] == line
    done = CliRunner().invoke(cli, [*arguments, "--format", "json"])
    assert done.stderr == f"{line}\n"
