"""The installed command on logs that real trainers wrote: stdout, stderr and exit status."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "sample_logs"
COMMAND = str(Path(sys.executable).with_name("ga-audit"))


def ga_audit(*arguments, stdin=None, cwd=None):
    return subprocess.run(
        [COMMAND, *map(str, arguments)], input=stdin, capture_output=True, text=True, cwd=cwd, timeout=120
    )


def audit_json(*arguments, **options):
    done = ga_audit("inspect", *arguments, "--format", "json", **options)
    return done, json.loads(done.stdout)


def exponents(diagnosis):
    """{role: exponent on GA} from the JSON."""
    found = {}
    for piece in diagnosis["evidence"]:
        if piece["kind"] == "ratio_regression" and piece["estimate"]:
            found[piece["role"]] = piece["estimate"]["value"]
    return found


def truth():
    """What sample_logs/README.md says of each case, as data."""
    return json.loads((SAMPLES / "truth.json").read_text())


@pytest.mark.parametrize("case", sorted(truth()))
def test_every_sample_gets_the_right_verdict(case):
    expected = truth()[case]
    done, result = audit_json(SAMPLES / case)
    assert done.returncode == {"scaled": 1, "healthy": 0}[expected["verdict"]], done.stdout + done.stderr
    (diagnosis,) = result["diagnoses"]
    assert diagnosis["verdict"] == expected["verdict"]
    for role, exponent in expected["exponents"].items():
        assert exponents(diagnosis)[role] == pytest.approx(exponent, abs=0.02), role


def test_the_text_begins_with_the_verdict():
    done = ga_audit("inspect", SAMPLES / "transformers-4.48.0")
    assert done.returncode == 1
    assert not done.stderr
    first = done.stdout.strip().splitlines()[0]
    assert "summed over gradient_accumulation_steps" in first.replace("\n", " ") or "SCALED" in first.upper()


def test_a_pasted_line_alone_is_not_convicted():
    done = ga_audit("inspect", "-", "--ga", "8", stdin="{'loss': 7.9071, 'grad_norm': 6.2117}\n")
    assert done.returncode == 3
    assert done.stdout.startswith("INCONCLUSIVE")
    assert "ga-audit repro" in done.stdout


def test_one_broken_log_among_good_ones(tmp_path):
    shutil.copytree(SAMPLES / "transformers-4.48.0", tmp_path / "logs")
    broken = tmp_path / "logs" / "broken" / "trainer_state.json"
    broken.parent.mkdir()
    broken.write_text('{"log_history": [{"loss": 1.0')
    done = ga_audit("inspect", tmp_path / "logs")
    assert done.returncode == 1  # scaling found goes before could not read
    assert "broken" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "empty.json"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "picture.png"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "trainer_state.json"),
        (b'{"log_history": []}', "trainer_state.json"),
        (b":W&B\xe1\xbe\x00", "run-ab12cd34.wandb"),
        (b"step,loss\n", "metrics.csv"),
        (b"no numbers here\n", "log.txt"),
    ],
)
def test_a_file_of_no_use_says_file_and_remedy(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    done = ga_audit("inspect", path)
    text = done.stdout + done.stderr
    assert done.returncode == 3, text
    assert name in text
    assert "->" in text  # the remedy
    assert "Traceback" not in text


def test_missing_path():
    done = ga_audit("inspect", "no/such/place.json")
    assert done.returncode == 3
    assert "no such file" in done.stdout + done.stderr


def test_usage_errors_are_clicks():
    assert ga_audit("inspect").returncode == 2
    assert ga_audit("inspect", ".", "--ga", "eight").returncode == 2


def test_show_series_says_what_was_read():
    done = ga_audit("inspect", "--show-series", SAMPLES / "transformers-4.48.0" / "ga8")
    assert done.returncode == 0
    assert "trainer_state" in done.stdout
    assert "gradient_accumulation_steps = 8" in done.stdout
    assert "grad_norm" in done.stdout


def test_module_entry_point():
    done = subprocess.run([sys.executable, "-m", "ga_audit", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("ga-audit, version ")
