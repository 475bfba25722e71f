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
    first = " ".join(done.stdout.split("\n\n")[0].split())
    assert first == (
        "SCALED The logged loss and grad_norm are 8x too high at GA 8: summed over gradient_accumulation_steps "
        "instead of averaged. The gradients are affected too."
    )


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


def pair(folder, one, eight, **more):
    """Two JSON Lines logs of (step, loss) rows, audited as GA 1 and GA 8."""
    for name, rows in (("one", one), ("eight", eight)):
        lines = [json.dumps({"step": step, "loss": value, **more}) for step, value in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return ga_audit("inspect", folder / "one.jsonl", folder / "eight.jsonl", "--ga", "one=1", "--ga", "eight=8")


STEPS = range(1, 41)


@pytest.mark.parametrize(
    ("one", "eight", "status", "words"),
    [
        ([(s, float("nan")) for s in STEPS], [(s, float("nan")) for s in STEPS], 3, "no value above zero"),
        ([(s, 2.0) for s in STEPS], [(s + 1000, 2.0) for s in STEPS], 3, "no range of steps"),
        ([(s, (-1) ** s) for s in STEPS], [(s, 8 * (-1) ** s) for s in STEPS], 3, "zero or negative"),
        ([(1, 2.715)], [(1, 2.715)], 0, "does not scale"),
        ([(1, 1.357)], [(1, 10.848)], 1, "summed over gradient_accumulation_steps"),
        # one log counts micro-batches: the same curve on another axis, and still a sum
        ([(s, 3 - s / 50) for s in STEPS], [(8 * s, 8 * (3 - s / 50)) for s in STEPS], 1, "8x"),
    ],
    ids=["nan", "nothing in common", "negative", "one point each, equal", "one point each, summed", "mixed units"],
)
def test_hard_pairs(tmp_path, one, eight, status, words):
    done = pair(tmp_path, one, eight)
    assert done.returncode == status, done.stdout
    assert words in " ".join(done.stdout.split())
    assert "Traceback" not in done.stderr


def test_runs_without_ga_are_told_the_option_to_paste(tmp_path):
    for name in ("alpha", "beta"):
        (tmp_path / f"{name}.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n')
    done = ga_audit("inspect", tmp_path)
    assert done.returncode == 3
    assert "--ga" in done.stdout
    assert "alpha=N" in done.stdout


def test_processes_with_a_run_folder_each(tmp_path):
    source = next((SAMPLES / "wandb-4.48.0" / "ga8").rglob("offline-run-*"))
    for rank in range(3):
        target = tmp_path / "wandb" / f"offline-run-2026010{rank + 1}_000000-rank{rank}"
        shutil.copytree(source, target)
        log = next(target.glob("*.wandb"))
        log.rename(log.with_name(f"run-rank{rank}.wandb"))
        if rank:  # ranks that never log
            (target / f"run-rank{rank}.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    _, result = audit_json(tmp_path)
    assert len(result["diagnoses"]) == 1
    assert [run["gradient_accumulation_steps"]["value"] for run in result["diagnoses"][0]["runs"]] == [8]
    assert len(result["failures"]) == 2
    assert all("logged nothing" in f["message"] for f in result["failures"])


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


GOLDEN = Path(__file__).parents[1] / "golden" / "cases"


def test_a_run_of_unknown_ga_beside_others_is_set_aside_and_their_verdict_stands():
    done, result = audit_json(".", cwd=GOLDEN / "unknown-ga-beside")
    assert done.returncode == 1
    (diagnosis,) = result["diagnoses"]
    assert (diagnosis["verdict"], diagnosis["reach"]) == ("scaled", "gradients")
    assert [run["name"] for run in diagnosis["runs"]] == ["ga1", "ga2", "ga4", "ga8"]
    source = {"format": "table", "path": "notes/other.csv"}
    why = "gradient_accumulation_steps is unknown"
    assert result["set_aside"] == [
        {"id": "other", "name": "other", "sources": [source], "why": why, "reason": "unknown-ga"}
    ]
    remedy = "Specify gradient_accumulation_steps (N): `ga-audit inspect . --ga other=N`"
    assert result["set_aside_remedy"] == remedy
    text = ga_audit("inspect", ".", cwd=GOLDEN / "unknown-ga-beside").stdout
    assert text.startswith("SCALED  ")
    assert "\n      ga-audit inspect . --ga other=N\n" in text


def test_a_summed_log_of_unknown_ga_is_not_healthy_beside_a_right_one(tmp_path):
    """The right run gets the verdict that it gets alone, the loss of 33.4 none, and the status is not 0."""
    for case, name in (("transformers-4.57.6", "right"), ("transformers-4.48.0", "summed")):
        shutil.copytree(SAMPLES / case / "ga8", tmp_path / name)
    (tmp_path / "summed" / "training_args.bin").unlink()
    done, result = audit_json(".", cwd=tmp_path)
    assert done.returncode == 3
    assert [(d["verdict"], [r["name"] for r in d["runs"]]) for d in result["diagnoses"]] == [
        ("inconclusive", ["right"])
    ]
    alone = audit_json("right", cwd=tmp_path)[1]["diagnoses"][0]
    assert result["diagnoses"][0]["posterior"] == alone["posterior"]
    assert [run["name"] for run in result["set_aside"]] == ["summed"]
    scanned = ga_audit("scan", ".", "--format", "csv", cwd=tmp_path)
    assert scanned.returncode == 3
    assert [line.split(",")[0] for line in scanned.stdout.splitlines()[1:]] == ["inconclusive", "inconclusive"]


def multiple(source, target, factor):
    """A sample's log with its loss and grad_norm times a factor, and the settings as they were."""
    shutil.copytree(source, target)
    file = target / "trainer_state.json"
    content = json.loads(file.read_text())
    for row in content["log_history"]:
        for key in {"loss", "grad_norm"} & row.keys():
            row[key] *= factor
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("ga", [4, 8])
@pytest.mark.parametrize("factor", [2, 4, 8, 0.25])
def test_a_log_beside_its_multiple_at_one_ga_is_not_healthy(tmp_path, ga, factor):
    multiple(SAMPLES / "transformers-4.57.6" / f"ga{ga}", tmp_path / "right", 1)
    multiple(SAMPLES / "transformers-4.57.6" / f"ga{ga}", tmp_path / "copy", factor)
    done, result = audit_json(".", cwd=tmp_path)
    assert done.returncode == 3
    (diagnosis,) = result["diagnoses"]
    assert diagnosis["verdict"] == "inconclusive"
    assert "copy" in diagnosis["headline"]
