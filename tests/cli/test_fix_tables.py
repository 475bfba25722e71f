"""`fix` on CSV, JSON and JSON Lines: the exact bytes of the corrected copy.

`[[8.0|1.0]]` in a text stands for a number as logged and as corrected; all else must stay.
"""

import json
import re

import pytest
from click.testing import CliRunner

from ga_audit.cli.fix import command

MARK = re.compile(r"\[\[(.*?)\|(.*?)\]\]")
STAMP = re.compile(rb', *(?:\n +)?"ga_audit": \{.*\}(?=\s*\})|[,;]"\{""version.*\}"')


def fixed(tmp_path, name, text, *arguments):
    """The corrected copy without the provenance, and what was expected."""
    before, after = MARK.sub(r"\1", text).encode(), MARK.sub(r"\2", text).encode()
    (log := tmp_path / name).write_bytes(before)
    known = arguments or ("--ga", "8", "--assume", "loss=1,grad_norm=1")
    done = CliRunner().invoke(command, [str(log), *known, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (copy,) = (path for path in (tmp_path / "out").rglob(name))
    assert log.read_bytes() == before
    again = CliRunner().invoke(command, [str(copy), *known, "-o", str(tmp_path / "again")])
    assert (again.exit_code, (tmp_path / "again").exists()) == (0, False)
    content = copy.read_bytes()
    assert len(STAMP.findall(content)) == 1
    return STAMP.sub(b"", content), after


BIG = "123456789012345678901234567890"
JSON = {
    "a.jsonl": (
        '\ufeff{"step": 1, "loss": [[8.00|1.0]], "loss_scale": 8.00, "eval_loss": 8.0, "n": ' + BIG + ', "x": 1.50e3}\r\n'
        '{"step":2,"eval_loss":null,"loss":9.0,"t":"é\\u00e9","loss":"[[16.0|2.000]]"}\r\n'
        "not JSON, loss: 8.0\n"
        '{"step": 3, "loss": NaN, "grad_norm": -Infinity, "more": {"loss": 8.0}, "list": [8.0]}\n'
        '  {"loss": [[24|3.0]], "grad_norm": [[4e-1|0.05]], "step": 4}'
    ),
    "b.json": (
        '[\n  {"step": 1, "loss": [[8.0|1.0]], "n": ' + BIG + '},\n  "loss", 8.0,\n\n'
        '  {"loss": [[16.0|2.0]], "step": 2, "train_runtime": 3.0, "train_loss": [[12.0|1.5]]},\n'
        '  {"step": 2, "eval_loss": 8.0}]\n'
    ),
    "trainer_state.json": (
        '{\n  "zzz": 8.00, "best_metric": ' + BIG + ',\n "log_history": [{"loss": 0.1}], "log_history": [\n'
        '    {"epoch": 1, "loss": [[8.0|1.0]], "grad_norm": [[4.0|0.5]], "step": 1},\n'
        '    {"eval_loss": 8.0, "step": 1}, null,\n    {"step": 2, "loss": 8.0, "loss": [[16.0|2.0]], "rewards": null},\n'
        '    {"step": 2, "train_loss": [[12.0|1.5]], "train_runtime": 3.0}\n  ],\n  "logging_steps": 1\n}'
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_json_keeps_every_other_byte(name, tmp_path):
    content, after = fixed(tmp_path, name, JSON[name])
    assert content == after


def header_and_rows(content):
    """A CSV without the last column, which is empty but for the provenance."""
    first, second, *rest = content.split(b"\n")
    assert re.search(rb"[,;]ga_audit\r?$", first)
    rest = [re.sub(rb"[,;](\r?)$", rb"\1", line) for line in rest]
    return b"\n".join([re.sub(rb"[,;]ga_audit(\r?)$", rb"\1", first), second, *rest])


CSV = {
    "two columns of one name": (
        "step,loss,grad_norm,loss,eval_loss\n1,[[8.0|1.000]],[[4.0|0.5000]],99.0,8.0\n2,[[16.0|2.000]],,99.0,\n"
    ),
    "quotes, blank lines, CRLF": (
        'note,step,"loss", grad_norm \r\n"a, ""b""\nc",1,"[[8.0|1.000]]", [[4.00|0.5000]]\r\n'
        '\r\nx,2,[[1.6e+01|2.000e+00]],nan\r\n'
        'y,footer,8.0,8.0\r\n'
    ),
    "byte order mark, semicolons": "\ufeffstep;loss\n1;[[8.0|1.000]]\n2;[[16.0|2.000]]\n3;\n",
    "no step": "loss,val_loss\n[[8|1]],8\n[[12|1.5]],8\n",
}  # fmt: skip


@pytest.mark.parametrize("case", CSV)
def test_csv_keeps_every_other_byte(case, tmp_path):
    content, after = fixed(tmp_path, "a.csv", CSV[case])
    assert header_and_rows(content) == after


def test_a_chart_has_the_corrections_of_all_its_runs_and_their_bounds(tmp_path):
    key = "train/loss"
    text = (
        f"Step,a - {key},a - {key}__MIN,a - {key}__MAX,b - {key},b - {key}__MIN,b - {key}__MAX,c - {key},c - {key}__MIN\n"
        "1,3.0,2.9,3.1,[[6.0|3.000]],[[5.8|2.900]],[[6.2|3.100]],[[24.0|3.000]],[[23.2|2.900]]\n"
        "2,2.0,1.9,2.1,[[4.0|2.000]],[[3.8|1.900]],[[4.2|2.100]],[[16.0|2.000]],[[15.2|1.900]]\n"
    )
    content, after = fixed(tmp_path, "chart.csv", text, "--ga=a=1", "--ga=b=2", "--ga=c=8", "--assume", "loss=1")
    assert header_and_rows(content) == after
    manifest = json.loads((tmp_path / "out/ga-audit.json").read_text())
    assert [(run["run"], run["files"]) for run in manifest["runs"]] == [
        ("b", ["chart/chart.csv"]),
        ("c", ["chart/chart.csv"]),
    ]


def test_json_lines_that_do_not_hold_one_object_each_are_refused(tmp_path):
    (log := tmp_path / "a.jsonl").write_text('{"step": 1, "loss": 8.0}, {"step": 2, "loss": 16.0}\n')
    arguments = [str(log), "--ga", "8", "--assume", "loss=1", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 3
    assert "cannot be written back: its lines are not one JSON object each" in done.output
    assert not (tmp_path / "out").exists()


def test_tensorboards_download_is_corrected_in_its_value_column(tmp_path):
    text = "Wall time,Step,Value\n8.0,8,[[8.0|1.000]]\n16.0,16,[[16.0|2.000]]\n"
    content, after = fixed(tmp_path, "run-a-tag-train_loss.csv", text)
    assert header_and_rows(content) == after
