"""Logs as people have them, from public threads and files: what is read of each is exactly right.

Each case lies in `tests/golden/cases`. What a case expects of the verdict, and not of the reader, is listed in
`VERDICT_ONLY`, with the reason.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ga_audit.cli.inspect import command
from ga_audit.logs import discovery
from ga_audit.run import Counted, Role, Run

CASES = Path(__file__).parents[1] / "golden" / "cases"
STEP, MICRO, EPOCH, ORDER = Counted.OPTIMIZER_STEP, Counted.MICRO_BATCH, Counted.EPOCH, Counted.ORDER

# The reader's part of these stands below; the verdict is decided by rules outside the reader.
VERDICT_ONLY = {
    "labels-two-runs": "scaled: an exact factor of 2 at every point",
    "labels-two-releases": "scaled in the second release: the release contrast",
    "exact-double": "scaled: an exact factor of 2 at every point",
    "exact-equal": "healthy: equal at every point",
    "dpo-mid-run": "undecided: the rule of ln 2 needs the start of the training, and ORDER is no start",
    "kto-then-nan": "undecided: one usable point",
    "epochs-restart": "scaled as epochs-flat is",
    "notebook-table": "a single run at 8 times its evaluation loss",
    "model-card": "a single run at 8 times its evaluation loss",
    "wrapped-dict": "healthy: ln 2 at the first line of DPO",
    "perplexity-base-two": "undecided: perplexity of base 2 is the loss again",
    "release-of-another-package": "a release of a package that computes no loss is no evidence",
    "grpo-zero-loss": "undecided: the loss of GRPO is near 0 by construction",
    "iter-and-step": "healthy on optimizer steps",
}


def runs_of(path, **keys):
    found = list(discovery.find_runs([str(CASES / path)], **keys))
    assert all(isinstance(run, Run) for run in found), found
    return found


def points(run, role):
    """The counted unit, positions and values of a role; None where the run has none."""
    series = run.get(role)
    return None if series is None else (series.counted, series.position.tolist(), series.value.tolist())


def one(path, **keys):
    (run,) = runs_of(path, **keys)
    return run


LOSSES = {
    "hand-written-loops/brackets.log": (STEP, [100, 200], [0.2345, 0.2245]),
    "hand-written-loops/capitals.log": (STEP, [0, 5, 10, 15], [9.781, 8.111, 6.661, 5.961]),
    "hand-written-loops/epochs.log": (STEP, [100, 200, 400, 500, 700, 800], [2.3, 2.2, 1.9, 1.8, 1.7, 1.6]),
    "hand-written-loops/hdr2.log": (STEP, [100, 200], [2.31, 2.21]),
    "hand-written-loops/host.log": (STEP, [100, 200], [2.31, 2.21]),
    "other-trainers/detectron2.log": (STEP, [639, 659, 679], [1.194, 1.172, 1.12]),
    "other-trainers/espnet2.log": (MICRO, [90, 180, 270], [80.856, 77.334, 68.536]),
    "other-trainers/keras.log": (EPOCH, [1, 2, 3, 4, 5], [0.6911, 0.6898, 0.6876, 0.69, 0.6883]),
    "other-trainers/minimind.log": (
        MICRO, [0, 100, 200, 300, 400, 500, 600, 700], [8.863, 5.251, 4.716, 4.324, 4.061, 3.599, 3.665, 3.46],
    ),
    "other-trainers/mmdet.log": (MICRO, [50, 100], [3.4, 3.053]),
    "other-trainers/nanotron.log": (STEP, [91, 191], [9.2, 9.18]),
    "other-trainers/swin.log": (MICRO, [13 * 1251 + 250, 13 * 1251 + 260], [6.5584, 5.8341]),
    "other-trainers/verl.log": None,
    "megatron-without-norm/train.log": (STEP, [1, 2], [10.65542, 10.6521]),
    "tensor-parallel/train.log": (STEP, [1, 2], [10.65542, 10.64566]),
    "mmengine-iter/paste.txt": (MICRO, [10, 20, 30, 40, 50], [0.9421, 0.9169, 0.8919, 0.8997, 0.971]),
    "progress-bar-postfix/paste.txt": (STEP, [16, 17, 18, 19], [0.078, 0.0695, 0.0693, 0.0693]),
    "step-inside-dict/train.log": (STEP, [186, 363], [7.238, 5.213]),
    "json-with-null/train.log": (STEP, [100, 200], [2.31, 2.21]),
    "perplexity-base-two/train.log": (STEP, [100, 200, 300], [130.784, 117.888, 110.088]),
    "log-history-printed/paste.txt": (STEP, [10, 20, 30], [2.7, 2.5, 2.3]),
    "notebook-table/paste.txt": (STEP, [10, 20, 30], [11.4616, 11.1023, 10.9771]),
    "model-card/README.md": (STEP, [5, 10, 15, 20], [12.5521, 11.8009, 11.2009, 10.9009]),
    "keras-history/history.json": (ORDER, [1, 2, 3, 4, 5], [0.6911, 0.6898, 0.6876, 0.69, 0.6883]),
    "wrapped-dict/paste.txt": (ORDER, [1], [0.6933]),
    "numpy-values/paste.txt": (ORDER, [1], [2.7]),
    "pretty-printed/paste.txt": (ORDER, [1], [2.7]),
    "dpo-mid-run/paste.txt": (ORDER, [1], [0.3537]),
    "grpo-zero-loss/paste.txt": (ORDER, [1, 2, 3, 4], [0.0, 0.0, 0.0, 0.0]),
    "ga-in-the-paste/cli_flag.txt": (ORDER, [1], [1.9543]),
    "ga-in-the-paste/dash.txt": (ORDER, [1], [1.9543]),
    "ga-in-the-paste/json_dump.txt": (ORDER, [1], [1.9543]),
    "release-of-another-package/paste.txt": (ORDER, [1], [1.9543]),
}  # fmt: skip


@pytest.mark.parametrize("path", LOSSES)
def test_the_loss_of_one_run(path):
    assert points(one(path), Role.LOSS) == LOSSES[path]


EVAL_LOSSES = {
    "hand-written-loops/capitals.log": (STEP, [0, 5, 10, 15], [9.933, 8.339, 7.048, 6.616]),
    "other-trainers/keras.log": (EPOCH, [1, 2, 3, 4, 5], [0.6785, 0.6689, 0.6712, 0.6936, 0.6661]),
    "tensor-parallel/train.log": (STEP, [2], [10.60287]),
    "json-with-null/train.log": (STEP, [200], [2.4]),
    "log-history-printed/paste.txt": (STEP, [20], [2.4]),
    "notebook-table/paste.txt": (STEP, [10, 20, 30], [1.4512, 1.4312, 1.401]),
    "model-card/README.md": (STEP, [5, 10, 15, 20], [1.5048, 1.4559, 1.4259, 1.4059]),
    "iter-and-step-validation/paste.txt": (STEP, [600], [1.7258]),
    "keras-history/history.json": (ORDER, [1, 2, 3, 4, 5], [0.6785, 0.6689, 0.6712, 0.6936, 0.6661]),
    "hand-written-loops/host.log": None,
    "other-trainers/minimind.log": None,
}


@pytest.mark.parametrize("path", EVAL_LOSSES)
def test_the_evaluation_loss_of_one_run(path):
    assert points(one(path), Role.EVAL_LOSS) == EVAL_LOSSES[path]


NORMS = {
    "hand-written-loops/hdr2.log": (STEP, [100, 200], [0.8, 0.7]),
    "other-trainers/espnet2.log": (MICRO, [90, 180, 270], [530.879, 616.627, 557.55]),
    "other-trainers/nanotron.log": (STEP, [91, 191], [1.4e6, 201e3]),
    "other-trainers/swin.log": (MICRO, [13 * 1251 + 250, 13 * 1251 + 260], [6.5613, 7.8036]),
    "other-trainers/verl.log": (STEP, [2, 52, 92, 122], [1.0, 1.321, 2.113, 1.704]),
    "numpy-values/paste.txt": (ORDER, [1], [0.91]),
    "tensor-parallel/train.log": (STEP, [1, 2], [14.113, 14.74]),
    "progress-bar-postfix/paste.txt": None,
}


@pytest.mark.parametrize("path", NORMS)
def test_the_gradient_norm_of_one_run(path):
    assert points(one(path), Role.GRAD_NORM) == NORMS[path]


GA_AND_BATCH = {
    "exact-double/ga1.txt": [(1, 6)],
    "exact-double/ga2.txt": [(2, 3)],
    "exact-equal/ga8.txt": [(8, None)],
    "labels-two-runs/paste.txt": [(1, 6), (2, 3)],
    "ga-in-the-paste/cli_flag.txt": [(8, 2)],
    "ga-in-the-paste/dash.txt": [(8, None)],
    "ga-in-the-paste/json_dump.txt": [(2, 4)],
    "hand-written-loops/hdr2.log": [(8, None)],
    "iter-and-step/ga8.txt": [(8, None)],
    "iter-and-step-validation/paste.txt": [(8, None)],
    "model-card/README.md": [(8, 4)],
    "tensor-parallel/train.log": [(4, 4)],
    "release-of-another-package/paste.txt": [(4, 2)],
    "markdown-columns/table.md": [(None, None)] * 3,
    "bold-values/paste.txt": [(None, None)] * 2,
}


@pytest.mark.parametrize("path", GA_AND_BATCH)
def test_ga_and_micro_batch_of_every_run(path):
    found = [(r.settings.ga, r.settings.micro_batch_size and r.settings.micro_batch_size.value) for r in runs_of(path)]
    assert found == GA_AND_BATCH[path]


def test_labels_name_the_runs_and_their_releases():
    one, two = runs_of("labels-two-releases/paste.txt")
    assert [one.name, two.name] == ["transformers==4.45.2", "transformers==4.46.1"]
    assert [run.settings.packages["transformers"].value for run in (one, two)] == ["4.45.2", "4.46.1"]
    assert [run.name for run in runs_of("bold-values/paste.txt")] == ["With the patch", "without the patch"]
    assert [points(run, Role.LOSS) for run in runs_of("bold-values/paste.txt")] == [
        (STEP, [5], [4.7581]),
        (STEP, [5], [0.8759]),
    ]


def test_a_column_for_each_run():
    runs = runs_of("markdown-columns/table.md")
    assert [run.name for run in runs] == ["ZeRO-1", "ZeRO-2", "ZeRO-3"]
    assert [run.get(Role.LOSS).value.tolist()[2] for run in runs] == [1.43359375, 1.43359375, 1.4326171875]
    assert points(runs[0], Role.LOSS)[:2] == (STEP, [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("name", ["ga1.txt", "ga2.txt"])
def test_steps_that_restart_with_each_epoch_are_those_of_one_run(name):
    restart, flat = one(f"epochs-restart/{name}"), one(f"epochs-flat/{name}")
    assert restart.get(Role.LOSS).value.tolist() == flat.get(Role.LOSS).value.tolist()
    assert restart.get(Role.LOSS).position.tolist() == list(range(96))  # they begin at 0
    assert flat.get(Role.LOSS).position.tolist() == list(range(1, 97))
    assert restart.get(Role.LOSS).derived
    assert not flat.get(Role.LOSS).derived


def test_steps_are_optimizer_steps_where_iterations_stand_beside_them():
    assert one("iter-and-step/ga1.txt").get(Role.LOSS).position.tolist()[:3] == [10, 15, 20]
    assert one("iter-and-step/ga8.txt").get(Role.LOSS).position.tolist()[:3] == [5, 10, 15]
    validation = points(one("iter-and-step-validation/paste.txt"), Role.LOSS)
    assert validation[1] == [220, 221, 222, 223, 225, 226, 227, 601, 602, 603, 605, 606]


def test_a_loss_is_read_under_the_name_that_the_user_gives():
    run = one("named-loss-key/paste.txt", loss_key="embedding_loss")
    assert run.get(Role.LOSS).value.tolist()[:3] == [0.0529, 0.0492, 0.0591]
    assert run.get(Role.EVAL_LOSS).name == "eval_embedding_loss"


def test_data_parallel_ranks_are_not_the_world():
    assert one("tensor-parallel/train.log").settings.world_size.value == 2


@pytest.mark.parametrize(
    "text",
    [
        "step,loss,val_loss\n10,2.5,2.75\n20,2.25,2.5\n",
        "Step\tTraining Loss\tValidation Loss\n10\t2.5\t2.75\n20\t2.25\t2.5\n",
    ],
)
def test_a_table_on_standard_input(text):
    done = CliRunner().invoke(command, ["-", "--show-series"], input=text)
    assert done.exit_code == 0, done.output
    lines = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  series")]
    assert sorted(lines) == ["eval_loss", "loss"]
