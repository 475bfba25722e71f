"""Lines of 35 trainers and loops, cut from public threads or in their form: what is read of each is exactly right.

They were collected after the reader was written.
"""

from pathlib import Path

import pytest

from ga_audit.logs import discovery
from ga_audit.run import Counted, Role

LOGS = Path(__file__).parents[2] / "golden" / "trainers"
STEP, MICRO, EPOCH = Counted.OPTIMIZER_STEP, Counted.MICRO_BATCH, Counted.EPOCH

# loss, evaluation loss, gradient norm: the name, what positions count, positions, values
EXPECTED = {
    "accelerate": (("train_loss", STEP, [10, 20], [2.5, 2.4]),
        ("eval_loss", STEP, [10], [2.4999]), None),
    "caffe": (("loss", STEP, [100, 200], [2.3, 2.2]),
        None, None),
    "composer": (("loss/train/total", STEP, [1, 2], [11.6525, 11.5025]),
        ("metrics/eval/LanguageCrossEntropy", STEP, [2], [11.2]), None),
    "demucs": (("Loss", MICRO, [92187, 92239, 93340], [0.4485, 0.5611, 0.4285]),
        ("val_Loss", MICRO, [92239], [0.2185]), None),
    "detr": (("loss", MICRO, [0, 10], [42.3, 40.3]),
        ("val_loss", MICRO, [10], [20.1]), ("grad_norm", MICRO, [0, 10], [30.5, 31.5])),
    "diffusers": (("step_loss", STEP, [1, 2], [0.112, 0.0912]),
        None, None),
    "dspipe": (("loss", STEP, [10, 20], [2.34, 2.24]),
        None, None),
    "epochbatch": (("Loss", MICRO, [50, 100, 275], [3.2396, 3.1357, 2.5518]),
        ("test_loss", MICRO, [50, 100, 275], [3.1811, 2.7565, 2.5145]), None),
    "fastai": (("train_loss", EPOCH, [0, 1], [0.5123, 0.4523]),
        ("valid_loss", EPOCH, [0, 1], [0.4123, 0.3923]), None),
    "flair": (("loss", MICRO, [122, 244, 1349], [0.93329908, 0.7404656, 0.53329908]),
        ("val_loss", MICRO, [244], [0.03877527]), None),
    "icefall": (("loss", MICRO, [50, 100, 150, 200], [0.6898, 0.6618, 0.5418, 0.5983]),
        ("val_loss", MICRO, [100], [0.5412]), None),
    "icefall4": (("loss", MICRO, [5950, 6000], [0.4962, 0.4862]),
        None, None),
    "imagenet": (("Loss", MICRO, [10, 20, 5015], [6.9, 6.8, 5.9]),
        ("val_Loss", MICRO, [20], [6.7]), None),
    "kerasbar": (("loss", MICRO, [100, 200, 300], [0.6911, 0.6811, 0.6711]),
        ("val_loss", MICRO, [100, 200, 300], [0.6785, 0.6685, 0.6585]), None),
    "levanter": (("loss", STEP, [10, 20], [9.5, 8.5]),
        ("val_loss", STEP, [20], [8.4]), None),
    "llama2c": (("loss", STEP, [490, 500, 510], [5.7543, 6.0091, 5.2391]),
        ("val_loss", STEP, [500], [5.9544]), None),
    "marian": (("Cost", STEP, [1000, 2000], [6.39020014, 5.39020014]),
        None, ("gNorm", STEP, [1000, 2000], [0.8001, 0.7001])),
    "maxtext": (("loss", STEP, [1, 2], [12.979, 12.98]),
        None, None),
    "modula": (("train_loss", STEP, [10, 20], [3.11, 2.73]),
        ("test_loss", STEP, [10, 20], [3.05, 2.76]), None),
    "mst": (("avg_loss", EPOCH, [222, 223], [0.013878, 0.014044]),
        None, None),
    "nanogpt_ppl": (("loss", STEP, [0, 10, 20, 30], [4.2627, 3.168, 2.7816, 2.6216]),
        ("val_loss", STEP, [0, 25], [4.2848, 2.6545]), None),
    "nemo2": (("reduced_train_loss", STEP, [120, 121], [1.233, 1.288]),
        ("val_loss", STEP, [120, 121], [4.106, 4.106]), None),
    "nemo_bar": (("loss", MICRO, [794, 795], [3.2, 3.1]),
        None, None),
    "neox": (("lm_loss", STEP, [10, 20], [11.01, 10.81]),
        ("val_lm_loss", STEP, [20], [10.71]), None),
    "olmo": (("train/CrossEntropyLoss", STEP, [1, 2], [12.18, 11.87]),
        None, ("optim/total_grad_norm", STEP, [1, 2], [231.7, 12.5])),
    "opennmt": (("xent", STEP, [380000, 380050], [4.01, 4.02]),
        None, None),
    "paddleocr": (("loss", STEP, [100, 200], [115.099876, 119.360352]),
        None, None),
    "ppdet": (("loss", MICRO, [1800, 1832, 1932], [3.515841, 3.343108, 3.376305]),
        None, None),
    "primerl": (("loss", STEP, [289, 290], [0.431, 0.421]),
        None, None),
    "t2t": (("loss", STEP, [0, 100, 200], [9.0214, 7.1214, 6.5214]),
        ("val_loss", STEP, [200], [6.41]), None),
    "tf": (("loss", STEP, [1, 2, 100], [79.3501, 72.8609, 9.02]),
        None, None),
    "timm": (("Loss", MICRO, [0, 49, 422], [516.7, 36.77, 23.51]),
        None, None),
    "timm2": (("Loss", MICRO, [0, 50, 1251], [6.95, 6.94, 6.85]),
        ("val_Loss", MICRO, [50], [6.9]), None),
    "torchrl": (("loss", STEP, [100, 200], [2.5, 2.4]),
        ("val_loss", STEP, [200], [2.6]), ("grad_norm", STEP, [100, 200], [1.2, 1.1])),
    "wenet": (("loss", MICRO, [203700, 203800], [12.646465, 25.618004]),
        ("val_loss", MICRO, [203800], [28.402842]), None),
}  # fmt: skip


def points(run, role):
    one = run.get(role)
    return None if one is None else (one.name, one.counted, one.position.tolist(), one.value.tolist())


@pytest.mark.parametrize("trainer", EXPECTED)
def test_lines_of_a_trainer(trainer):
    (run,) = discovery.find_runs([str(LOGS / f"{trainer}.log")])
    assert (points(run, Role.LOSS), points(run, Role.EVAL_LOSS), points(run, Role.GRAD_NORM)) == EXPECTED[trainer]
    assert run.settings.ga == {"accelerate": 4}.get(trainer)


def test_every_log_is_expected():
    assert sorted(EXPECTED) == sorted(path.stem for path in LOGS.glob("*.log"))
