"""Names and forms of lines that the user gives, and what is shown where a text was not read."""

import pytest
from click.testing import CliRunner

from ga_audit.cli.inspect import command
from ga_audit.errors import AuditError, UnreadableLog, WrongUsage
from ga_audit.logs.formats import Target, console
from ga_audit.logs.formats._text.pattern import compiled
from ga_audit.run import Counted, Role


def one(text, **keys):
    options = {name: value for name, value in keys.items() if name not in ("loss_key", "grad_norm_key")}
    named = {name: value for name, value in keys.items() if name in ("loss_key", "grad_norm_key")}
    (run,) = console.read(Target("train.log", text=text.encode(), options=options, **named))
    return run


def points(run, role):
    series = run.get(role)
    return (series.counted, series.position.tolist(), series.value.tolist())


STEP = Counted.OPTIMIZER_STEP


def test_names_of_the_user():
    text = "upd_no 10 | objective 2.5 | held_out 3.0 | acc_n 4\nupd_no 20 | objective 2.25 | held_out 2.75 | acc_n 4\n"
    run = one(text, loss_key="objective", eval_loss_key="held_out", step_key="upd_no", ga_key="acc_n")
    assert points(run, Role.LOSS) == (STEP, [10, 20], [2.5, 2.25])
    assert points(run, Role.EVAL_LOSS) == (STEP, [10, 20], [3.0, 2.75])
    assert run.settings.ga == 4


def test_names_of_the_user_in_dicts_and_above_the_rows():
    text = "my_accum: 8\n{'n': 10, 'objective': 2.5}\n{'n': 20, 'objective': 2.25}\n"
    run = one(text, loss_key="objective", step_key="n", ga_key="my_accum")
    assert points(run, Role.LOSS) == (STEP, [10, 20], [2.5, 2.25])
    assert run.settings.ga == 8


def test_a_form_of_line():
    text = "noise loss 9.0\n    1 93.44 s run, 11.8750 loss, 1e-12 LR\n    2 101.78 s run, 11.5 loss, 1e-12 LR\n"
    run = one(text, line="{step} {_} s run, {loss} loss")
    assert points(run, Role.LOSS) == (STEP, [1, 2], [11.875, 11.5])


def test_a_form_with_epochs_and_micro_batches():
    text = "Epoch 1 it 10 | l=2.5 n=1.4K\nEpoch 1 it   20 | l=2.25 n=900\n"
    run = one(text, line="Epoch {epoch} it {iter} | l={loss} n={grad_norm}")
    assert points(run, Role.LOSS) == (Counted.MICRO_BATCH, [10, 20], [2.5, 2.25])
    assert points(run, Role.GRAD_NORM)[2] == [1400.0, 900.0]


@pytest.mark.parametrize(
    ("form", "message"),
    [("step {setp} loss {loss}", "--line: {setp} is not a place that is known"),
     ("step {step}", "--line: no place for a value")],
)  # fmt: skip
def test_a_form_that_cannot_be_meant(form, message, tmp_path):
    with pytest.raises(WrongUsage) as refused:
        compiled(form)
    assert refused.value.message == message
    (log := tmp_path / "train.log").write_text("step 1 loss 2.0\n")
    done = CliRunner().invoke(command, [str(log), "--line", form])
    assert done.exit_code == 2
    assert message in done.stderr


def test_options_of_the_command(tmp_path):
    (log := tmp_path / "train.log").write_text("1 93.44 s run, 11.8750 loss\n2 101.78 s run, 11.5 loss\n")
    done = CliRunner().invoke(command, [str(log), "--show-series", "--line", "{step} {_} s run, {loss} loss"])
    assert done.exit_code == 0, done.output
    assert "'loss': 2 points" in done.output


def test_a_text_that_is_not_read_shows_the_nearest_lines_and_the_option():
    text = "hello 1\nround 10 | my_nll 2.5 | speed 12.0\nround 20 | my_nll 2.25 | speed 12.5\nmemory used 3.5\n"
    with pytest.raises(UnreadableLog) as refused:
        one(text)
    assert refused.value.message == (
        "no line holds a training loss or a gradient norm; the nearest lines are "
        "'round 10 | my_nll 2.5 | speed 12.0'; 'hello 1'; 'memory used 3.5'"
    )
    assert refused.value.remedy == (
        "Name the series, e.g. `--loss-key my_nll`, or give the form of the lines, "
        "e.g. `--line 'round {step} | my_nll {loss}'`."
    )
    assert points(one(text, loss_key="my_nll"), Role.LOSS)[2] == [2.5, 2.25]
    assert points(one(text, line="round {step} | my_nll {loss}"), Role.LOSS) == (STEP, [10, 20], [2.5, 2.25])


def test_the_form_that_takes_time_is_bounded():
    with pytest.raises(AuditError):
        one("a " * 50_000, line="{_} a {_} b {_} {loss}")


def test_the_suggested_form_takes_no_epoch_for_a_step():
    from ga_audit.logs.formats._text import near

    line = "[run] epoch 1 batch 10/400 | closs 8.31 | gn 3.1"
    assert near._form(line, "closs") == "[run] epoch {epoch} batch {step}/{_} | closs {loss}"
