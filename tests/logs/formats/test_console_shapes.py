"""Any shape of line: what is read depends on what stands there, not on who printed it or on the noise around it."""

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Target, console
from ga_audit.run import Counted, Role

# 25 loops as strangers write them; {s} a step, {v} a loss, {n} a norm, {i} the number of the row
SHAPES = {
    "colons": "step: {s} loss: {v} gnorm: {n}",
    "equals": "step={s} loss={v} grad_norm={n}",
    "blanks": "step {s} loss {v} norm {n}",
    "pipes": "| step {s} | loss {v} | grad norm {n} |",
    "commas": "step {s}, train_loss {v}, grad_norm {n}",
    "semicolons": "Step {s}; Loss = {v}; Grad_Norm = {n}",
    "arrows": "[{s}/5000] loss -> {v} grad_norm -> {n}",
    "capitals": "STEP {s} LOSS {v} GRAD_NORM {n}",
    "of": "Step {s} of 5000: loss {v}, gradient norm {n}",
    "tabs": "step\t{s}\tloss\t{v}\tgnorm\t{n}",
    "brackets": "[step {s}] [loss {v}] [grad_norm {n}]",
    "dict": "{{'step': {s}, 'loss': {v}, 'grad_norm': {n}}}",
    "json": '{{"global_step": {s}, "train/loss": {v}, "train/grad_norm": {n}}}',
    "json behind a prefix": 'metrics >> {{"step": {s}, "loss": "{v}", "grad_norm": "{n}"}}',
    "dict of tensors": "{{'step': {s}, 'loss': tensor({v}), 'grad_norm': np.float64({n})}}",
    "unquoted": "{{step: {s}, loss: {v}, grad_norm: {n}}}",
    "logger": "2024-05-06 07:08:09,123 - trainer - INFO - step {s} | loss: {v} | grad_norm: {n} | 12.5 samples/s",
    "absl": "I0506 07:08:09.123456 140 train.py:42] step {s}: loss={v}, grad_norm={n}",
    "percent": "{i}% done: global_step={s} loss={v} (gnorm {n})",
    "eta": "eta 1:02:03  step {s}/5000  lr 1.0e-04  loss {v} (9.9999)  grad_norm {n} (8.8888)",
    "rank": "[rank0]: step {s} loss {v} grad_norm {n} mem 12.3GiB",
    "sentence": "After update {s} the training loss is {v} and the gradient norm is {n}",
    "bold": "step **{s}**: loss **{v}**, grad_norm **{n}**",
    "quotes": "{{“step”: {s}, “loss”: {v}, “grad_norm”: {n}}}",
    "entities": "{{&#39;step&#39;: {s}, &#39;loss&#39;: {v}, &#39;grad_norm&#39;: {n}}}",
}
ROWS = [(10, 3.25, 1.5), (20, 3.125, 1.25), (30, 2.75, 1.0625), (40, 2.5, 0.75)]


def read(text):
    return list(console.read(Target("train.log", text=text.encode("utf-8", "surrogateescape"))))


def text_of(shape, rows=ROWS):
    return "".join(SHAPES[shape].format(s=s, v=v, n=n, i=i) + "\n" for i, (s, v, n) in enumerate(rows))


def series(text):
    (run,) = read(text)
    found = {}
    for role in (Role.LOSS, Role.GRAD_NORM):
        one = run.get(role)
        assert one is not None, role
        assert (one.counted, one.derived) == (Counted.OPTIMIZER_STEP, False) or "[10/5000]" in text
        found[role] = (one.position.tolist(), one.value.tolist())
    return found


EXPECTED = {
    Role.LOSS: ([s for s, _, _ in ROWS], [v for _, v, _ in ROWS]),
    Role.GRAD_NORM: ([s for s, _, _ in ROWS], [n for _, _, n in ROWS]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_loop_of_any_shape(shape):
    assert series(text_of(shape)) == EXPECTED


NOISE = [
    "", " 10%|█         | 1/10 [00:01<00:09,  1.00it/s]", "saving checkpoint to out/checkpoint-500", "Traceback ahead",
    "W0506 nccl 2.18.1 took 3.5 s", "warnings.warn(", "Some weights were not used: ['lm_head.weight']",
    "wandb: Run data is saved locally in /tmp/x", "GPU memory 12.3 GiB", "user@valhost ~ $ nvidia-smi",
]  # fmt: skip
PREFIXES = ["", "[valhalla-03] ", "2024-05-06 07:08:09 ", "INFO:trainer:", "[INFO|loop.py:12] ", "node1: ", "> "]


@settings(deadline=None)
@given(
    st.sampled_from(sorted(SHAPES)), st.sampled_from(PREFIXES), st.lists(st.sampled_from(NOISE), min_size=3, max_size=3),
    st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(["", "   ", " \t"]),
)  # fmt: skip
def test_noise_prefixes_line_ends_and_colours_change_nothing(shape, prefix, noise, end, colour, tail):
    if prefix and shape in ("tabs", "logger", "absl"):  # they have a prefix, or are a table
        prefix = ""
    lines = []
    for i, line in enumerate(text_of(shape).splitlines()):
        lines += [noise[i]] if i < len(noise) else []
        lines.append(f"{prefix}\x1b[32m{line}\x1b[0m{tail}" if colour else prefix + line + tail)
    assert series(end.join(lines) + end) == EXPECTED


COLUMNS = {
    "Step": [10, 20, 30],
    "Training Loss": [3.5, 3.25, 3.0],
    "Validation Loss": [3.75, 3.5, 3.25],
    "Wer": [0.5, 0.4, 0.3],
}


@settings(deadline=None)
@given(
    st.permutations(list(COLUMNS)),
    st.sampled_from(["|", "\t"]),
    st.sampled_from(["Step", "step", "Global Step", "update"]),
)
def test_a_table_under_any_order_of_its_columns(order, separator, counter):
    header = [counter if name == "Step" else name for name in order]
    rows = [[str(COLUMNS[name][i]) for name in order] for i in range(3)]
    if separator == "|":
        lines = ["| " + " | ".join(row) + " |" for row in (header, [":---:"] * 4, *rows)]
    else:
        lines = ["\t".join(row) for row in (header, *rows)]
    (run,) = read("\n".join(lines) + "\n")
    assert run.get(Role.LOSS).position.tolist() == [10, 20, 30]
    assert run.get(Role.LOSS).value.tolist() == COLUMNS["Training Loss"]
    assert run.get(Role.EVAL_LOSS).value.tolist() == COLUMNS["Validation Loss"]


def test_a_table_of_runs():
    runs = read(
        "| GA | loss | grad_norm |\n|---|---|---|\n| 1 | 2.715 | 1.1 |\n| 2 | 5.43 | 2.2 |\n| 8 | 21.72 | 8.8 |\n"
    )
    assert [run.settings.ga for run in runs] == [1, 2, 8]
    assert [run.name for run in runs] == ["GA 1", "GA 2", "GA 8"]
    assert [run.get(Role.LOSS).value.tolist() for run in runs] == [[2.715], [5.43], [21.72]]
    assert {run.get(Role.LOSS).counted for run in runs} == {Counted.ORDER}


def test_a_table_with_a_column_for_each_ga():
    runs = read("| step | GA=1 | GA=8 |\n|---|---|---|\n| 10 | 2.5 | 20.0 |\n| 20 | 2.25 | 18.0 |\n")
    assert [
        (run.settings.ga, run.get(Role.LOSS).position.tolist(), run.get(Role.LOSS).value.tolist()) for run in runs
    ] == [
        (1, [10, 20], [2.5, 2.25]),
        (8, [10, 20], [20.0, 18.0]),
    ]
    runs = read("step | loss (GA=1) | loss (GA=8)\n--- | --- | ---\n10 | 2.5 | 20.0\n")
    assert [(run.settings.ga, run.get(Role.LOSS).value.tolist()) for run in runs] == [(1, [2.5]), (8, [20.0])]


@pytest.mark.parametrize(
    ("label", "ga"),
    [("GA={}:", (1, 8)), ("### gradient_accumulation_steps = {}", (1, 8)), ("`--gradient_accumulation_steps {}`", (1, 8)),
     ("**GA {}**", (1, 8)), ("With grad accum {}:", (1, 8)), ("gas={}", (1, 8))],
)  # fmt: skip
@pytest.mark.parametrize("epoch", [", 'epoch': 0.1", ""])
def test_a_label_belongs_to_the_block_below_it(label, ga, epoch):
    block = f"{{'loss': 2.5{epoch}}}\n"
    runs = read("".join(f"{label.format(n)}\n```\n{block}```\n\n" for n in ga))
    assert [run.settings.ga for run in runs] == [1, 8]


@pytest.mark.parametrize(
    "line",
    ["gradient_accumulation_steps ...... 8", '"gradient_accumulation_steps": 8,', "'gradient_accumulation_steps': 8,",
     "accelerate launch t.py --gradient_accumulation_steps=8", "t.py --gradient-accumulation-steps 8", "GA=8", "ga: 8",
     "  Gradient Accumulation steps = 8", "grad_accum_steps=8", "accumulate_grad_batches: 8",
     "setting number of micro-batches to constant 8"],
)  # fmt: skip
def test_ga_in_any_form(line):
    (run,) = read(f"{line}\nstep 1 loss 2.5\nstep 2 loss 2.25\n")
    assert run.settings.ga == 8


def test_an_evaluation_banner_divides_nothing_and_a_closing_line_ends_a_training():
    train = "***** Running training *****\n  Num examples = 640\n"
    rows = "{'loss': 3.0, 'epoch': 0.5}\n"
    evaluation = (
        "***** Running Evaluation *****\n  Num examples = 64\n  Batch size = 8\n{'eval_loss': 2.9, 'epoch': 0.5}\n"
    )
    more = "{'loss': 2.5, 'epoch': 1.0}\n"
    closing = "{'train_runtime': 9.5, 'train_loss': 2.75, 'epoch': 1.0}\n"
    runs = read((train + rows + evaluation + more + closing) + (rows.replace("0.5", "1.5") + closing))
    assert [run.get(Role.LOSS).value.tolist() for run in runs] == [[3.0, 2.5], [3.0]]
    assert runs[0].get(Role.EVAL_LOSS).value.tolist() == [2.9]
    assert runs[0].get(Role.EVAL_LOSS).position.tolist() == [1]


def test_rows_of_several_ranks_are_one():
    lines = [f"[rank{r}]: step {s} loss {2.0 + r / 8} grad_norm 1.0" for s in (10, 20) for r in range(4)]
    (run,) = read("\n".join(lines))
    assert run.get(Role.LOSS).value.tolist() == [2.0, 2.0]
    assert [(note.code, note.count) for note in run.notes] == [("other-ranks", 6)]


def test_components_keep_their_names_and_the_plainest_is_the_loss():
    (run,) = read(
        "step 1 aux loss 0.0123 | loss 2.31 | nll_loss 1.5\nstep 2 aux loss 0.0122 | loss 2.25 | nll_loss 1.4\n"
    )
    assert run.get(Role.LOSS).name == "loss"
    assert run.get(Role.LOSS).value.tolist() == [2.31, 2.25]
    assert "aux_loss" in run.names


@pytest.mark.parametrize(
    ("text", "expected"),
    [("step 1 loss 2,31 lr 0,001\nstep 2 loss 2,25 lr 0,001\n", [2.31, 2.25]),
     ("step 1,000 loss 2.31\nstep 2,000 loss 2.25\n", [2.31, 2.25]),
     ("step 1 loss 8.30e-01\nstep 2 loss 1.4K\n", [0.83, 1400.0]),
     ("step 1 loss nan\nstep 2 loss inf\n", [np.nan, np.inf])],
)  # fmt: skip
def test_numbers_of_any_form(text, expected):
    (run,) = read(text)
    assert repr(run.get(Role.LOSS).value.tolist()) == repr(expected)


HOSTILE = {
    "blanks": b"transformers" + b" " * 100_000, "letters": b"loss" * 25_000, "digits": b"loss " + b"1" * 100_000,
    "commas": b"loss " + b"1,234," * 17_000, "dots": b"gradient_accumulation_steps " + b"." * 100_000,
    "quotes": b"{'loss': 1, " + b"'a" * 50_000, "braces": b"{" * 100_000 + b"loss", "brackets": b"loss [" + b"[(" * 50_000,
    "stars": b"**" * 50_000 + b"loss 1", "colons": b"loss" + b": " * 50_000, "slashes": b"loss " + b"1/" * 50_000,
    "words": b"step 1 loss 2 " + b"a b " * 25_000, "pipes": b"|" * 100_000 + b" loss |", "tabs": b"loss\t" * 20_000,
    "times": b"loss " + b"12:" * 33_000, "escapes": b"loss " + b"\x1b[" * 50_000, "quotes of blocks": b">" * 100_000 + b" loss 1",
    "entities": b"&quot;" * 16_000 + b"loss", "bars": b"%|loss " + b"1/2 [" * 20_000,
    "ga": b"ga " * 33_000, "minus": b"-" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_long_line_takes_linear_time(name):
    before = time.process_time()
    for text in (HOSTILE[name], HOSTILE[name] + b"\nstep 1 loss 2.5\n"):
        try:
            list(console.read(Target("x.log", text=text)))
        except AuditError:
            assert b"step 1 loss 2.5" not in text
    assert time.process_time() - before < 3


PIECES = st.sampled_from([
    "step", "loss", "epoch", "iter", " ", ":", "=", "{'loss': 2.5}", "'step': ", "|", "\n", "\r", "12", "7", "3.5", "/", "[", "]",
    "(", ")", "{", "}", ",", "eval", "train", "1.4K", "%|", "\t", "---", "GA", "nan", "\x1b[0m",
])  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_recorded_step_that_is_not_in_the_text(text):
    try:
        runs = read(text)
    except AuditError:
        return
    plain = text.replace("\x1b[0m", "")
    numbers = {float(n) for n in re.findall(r"\d+(?:\.\d+)?", plain)} | {n * 1000 for n in (1.4,)} | {0.0}
    for run in runs:
        for one in run.series:
            if one.counted is not Counted.ORDER and not one.derived:
                assert {float(p) for p in one.position} <= {float(int(n)) for n in numbers}


@pytest.mark.parametrize(
    "lines",
    [["GA 2: loss 2.715", "GA 8: loss 10.848"], ["ga=2 loss=2.715", "ga=8 loss=10.848"],
     ["gradient_accumulation_steps=2 -> loss 2.715", "gradient_accumulation_steps=8 -> loss 10.848"],
     ["with gradient accumulation 2 the loss is 2.715", "with gradient accumulation 8 the loss is 10.848"]],
)  # fmt: skip
def test_a_run_in_a_line(lines):
    runs = read("\n".join(lines) + "\n")
    assert [(run.settings.ga, run.get(Role.LOSS).value.tolist()) for run in runs] == [(2, [2.715]), (8, [10.848])]
    assert {run.get(Role.LOSS).counted for run in runs} == {Counted.ORDER}


def test_ga_in_every_row_is_one_run():
    (run,) = read("loss: 2.5 ga: 8\nloss: 2.25 ga: 8\n")
    assert run.settings.ga == 8
    assert run.get(Role.LOSS).value.tolist() == [2.5, 2.25]


def test_a_sentence_is_no_row_and_is_counted():
    (run,) = read(
        "the loss was 8.0 when I began\nGA=8 gives a loss of 10.8 and GA=1 gives a loss of 1.3\nstep 1 loss 2.5\n"
    )
    assert run.get(Role.LOSS).value.tolist() == [2.5]
    assert [(note.code, note.count) for note in run.notes] == [("unread-lines", 2)]


QUOTED = {
    "block quote": "> {'loss': 2.5, 'step': 10}\n> {'loss': 2.25, 'step': 20}\n",
    "no closing brace": "{'loss': 2.5, 'step': 10\n{'loss': 2.25, 'step': 20\n",
    "several in a line": "{'loss': 2.5, 'step': 10} {'loss': 2.25, 'step': 20}\n",
    "wrapped": "{'loss': 2.5,\n 'step': 10}\n{'loss':\n 2.25, 'step':\n20}\n",
    "nested": "{'train': {'loss': 2.5, 'step': 10}}\n{'train': {'loss': 2.25, 'step': 20}}\n",
    "dump above": "{\n  'batch_size': 4,\n  'learning_rate': 1e-4\n}\n{'loss': 2.5, 'step': 10}\n{'loss': 2.25, 'step': 20}\n",
    "other values": "{'loss': 2.5, 'step': 10, 'x': None, 'y': [1, 2], 'z': tensor([0.1]), 'w': 'a, b'}\n"
    "{'loss': 2.25, 'step': 20}\n",
}


@pytest.mark.parametrize("form", QUOTED)
def test_dicts_of_any_form(form):
    (run,) = read(QUOTED[form])
    loss = run.get(Role.LOSS)
    assert (loss.counted, loss.position.tolist(), loss.value.tolist()) == (
        Counted.OPTIMIZER_STEP,
        [10, 20],
        [2.5, 2.25],
    )
