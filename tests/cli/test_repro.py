import json
import sys

import pytest
from click.testing import CliRunner
from factories import twins

from ga_audit.cli import _outcome, cli
from ga_audit.finding import Verdict
from ga_audit.repro import engine, export, installed


def test_help_of_both_commands():
    for name in ("repro", "bisect"):
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def test_the_help_describes_the_variants():
    printed = " ".join(CliRunner().invoke(cli, ["repro", "--help"], terminal_width=100).output.split())
    for name, what in engine.engines()["transformers"].variants.items():
        assert f" {name} {what}" in printed


def test_a_variant_is_exported_once_and_nothing_is_trained(tmp_path, monkeypatch):
    stack = {"transformers": "5.3.0", "accelerate": "1.13.0", "torch": "2.13.0"}
    monkeypatch.setattr(installed, "releases", lambda engine, python: {**stack, engine + "-script": "abc"})
    place = tmp_path / "repro.py"
    done = CliRunner().invoke(cli, ["repro", "--variant", "B2", "--export", str(place)])
    assert (done.exit_code, done.output) == (0, f"written: {place} (run it with: python {place})\n")
    assert place.read_text() == export.script("B2", stack)
    assert list(tmp_path.iterdir()) == [place]
    assert CliRunner().invoke(cli, ["repro", "--variant", "A", "--export", str(place)]).exit_code == 3
    assert place.read_text() == export.script("B2", stack)
    for wrong in (["--variant", "A,B"], ["--variant", "lora"], ["--model", "t5-seq2seq"], ["--engine", "torch"]):
        done = CliRunner().invoke(cli, ["repro", *wrong, "--export", str(tmp_path / "x.py")])
        assert (done.exit_code, (tmp_path / "x.py").exists()) == (2, False), wrong


def test_a_batch_that_does_not_divide_is_a_message(tmp_path):
    result = CliRunner().invoke(cli, ["repro", "--ga", "1,3", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no multiple of GA 3" in result.output


def test_ga_must_be_whole_numbers():
    assert CliRunner().invoke(cli, ["repro", "--ga", "1,x"]).exit_code == 2


def test_a_users_script_is_trained_and_its_logs_are_read(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import json, sys, pathlib\nga = int(sys.argv[1])\n"
        "rows = [{'step': s, 'loss': (2 + 1 / s) * ga, 'grad_norm': (1 + .1 / s) * ga} for s in range(1, 31)]\n"
        "pathlib.Path(sys.argv[2], 'log.jsonl').write_text("
        "'\\n'.join(json.dumps({**r, 'gradient_accumulation_steps': ga}) for r in rows))\n"
    )
    words = f"{sys.executable} {script} {{gradient_accumulation_steps}} {{output_dir}}"
    arguments = ["repro", "--engine", "script", "--script", words, "--out", str(tmp_path / "out"), "--ga", "1,8"]
    result = CliRunner().invoke(cli, arguments)
    for part in (
        "SCALED  The logged loss and grad_norm are 8x too high at GA 8: summed",
        "exponent on GA 1.000",
        "ga-audit fix ",
    ):
        assert part in result.output, result.output
    assert "ga-audit report" not in result.output  # it is written already


@pytest.mark.parametrize(("norm", "status", "headline"), [
    ("", 3, "INCONCLUSIVE  because the loss does not scale, but grad_norm is not in the logs "
     "and the gradients were not measured."),
    (", 'grad_norm': (1.3 if ga > 1 else 1) * (1 + .5 * ((s * 7 + ga) % 5))", 3,
     "INCONCLUSIVE  because the loss does not scale, but grad_norm gives no evidence and the gradients were not measured."),
])  # fmt: skip
def test_a_users_script_is_not_healthy_while_grad_norm_is_undecided(tmp_path, norm, status, headline):
    script = tmp_path / "train.py"
    script.write_text(
        "import json, sys, pathlib\nga = int(sys.argv[1])\n"
        f"rows = [{{'step': s, 'loss': 2 + 1 / s{norm}}} for s in range(1, 31)]\n"
        "pathlib.Path(sys.argv[2], 'log.jsonl').write_text("
        "'\\n'.join(json.dumps({**r, 'gradient_accumulation_steps': ga}) for r in rows))\n"
    )
    words = f"{sys.executable} {script} {{gradient_accumulation_steps}} {{output_dir}}"
    arguments = ["repro", "--script", words, "--out", str(tmp_path / "out"), "--ga", "1,8"]
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, " ".join(result.output.split()).count(" ".join(headline.split()))) == (status, 1), (
        result.output
    )
    assert "Gradients are not measured for --script. Audit of its logs:" in result.output


def test_a_users_script_is_healthy_where_its_norms_are_equal_too(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import json, sys, pathlib\n"
        "rows = [{'step': s, 'loss': 2 + 1 / s, 'grad_norm': 1 + .5 / s} for s in range(1, 31)]\n"
        "pathlib.Path(sys.argv[2], 'log.jsonl').write_text("
        "'\\n'.join(json.dumps({**r, 'gradient_accumulation_steps': int(sys.argv[1])}) for r in rows))\n"
    )
    words = f"{sys.executable} {script} {{gradient_accumulation_steps}} {{output_dir}}"
    result = CliRunner().invoke(cli, ["repro", "--script", words, "--out", str(tmp_path / "out"), "--ga", "1,8"])
    assert result.exit_code == 0, result.output
    assert "HEALTHY  Logged loss and grad_norm do not scale with GA (GA 1, 8)." in result.output


def test_logs_that_decide_both_are_left_as_they_are():
    from ga_audit import pipeline

    (both,) = pipeline.diagnose(twins(0))
    assert (both.verdict, dict(both.undecided)) == (Verdict.HEALTHY, {})
    assert _outcome._without_gradients(both) is both


def test_an_unknown_model_names_those_that_are_there(tmp_path):
    result = CliRunner().invoke(cli, ["repro", "--model", "gpt9", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no model 'gpt9'" in result.output
    assert "t5-seq2seq" in result.output


def test_an_option_of_another_engine_is_a_message(tmp_path):
    result = CliRunner().invoke(cli, ["repro", "--fault", "sum-grad", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "has no option --fault" in result.output
    assert not (tmp_path / "out").exists()


def test_the_output_holds_a_report_with_the_measurement(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "out"
    options = ["--engine", "torch", "--fault", "sum-loss-log", "--ga", "1,8", "--steps", "6", "--out", str(out)]
    result = CliRunner().invoke(cli, ["repro", *options])
    assert result.exit_code == 1, result.output
    assert "verdict: logging only" in result.output
    diagnosis = json.loads((out / "report" / "diagnosis.json").read_text())["diagnoses"][0]
    assert diagnosis["reach"] == "log-only"
    assert diagnosis["reasons"][0] == "Measured: logging only."
    assert not any("ga-audit repro" in step for step in diagnosis["next_steps"])
    issue = (out / "report" / "issue.md").read_text()
    assert "real gradient" in issue
    assert "\nga-audit repro --engine torch --fault sum-loss-log --ga 1,8 --steps 6\n" in issue
    assert str(tmp_path) not in issue
    assert "trained: a plain loop, fault sum-loss-log; torch" in result.output
    again = CliRunner().invoke(cli, ["repro", *options, "--resume"])
    assert again.exit_code == 1, again.output
    assert "/2 trained" not in again.output  # every cell was kept


def test_short_last_steps_are_read_from_the_logs_as_they_are_measured(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["repro", "--engine", "torch", "--fault", "partial-last", "--ga", "1,8", "--steps", "16",
                                      "--out", str(out)])  # fmt: skip
    assert "verdict: gradients at some steps" in result.output
    assert "do not scale with GA (GA 1, 8). The last steps of epochs are short." in result.output
    assert "measurement and logs agree" in result.output


def test_a_device_that_is_not_there_is_refused_and_not_replaced(tmp_path):
    torch = pytest.importorskip("torch")
    absent = "mps" if torch.cuda.is_available() else "cuda"
    result = CliRunner().invoke(
        cli, ["repro", "--engine", "torch", "--device", absent, "--ga", "1,2", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 3
    assert f"--device {absent}: this torch" in result.output


def test_what_the_logs_leave_open_is_no_contradiction(tmp_path):
    pytest.importorskip("torch")
    result = CliRunner().invoke(
        cli, ["repro", "--engine", "torch", "--ga", "1,2", "--steps", "1", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert "the logs alone leave the grad_norm open; the measurement decides" in result.output


def test_one_ga_is_measured_against_the_whole_batch(tmp_path):
    pytest.importorskip("torch")
    result = CliRunner().invoke(cli, ["repro", "--engine", "torch", "--fault", "sum-grad", "--ga", "8", "--steps", "2",
                                      "--out", str(tmp_path / "out")])  # fmt: skip
    assert result.exit_code == 1, result.output
    assert "at GA 8 alone: loss x8.000" in result.output
    assert "--ga 1,8 tells" in result.output
    assert "verdict: gradients" in result.output
    assert "the logs alone leave the loss and grad_norm open; the measurement decides" in result.output


def test_a_command_that_breaks_without_a_word_says_its_status(tmp_path):
    words = f"{sys.executable} -c 'raise SystemExit(7)' {{gradient_accumulation_steps}} {{output_dir}}"
    result = CliRunner().invoke(
        cli, ["repro", "--engine", "script", "--script", words, "--out", str(tmp_path / "out"), "--ga", "1,8"]
    )
    assert result.exit_code == 3
    assert "GA 1: ended with status 7 and printed nothing" in result.output


@pytest.mark.torch
def test_several_situations_are_a_line_and_a_report_each(tmp_path):
    pytest.importorskip("transformers")
    out = tmp_path / "out"
    options = ["--variants", "A,B2", "--ga", "1,4", "--steps", "12", "--measure-every", "4", "--out", str(out)]
    result = CliRunner().invoke(cli, ["repro", *options])
    assert result.exit_code == 1, result.output
    lines = {words[0]: words for line in result.output.splitlines() if (words := line.split())}
    assert lines["A"][-2:] == ["healthy", "agree"]
    assert lines["B2"][-2:] == ["gradients", "agree"]
    issue = (out / "B2" / "report" / "issue.md").read_text()
    assert "\nga-audit repro --variant B2 --ga 1,4 --steps 12 --measure-every 4\n" in issue
    assert "GA004 (matches)" in issue
    assert (out / "A" / "report" / "report.html").is_file()
    assert "B2: known bug GA004: " in result.output
    assert "trained with transformers " in result.output


def test_a_report_that_is_not_of_these_cells_is_kept(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.md").write_text("mine")
    options = ["repro", "--engine", "torch", "--ga", "1,2", "--steps", "1", "--out", str(tmp_path)]
    for more in ([], ["--resume"]):
        result = CliRunner().invoke(cli, [*options, *more])
        assert result.exit_code == 3
        assert "the output exists" in result.output
    assert [path.name for path in tmp_path.rglob("*")] == ["report", "thesis.md"]


def test_healthy_is_said_of_what_was_trained(tmp_path):
    pytest.importorskip("transformers")
    options = ["repro", "--ga", "2", "--steps", "2", "--measure-every", "1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, options)
    assert result.exit_code == 0, result.output
    assert "trained: A (the model takes loss arguments and uses them); transformers " in result.output
    assert "This covers one scenario; others may differ: --variants all, --models all" in result.output


def run(*words):
    return CliRunner().invoke(cli, ["repro", *words])


@pytest.mark.parametrize(("words", "message"), [
    (["--model", "t5-seq2seq", "--variant", "B"], "give one of them"),
    (["--data-parallel"], "about several devices"), (["--script", " "], "--script is empty"),
    (["--script", "t {gradient_accumulation_steps} {output_dir}", "--data-parallel"], "--data-parallel is not for"),
    (["--engine", "script"], "needs --script"), (["--engine", "torch", "--script", "x"], "leave --engine out"),
    (["--script", "train {gradient_accumulation_steps} {output_dir}", "--steps", "3"], "--steps is not for your own command"),
    (["--script", "train {gradient_accumulation_steps}"], "no place for"),
    (["--script", "train '{gradient_accumulation_steps} {output_dir}"], "split into words"),
    (["--script", "train {gradient_accumulation_steps} {output_dir} {lr}"], "{lr} in the command"),
    (["--engine", "trll"], "no engine 'trll'"), (["--engine", "torch", "--fault", "foo"], "--fault foo: there is none"),
    (["--engine", "torch", "--packing", "--variant", "B"], "no option --variant"), (["--lr", "nan"], "not a number"),
    (["--max-grad-norm", "-1"], "not a number"), (["--engine", "trl", "--packing"], "These engines have it: transformers, torch"),
])  # fmt: skip
def test_what_cannot_be_meant_so_is_usage_and_does_nothing(words, message, tmp_path):
    result = run(*words, "--ga", "1,4", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "file").touch()
    result = run("--engine", "torch", "--ga", "1,4", "--steps", "1", "--out", str(tmp_path / "file"))
    assert result.exit_code == 2, result.output
    assert "cannot write there" in result.output


def test_engines_and_what_they_train_are_listed():
    result = run("--list")
    assert result.exit_code == 0
    for word in ("--engine axolotl", "grpo-by-sequence", "bert-sequence-classification", "divide-grad-by-square"):
        assert word in result.output
    assert max(map(len, result.output.splitlines())) <= 100


SCRIPT = """
import json, pathlib, sys
ga, out, how = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
said = {"record": {"gradient_accumulation_steps": 1}}.get(how, {})
noise = [((s * 7919) % 101 - 50) / 1000 for s in range(31)]
rows = [{"step": s, "loss": 2 + 1 / s + noise[s], "grad_norm": 1 + 3 * noise[s], **said} for s in range(1, 31)]
if how != "silent":
    (out / "history.jsonl").write_text("\\n".join(map(json.dumps, rows)))
for row in rows[::5]:
    print({"loss": row["loss"], "grad_norm": row["grad_norm"]}) if how != "silent" else None
"""


def own(tmp_path, how):
    (tmp_path / "train.py").write_text(SCRIPT)
    places = "{gradient_accumulation_steps} {output_dir} " + how + " {micro_batch_size}"
    words = f"{sys.executable} {tmp_path / 'train.py'} {places}"
    return run("--script", words, "--ga", "1,4", "--out", str(tmp_path / "out"))


def test_a_cell_of_a_users_command_is_one_training_with_the_ga_that_it_was_given(tmp_path):
    result = own(tmp_path, "plain")
    assert "HEALTHY  Logged loss and grad_norm do not scale with GA (GA 1, 4)" in result.output, result.output
    runs = json.loads((tmp_path / "out" / "report" / "diagnosis.json").read_text())["diagnoses"][0]["runs"]
    assert [run["name"] for run in runs] == ["world1-ga1", "world1-ga4"]
    issue = (tmp_path / "out" / "report" / "issue.md").read_text()
    assert "The runs were started, at each GA, by:" in issue
    assert "ga-audit repro --ga 1,4 --script " in issue
    assert "real gradient, measured" not in issue


def test_a_users_command_that_passes_its_ga_over_is_told(tmp_path):
    result = own(tmp_path, "record")
    assert result.exit_code == 3
    assert "started with GA 4, and its log records 1" in result.output


def test_a_users_command_that_logs_nothing_is_told_where_to(tmp_path):
    result = own(tmp_path, "silent")
    assert result.exit_code == 3
    assert "left no loss and no grad_norm" in result.output
    assert "Let the command log into {output_dir}" in result.output


def test_a_refused_command_does_not_block_the_right_one(tmp_path):
    pytest.importorskip("transformers")
    words = ["--ga", "1,2", "--steps", "1", "--out", str(tmp_path / "out")]
    refused = run(*words, "--optimizer", "none-such")
    assert refused.exit_code == 3
    assert "none-such is not a valid OptimizerNames" in refused.output
    assert run(*words).exit_code == 0


def test_the_report_says_what_was_measured_where_logs_leave_it_open(tmp_path):
    pytest.importorskip("torch")
    result = run("--engine", "torch", "--fault", "sum-grad", "--ga", "8", "--steps", "2", "--out", str(tmp_path))
    assert "the logs alone leave the loss and grad_norm open" in result.output
    diagnosis = json.loads((tmp_path / "report" / "diagnosis.json").read_text())["diagnoses"][0]
    assert (diagnosis["verdict"], diagnosis["reach"]) == ("scaled", "gradients")
    assert {f["id"] for f in diagnosis["findings"]} == {"loss-summed-over-ga", "grad-norm-summed-over-ga"}
    assert "Not known" not in diagnosis["retrain"]


def test_short_steps_stand_in_the_report(tmp_path):
    pytest.importorskip("torch")
    words = ["--engine", "torch", "--fault", "partial-last", "--ga", "1,4", "--steps", "6", "--out", str(tmp_path)]
    assert run(*words).exit_code == 1
    issue = (tmp_path / "report" / "issue.md").read_text()
    assert "real gradient at step 5 x0.500" in issue
    assert "**SCALED**: Measured: the gradients are correct except at some steps" in issue


def test_a_training_that_diverged_says_so(tmp_path):
    pytest.importorskip("torch")
    words = ["--engine", "torch", "--optimizer", "sgd", "--lr", "3e38", "--ga", "1,2", "--steps", "6"]
    assert "GA 2: the training diverged at 5 of 6 measured steps" in run(*words, "--out", str(tmp_path / "out")).output
