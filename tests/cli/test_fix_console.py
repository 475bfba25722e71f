"""`fix` on the text of every trainer that the console format reads: the exact bytes of the corrected copy.

`[[8.0|1.000]]` in a text stands for a number as logged and as corrected; all else must stay.
"""

import re

import pytest
from click.testing import CliRunner

import ga_audit
from ga_audit.cli.fix import command

MARK = re.compile(r"\[\[(.*?)\|(.*?)\]\]")
FIRST = f"# corrected by ga-audit {ga_audit.__version__}\n".encode()

# two runs each, the second at GA 8 with loss and grad_norm summed, and lines of evaluation
FORMS = {
    "hf-numbers": (
        "{'loss': 3.0, 'grad_norm': 1.5, 'learning_rate': 5e-05, 'epoch': 0.5}\n"
        "{'eval_loss': 2.9, 'eval_runtime': 1.25, 'epoch': 0.5}\n"
        "{'loss': 2.5, 'grad_norm': 1.25, 'learning_rate': 4e-05, 'epoch': 1.0}\n"
        "{'train_runtime': 9.5, 'train_loss': 2.75, 'epoch': 1.0}\n"
        "{'loss': [[24.0|3.000]], 'grad_norm': [[12.0|1.500]], 'learning_rate': 5e-05, 'epoch': 0.5}\n"
        "{'eval_loss': 2.9, 'eval_runtime': 1.25, 'epoch': 0.5}\n"
        "{'loss': [[20.0|2.500]], 'grad_norm': nan, 'learning_rate': 4e-05, 'epoch': 1.0}\n"
        "{'train_runtime': 9.5, 'train_loss': [[22.0|2.750]], 'epoch': 1.0}\n"
    ),
    "hf-text-and-bars": (
        "{'loss': '3.0', 'grad_norm': '1.5', 'epoch': '0.5'}\r\n"
        "  0%|          | 0/2 [00:00<?, ?it/s]\r 50%|█████     | 1/2 loss=24.0"
        "\r\x1b[32m{'loss': '[[24.01|3.001]]', 'grad_norm': '[[1.2e+01|1.500e+00]]', 'epoch': '0.25'}\x1b[0m   \r\n"
        "[INFO] é >> {'eval_loss': '2.9', 'epoch': '0.25'} 'loss': 24.0\r\n"
        "{'é': 1, 'loss': inf, 'grad_norm': [[16|2]], 'epoch': '0.5'}\r\n"
    ),
    "torchtune": (
        "Step 1 | loss:3.0 lr:2e-05 grad_norm:1.5 \n"
        "Step 2 | loss:2.5 lr:2e-05 grad_norm:1.5 \n"
        "Step 1 | loss:[[24.123456789|3.0154320986]] lr:2e-05 tokens_per_second_per_gpu:900 grad_norm:[[12.0|1.500]] \n"
        "Step 1 | val_loss:2.9 \n"
        "Step 2 | loss:1 loss:[[20.5|2.562]] grad_norm:[[8.0|1.000]] \n"
    ),
    "nanogpt": (
        "iter 10: loss 3.2000, time 120.00ms, mfu 30.00%\n"
        "step 20: train loss 3.1000, val loss 3.9000\n"
        "iter 20: loss 3.1000, time 120.00ms, mfu 30.00%\n"
        "step 0: train loss 30.1000, val loss 3.9000\n"
        "iter 10: loss [[31.2000|3.90000]], time 120.00ms, mfu 30.00%\n"
        "step 20: train loss 30.1000, val loss 3.9000\n"
        "iter 20: loss [[7.2000|0.90000]], time 120.00ms, mfu 30.00%\n"
    ),
    "megatron": (
        " iteration      100/  250000 | consumed samples:       124928 | learning rate: 9.150E-06 | lm loss: 2.504220E+00 "
        "| loss scale: 1.0 | grad norm: 0.231 |\n"
        " validation loss at iteration 100 | lm loss value: 2.504220E+00 | lm loss PPL: 1.2E+01 |\n"
        " [2026-01-01 00:00:00] iteration       50/  250000 | consumed samples:       124928 | learning rate: 9.150E-06 "
        "| lm loss: [[2.000000E+01|2.500000E+00]] | loss scale: 1.0 | grad norm: [[0.231|0.02888]] |\n"
        " validation loss at iteration 50 | lm loss value: 2.504220E+00 | lm loss PPL: 1.2E+01 |\n"
        " iteration      100/  250000 | lm loss: [[1.600000E+01|2.000000E+00]] | grad norm: [[16.000|2.0000]] |\n"
    ),
    "mlx": (
        "Iter 8: Train loss 3.9, Learning Rate 1.000e-05, Trained Tokens 1000\n"
        "Iter 16: Val loss 3.9, Val took 1.2s\n"
        "Iter 16: Train loss 3.8, Learning Rate 1.000e-05, Trained Tokens 2000\n"
        "Iter 1: Val loss 3.9, Val took 1.2s\n"
        "Iter 8: Train loss [[31.2|3.900]], Learning Rate 1.000e-05, It/sec 1.2, Trained Tokens 1000\n"
        "Iter 16: Val loss 3.9, Val took 1.2s\n"
        "Iter 16: Train loss [[24|3]], Learning Rate 1.000e-05, Trained Tokens 2000\n"
    ),
    "litgpt": (
        "Epoch 1 | iter 4 step 1 | loss train: 2.345, val: n/a | iter time: 120.00 ms (step)\n"
        "Epoch 1 | iter 8 step 2 | loss train: 2.345, val: 2.9 | iter time: 120.00 ms (step)\n"
        "Epoch 1 | iter 8 step 1 | loss train: [[18.760|2.3450]], val: n/a | iter time: 120.00 ms (step)\n"
        "Epoch 1 | iter 16 step 2 | loss train: [[17.600|2.2000]], val: 2.9 | iter time: 120.00 ms (step)\n"
    ),
    "fairseq": (
        "2023-05-23 15:21:54 | INFO | train_inner | epoch 001: 10 / 64 loss=2.348, num_updates=10, lr=9.5e-05, gnorm=1.819\n"
        "2023-05-23 15:21:54 | INFO | valid | valid_loss=2.9, num_updates=10\n"
        "2023-05-23 15:21:54 | INFO | train_inner | epoch 001: 20 / 64 loss=2.348, num_updates=20, lr=9.5e-05, gnorm=1.819\n"
        "2023-05-23 15:21:54 | INFO | train_inner | epoch 001: 10 / 64 loss=[[18.784|2.3480]], nll_loss=18.784, "
        "num_updates=10, lr=9.5e-05, gnorm=[[14.552|1.8190]], clip=100\n"
        "2023-05-23 15:21:54 | INFO | valid | valid_loss=2.9, num_updates=10\n"
        "2023-05-23 15:21:54 | INFO | train_inner | epoch 001: 20 / 64 loss=[[1,600.5|200.06]], num_updates=1,020, "
        "gnorm=[[8.0|1.000]], clip=100\n"
    ),
    "torchtitan": (
        "[rank0]:step: 10  loss:  7.1234  grad_norm: 1.5  memory: 40GiB\n"
        "[rank0]:step: 20  loss:  7.1234  grad_norm: 1.5  memory: 40GiB\n"
        "[rank0]:\x1b[31mstep: 10  \x1b[32mloss:  [[57.1240|7.14050]]  \x1b[33mgrad_norm: [[12.0000|1.50000]]  memory: 40GiB\n"
        "[rank0]:step: 20  loss:  [[56.1232|7.01540]]  grad_norm: [[12.0000|1.50000]]  memory: 40GiB\n"
    ),
    "log.txt": (
        "0 val 3.9\n250 train 3.123456\n250 val 3.8\n0 train [[88.0|11.00]]\n250 val 3.8\n250 train [[24.983456|3.1229320]]\n"
    ),
    "own-loop": (
        "step 10 | loss 2.31 | grad_norm 0.8\n"
        "step 20 | loss 2.31 | grad_norm 0.8\n"
        "step 10 | Train Loss: 18.48, grad norm [[6.4|0.8000]] | loss [[18.48|2.310]]\n"
        "step 10 | val loss 2.31\n"
        "step=20 loss=[[-16.0|-2.000]], grad norm=[[+8.0|+1.000]]\n"
    ),
}  # fmt: skip


def fix(path, *arguments):
    return CliRunner().invoke(command, [str(path), *arguments])


def both(text):
    return MARK.sub(r"\1", text).encode(), MARK.sub(r"\2", text).encode()


@pytest.mark.parametrize("form", FORMS)
def test_numbers_change_where_they_were_read_and_nowhere_else(form, tmp_path):
    before, after = both(FORMS[form])
    (log := tmp_path / "train.log").write_bytes(before)
    known = ("--ga", "train (run 1)=1", "--ga", "train (run 2)=8", "--assume", "loss=1,grad_norm=1")
    done = fix(log, *known)
    assert done.exit_code == 0, done.output
    assert "unchanged: train (run 1)\n" in done.output
    (copy,) = (tmp_path / "train.log-ga-audit").rglob("*.log")
    assert copy.read_bytes() == FIRST + after
    assert log.read_bytes() == before
    again = fix(copy, "--ga", "8", "--assume", "loss=1", "-o", str(tmp_path / "again"))
    assert (again.exit_code, (tmp_path / "again").exists()) == (0, False)


def test_one_copy_has_the_corrections_of_all_runs_of_a_file(tmp_path):
    before, after = both(
        "step 1 loss 3.0\nstep 2 loss 2.0\nstep 1 loss [[6.0|3.000]]\nstep 2 loss [[4.0|2.000]]\n"
        "step 1 loss [[24.0|3.000]]\nstep 2 loss [[16.0|2.000]]\n"
    )
    (log := tmp_path / "train.log").write_bytes(before)
    ga = [f"--ga=train (run {run})={ga}" for run, ga in ((1, 1), (2, 2), (3, 8))]
    done = fix(log, *ga, "--assume", "loss=1", "-o", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()) == [
        "DIAGNOSIS.md", "ga-audit.json", "train/train.log",
    ]  # fmt: skip
    assert (tmp_path / "out/train/train.log").read_bytes() == FIRST + after


def test_bytes_that_are_no_text_stay(tmp_path):
    before = b"\xff\xfe\x80 step 1 loss 8.0 \xc3\x28\nstep 2 loss 16.0\n\x00\x00"
    (log := tmp_path / "train.log").write_bytes(before)
    done = fix(log, "--ga", "8", "--assume", "loss=1", "-o", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    (copy,) = (tmp_path / "out").rglob("*.log")
    assert copy.read_bytes() == FIRST + before.replace(b"8.0", b"1.000").replace(b"16.0", b"2.000")


@pytest.mark.parametrize(
    "content",
    [b"step 1 loss 8\x00.0\nstep 2 loss 16.0\n", b"step 1 loss 8\x1b[0m.0\nstep 2 loss 16.0\n"],
    ids=["a NUL inside a number", "a colour inside a number"],
)
def test_a_number_that_is_not_one_piece_of_text_is_refused(content, tmp_path):
    (log := tmp_path / "train.log").write_bytes(content)
    done = fix(log, "--ga", "8", "--assume", "loss=1", "-o", str(tmp_path / "out"))
    assert done.exit_code == 3
    assert "cannot be written back: 'loss' at step 1 is not one piece of text" in done.output
    assert not (tmp_path / "out").exists()


def test_standard_input_is_refused(tmp_path):
    arguments = ["-", "--ga", "8", "--assume", "loss=1", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(command, arguments, input="step 1 loss 8.0\n")
    assert done.exit_code == 3
    assert "Save it to a file" in done.output
    assert not (tmp_path / "out").exists()


ONE_RUN = {
    "table": "| Step | Training Loss | Validation Loss |\n|---|---|---|\n"
    "| 10 | [[20.0|2.500]] | 2.5 |\n| 20 | [[18.0|2.250]] | 2.4 |\n",
    "tabs": "Step\tTraining Loss\tValidation Loss\n10\t[[20.0|2.500]]\t2.5\n20\t[[18.0|2.250]]\t2.4\n",
    "bars": "Steps:   0%|▏  | 1/9 [00:02<33:18,  2.00s/it, lr=0.1, step_loss=[[8.0|1.000]]]\r"
    "Steps:   0%|▏  | 2/9 [00:03<33:18,  2.00s/it, lr=0.1, step_loss=[[4.0|0.5000]]]\n",
    "wrapped": "{'loss': [[16.0|2.000]],\n 'step': 10}\n{'loss':\n [[8.0|1.000]], 'step': 20}\n",
    "bold and quotes": "{“loss”: **[[16.0|2.000]]**, “step”: 10}\n"
    "> {&#39;loss&#39;: [[8.0|1.000]], &#39;step&#39;: 20}\n",
    "mean in parentheses": "Train: [1/9][10/99]\tloss [[8.0000|1.0000]] (9.0000)\n"
    "Train: [1/9][20/99]\tloss [[4.0000|0.50000]] (9.0000)\n",
}


@pytest.mark.parametrize("form", ONE_RUN)
def test_numbers_change_where_one_run_was_read(form, tmp_path):
    before, after = both(ONE_RUN[form])
    (log := tmp_path / "train.log").write_bytes(before)
    done = fix(log, "--ga", "8", "--assume", "loss=1")
    assert done.exit_code == 0, done.output
    (copy,) = (tmp_path / "train.log-ga-audit").rglob("*.log")
    assert copy.read_bytes() == FIRST + after


def test_a_dict_that_a_bar_interrupts_has_no_place_and_is_refused(tmp_path):
    text = "{'loss': 16.0,\n 50%|█ | 1/2 [00:01<00:01, 1.00it/s]\n 'step': 10}\n"
    (log := tmp_path / "train.log").write_text(text)
    done = fix(log, "--ga", "8", "--assume", "loss=1")
    assert done.exit_code == 3
    assert "cannot be written back" in done.output
