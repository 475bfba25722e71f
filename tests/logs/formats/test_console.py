import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ga_audit.errors import AuditError
from ga_audit.logs.formats import Rescale, Rewrite, Target, console
from ga_audit.run import Counted, Role, Source

SAMPLE = Path(__file__).parents[3] / "sample_logs/console-4.48.0/ga8.log"


def read(text, name="train.log"):
    return list(console.read(Target(name, text=text.encode())))


def one(text):
    (run,) = read(text)
    return run


def test_what_a_real_trainer_printed():
    (run,) = console.read(Target(str(SAMPLE)))
    assert len(run.get(Role.LOSS)) == 40
    assert run.get(Role.LOSS).value[0] == 33.3967
    assert run.settings.ga == 8
    assert run.settings.micro_batch_size.value == 2
    assert run.get(Role.SUMMARY_LOSS) is not None
    loss = run.get(Role.LOSS)
    assert loss.position.tolist() == list(range(1, 41))  # of the bars: the lines themselves hold no step
    assert (loss.counted, loss.derived) == (Counted.OPTIMIZER_STEP, True)
    assert [n.code for n in run.notes] == ["step-from-text"]


def test_lines_among_bars_colours_prefixes_and_line_ends():
    text = (" 10%|█  | 1/10 [00:01<00:09]\r\x1b[32m{'loss': 10.5949, 'grad_norm': 188.29, 'epoch': 0.25}\x1b[0m   \r\n"
            "[INFO|trainer.py:398] 2021-01-15 >> {'loss': 0.63, 'epoch': 0.5} done\r\n\x00")  # fmt: skip
    assert one(text).get(Role.LOSS).value.tolist() == [10.5949, 0.63]


def test_newer_releases_print_text_and_nan_is_a_number():
    run = one("{'loss': '4.583', 'grad_norm': 'nan', 'epoch': '0.25'}\n{'loss': nan, 'grad_norm': inf, 'epoch': 0.5}\n")
    assert run.get(Role.LOSS).value[0] == 4.583
    assert np.isnan(run.get(Role.LOSS).value[1])
    assert np.isinf(run.get(Role.GRAD_NORM).value[1])


def test_several_runs_in_one_file():
    lines = ["{'loss': 3.0, 'epoch': 0.5}", "{'loss': 2.0, 'epoch': 1.0}"]
    header = "  Num examples = 10\n  Gradient Accumulation steps = 4\n"
    assert len(read("\n".join(lines * 2))) == 2  # the epoch goes back
    runs = read(header + "\n".join(lines) + "\n" + header.replace("4", "8") + "\n".join(lines))
    assert [run.settings.ga for run in runs] == [4, 8]


def test_eval_rows_do_not_split_a_run():
    text = "{'loss': 3.0, 'epoch': 1.0}\n{'eval_loss': 2.9, 'epoch': 1.0}\n{'loss': 2.5, 'epoch': 2.0}\n"
    run = one(text)
    assert run.get(Role.EVAL_LOSS).value.tolist() == [2.9]
    assert len(run.get(Role.LOSS)) == 2


def test_a_pasted_pair_without_epoch():
    assert one("{'loss': 2.0}\n{'loss': 1.5}\n").get(Role.LOSS).position.tolist() == [1, 2]


def test_steps_from_total_and_epochs():
    text = "  Num Epochs = 2\n  Total optimization steps = 100\n" + "".join(
        f"{{'loss': {3 - i / 10}, 'epoch': {0.2 * (i + 1):.1f}}}\n" for i in range(10)
    )
    assert one(text).get(Role.LOSS).position.tolist() == list(range(10, 101, 10))


FAMILIES = {
    "torchtune": ("Step 10 | loss:1.234 lr:2e-05 tokens_per_second_per_gpu:900 grad_norm:0.9 ", 10, 1.234, 0.9),
    "nanogpt": ("iter 10: loss 3.2000, time 120.00ms, mfu 30.00%", 10, 3.2, None),
    "megatron": (" iteration      122/  250000 | consumed samples:       124928 | learning rate: 9.150E-06 | "
                 "global batch size:  1024 | lm loss: 2.504220E+00 | loss scale: 1.0 | grad norm: 0.231 |", 122, 2.50422, 0.231),
    "litgpt": ("Epoch 1 | iter 4 step 1 | loss train: 2.345, val: n/a | iter time: 120.00 ms (step)", 1, 2.345, None),
    "fairseq": ("2023-05-23 15:21:54 | INFO | train_inner | epoch 141:   1161 / 1964 loss=2.348, wpb=63432.1, "
                "num_updates=276100, lr=9.5e-05, gnorm=1.819, clip=100", 276100, 2.348, 1.819),
    "torchtitan": ("[rank0]:step: 20  loss:  7.1234  grad_norm: 1.5  memory: 40GiB", 20, 7.1234, 1.5),
    "log.txt": ("250 train 3.123", 250, 3.123, None),
    "own loop": ("step 10 | loss 2.31 | grad_norm 0.8", 10, 2.31, 0.8),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_lines(family):
    line, step, loss, norm = FAMILIES[family]
    run = one(line)
    assert run.get(Role.LOSS).position.tolist() == [step]
    assert run.get(Role.LOSS).value.tolist() == [loss]
    assert (run.get(Role.GRAD_NORM).value.tolist() if norm else run.get(Role.GRAD_NORM)) == ([norm] if norm else None)


def test_mlx_counts_micro_batches():
    lines = [f"Iter {i}: Train loss {3 - i / 100}, Learning Rate 1.000e-05, Trained Tokens {i}" for i in (8, 16, 24)]
    lines.append("Iter 24: Val loss 2.8, Val took 1.2s")
    run = one("\n".join(lines))
    assert any(n.code == "micro-batch-steps" for n in run.notes)
    assert run.get(Role.EVAL_LOSS).value.tolist() == [2.8]
    run = one("gradient accumulation steps = 8\n" + "\n".join(lines))
    assert run.get(Role.LOSS).position.tolist() == [1, 2, 3]


@given(st.text(max_size=400))
def test_any_text_is_an_error_or_runs(text):
    try:
        list(console.read(Target("x.log", text=text.encode("utf-8", "surrogatepass"))))
    except AuditError as error:
        assert error.remedy


@given(st.integers(0, 7000))
def test_cut_anywhere(at):
    try:
        list(console.read(Target("x.log", text=SAMPLE.read_bytes()[:at])))
    except AuditError as error:
        assert error.where == "x.log"


def test_nothing_is_evaluated():
    with pytest.raises(AuditError):
        read("{'loss': __import__('os').system('true')}")


def test_a_corrected_copy_is_the_same_text_with_other_numbers(tmp_path):
    (run,) = console.read(Target(str(SAMPLE)))
    change = Rewrite([Rescale("loss", Role.LOSS, np.array([0]), np.array([8.0]))], {"version": "ga-audit 1"})
    (path,) = console.write(run.sources[0], change, tmp_path)
    (new,) = console.read(Target(str(path)))
    assert new.get(Role.LOSS).value == pytest.approx(run.get(Role.LOSS).value / 8, rel=1e-3)
    assert new.get(Role.GRAD_NORM).value.tolist() == run.get(Role.GRAD_NORM).value.tolist()
    assert new.corrected_by == "ga-audit 1"
    before, after = SAMPLE.read_bytes().split(b"\n"), path.read_bytes().split(b"\n")[1:]
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 40


LINES = {
    "hf": ["{{'loss': {v}, 'grad_norm': '{w}', 'epoch': {s}.0}}", "{{'eval_loss': {v}, 'epoch': {s}.0}}"],
    "torchtune": ["Step {s} | loss:{v} lr:2e-05 grad_norm:{w} ", "Step {s} | val_loss:{v} "],
    "nanogpt": ["iter {s}: loss {v}, time 1.0ms", "step {s}: train loss {w}, val loss {v}"],
    "megatron": [" iteration {s}/ 900 | lm loss: {v} | grad norm: {w} |", " loss at iteration {s} | lm loss value: {v} |"],
    "mlx": ["Iter {s}: Train loss {v}, Learning Rate 1.000e-05, Trained Tokens 7", "Iter {s}: Val loss {v}, Val took 1s"],
    "litgpt": ["Epoch 1 | iter 9 step {s} | loss train: {v}, val: n/a |",
               "Epoch 1 | iter 9 step {s} | loss train: {v}, val: {w} |"],
    "fairseq": ["x | loss={v}, nll_loss={w}, num_updates={s}, gnorm={w}, clip=1", "valid | valid_loss={v}, num_updates={s}"],
    "torchtitan": ["[rank0]:step: {s}  loss:  {v}  grad_norm: {w}  memory: 4GiB"],
    "log.txt": ["{s} train {v}", "{s} val {v}"],
    "own loop": ["step {s} | loss {v} | grad_norm {w}", "step={s} train loss={v}", "step {s} val loss {v}"],
}  # fmt: skip
NOISE = ["", " 10%|█  | 1/10", "loss is 8.0", "\x1b[1mhello\x1b[0m 3.5", "{'a': 8.0}", "saving ... é \udcff 12.5\r\r"]
NUMBERS = st.one_of(
    st.floats(0.01, 1000).map(lambda x: f"{x:.4f}"),
    st.floats(0.01, 1000).map(lambda x: f"{x:.6E}"),
    st.floats(0.01, 1000).map(repr),
    st.integers(1, 500).map(str),
)
TOKEN = re.compile(rb"(?<![\w.])\d[\d.]*(?:[eE][-+]?\d+)?")


@st.composite
def texts(draw):
    form = LINES[draw(st.sampled_from(sorted(LINES)))]
    line = st.builds(
        lambda template, s, v, w, bar, end: bar + template.format(s=s, v=v, w=w) + end,
        st.sampled_from(form), st.integers(1, 40), NUMBERS, NUMBERS, st.sampled_from(["", "50%| 8.0\r", "\x1b[32m"]),
        st.sampled_from(["\n", "\r\n", "\x1b[0m\n"]),
    )  # fmt: skip
    noise = st.sampled_from(NOISE).map(lambda text: text + "\n")
    lines = draw(st.lists(st.one_of(line, line, noise), min_size=1, max_size=12))
    return "".join(lines).encode("utf-8", "surrogateescape")


def series_of(runs):
    return {(run.sources[0].part, s.name): s for run in runs for s in run.series}


@settings(deadline=None)
@given(texts(), st.data())
def test_a_corrected_copy_differs_in_the_chosen_series_only(content, data):
    with tempfile.TemporaryDirectory() as folder:
        (log := Path(folder, "x.log")).write_bytes(content)
        try:
            before = series_of(console.read(Target(str(log))))
        except AuditError:
            return
        able = sorted(k for k, s in before.items() if s.role in (Role.LOSS, Role.GRAD_NORM))
        if not able:
            return
        chosen = data.draw(st.sets(st.sampled_from(able), min_size=1))
        rescales = [Rescale(name, before[part, name].role, np.array([0]), np.array([8.0]), part=part)
                    for part, name in chosen]  # fmt: skip
        (out := Path(folder, "out")).mkdir()
        (path,) = console.write(Source("console", str(log)), Rewrite(rescales, {"version": "1"}), out)
        after = series_of(console.read(Target(str(path))))
        new = path.read_bytes().partition(b"\n")[2]
    assert after.keys() == before.keys()
    for key, series in before.items():
        assert after[key].position.tolist() == series.position.tolist()
        if key in chosen:
            assert after[key].value == pytest.approx(series.value / 8, rel=5.01e-4)
        else:
            assert after[key].value.tolist() == series.value.tolist()
    assert TOKEN.sub(b"#", new) == TOKEN.sub(b"#", content)
    pairs = [(old, now) for old, now in zip(TOKEN.findall(content), TOKEN.findall(new), strict=True) if old != now]
    assert all(float(old) / float(now) == pytest.approx(8, rel=1e-3) for old, now in pairs)
    assert len(pairs) >= sum(len(before[key]) for key in chosen)
