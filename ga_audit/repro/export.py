"""A reproduction as one self-contained file: torch and the library alone, for an issue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ga_audit.errors import WrongUsage
from ga_audit.repro.engine import engine_named

ENGINE = "transformers"

_HEAD = '''"""Does the gradient of transformers' Trainer depend on gradient_accumulation_steps (GA)?

{what}.
Each step's accumulated gradient is compared with that of its whole batch in one pass.
    pip install {pins}
"""
import math, tempfile, torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

torch.manual_seed(0)
SIZE, STEPS, VOCAB, SMOOTHING = 16, 2, 64, {smoothing}
ROWS = [torch.randint(VOCAB, (n,)) for n in torch.randint(8, 25, (SIZE * STEPS,)).tolist()]

def collate(rows):
    pad = lambda fill, values: torch.nn.utils.rnn.pad_sequence(values, True, fill)
    batch = {{"input_ids": pad(0, rows), "attention_mask": pad(0, [torch.ones_like(r) for r in rows])}}
    return {{**batch, "{labels}": pad(-100, rows)}}

def mean_loss(logits, labels):
    logits, labels = logits[:, :-1].reshape(-1, VOCAB), labels[:, 1:].reshape(-1)
    return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
'''

_TAIL = '''
def train(ga):
    """Ratios of the logged loss and the gradient to the truth, and the cosine: mean of the steps."""
    torch.manual_seed(0)
    model = {model}(LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, attention_dropout=0.0, use_cache=False))
    args = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=SIZE // ga, gradient_accumulation_steps=ga,
        max_steps=STEPS, max_grad_norm=0, logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True, remove_unused_columns=False{arguments})
    trainer = {trainer}(
        model=model, args=args, train_dataset=ROWS, data_collator=collate{settings})
    trainer._get_train_sampler = lambda *a, **k: torch.utils.data.SequentialSampler(ROWS)
    found, parameters = [], list(model.parameters())
    gradient = lambda grads: torch.cat([g.flatten() for g in grads]).double()

    def compare(*_):
        batch = collate(ROWS[len(found) * SIZE:(len(found) + 1) * SIZE])
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = mean_loss(logits, batch["{labels}"])
        true, real = gradient(torch.autograd.grad(loss, parameters)), gradient([p.grad for p in parameters])
        cosine = torch.cosine_similarity(real, true, 0)
        found.append((loss.item(), (real.norm() / true.norm()).item(), cosine.item()))

    hook = register_optimizer_step_pre_hook(compare)
    trainer.train()
    hook.remove()
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    rows = [(l / loss, ratio, cosine) for l, (loss, ratio, cosine) in zip(logged, found)]
    return [sum(column) / len(rows) for column in zip(*rows)]

first, last = train(1), train(4)
for ga, row in ((1, first), (4, last)):
    print("GA %d: logged loss x%.3f, gradient x%.3f, cosine %.5f" % (ga, *row))
on_loss, on_gradient = (math.log(b / a) / math.log(4) for a, b in zip(first[:2], last))
if abs(on_gradient) > 0.15:
    print(f"verdict: gradients scale with GA^{{on_gradient:.2f}}, the logged loss with GA^{{on_loss:.2f}}")
elif abs(on_loss) > 0.15:
    print(f"verdict: only the logged loss scales, with GA^{{on_loss:.2f}}")
else:
    print("verdict: healthy" if last[2] > 0.99995 else "verdict: unequally weighted micro-batches")
'''

_NO_KWARGS = """
class Model(LlamaForCausalLM):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            output["loss"] = mean_loss(output.logits, labels)
        return output
"""
_IGNORES = _NO_KWARGS.replace("labels=None)", "labels=None, **kwargs)")
_TARGETS = _IGNORES.replace("labels", "targets")
_FLAGGED = f"{_IGNORES}    accepts_loss_kwargs = False\n"
_MEAN_TRAINER = """
class MeanTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = mean_loss(output.logits, inputs["labels"])
        return (loss, output) if return_outputs else loss
"""
_FLAGGED_TRAINER = f"""{_MEAN_TRAINER}
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
"""
_MEAN_FUNCTION = """
def loss_function(outputs, labels, num_items_in_batch=None):
    return mean_loss(outputs["logits"], labels)
"""
_BY_COUNT = """
def loss_function(outputs, labels, num_items_in_batch=None):
    count = (labels[:, 1:] != -100).sum()
    return mean_loss(outputs["logits"], labels) * count / (num_items_in_batch or count)
"""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a variant puts into the script."""

    code: str = ""
    model: str = "LlamaForCausalLM"
    trainer: str = "Trainer"
    arguments: str = ""  # further ones of TrainingArguments
    settings: str = ""  # further ones of the Trainer
    labels: str = "labels"
    smoothing: float = 0.0


_LOSS_FUNCTION = ", compute_loss_func=loss_function"
_PARTS: Mapping[str, _Parts] = MappingProxyType(
    {
        "A": _Parts(),
        "B": _Parts(_NO_KWARGS, "Model"),
        "B2": _Parts(_IGNORES, "Model"),
        "B2-flagged": _Parts(_FLAGGED, "Model"),
        "B3": _Parts(_TARGETS, "Model", labels="targets", arguments=', label_names=["targets"]'),
        "C": _Parts(_BY_COUNT, settings=_LOSS_FUNCTION),
        "C2": _Parts(_MEAN_FUNCTION, settings=_LOSS_FUNCTION),
        "C3": _Parts(_NO_KWARGS + _MEAN_FUNCTION, "Model", settings=_LOSS_FUNCTION),
        "D": _Parts(_MEAN_TRAINER, trainer="MeanTrainer"),
        "D2": _Parts(_NO_KWARGS + _MEAN_TRAINER, "Model", "MeanTrainer"),
        "D-flagged": _Parts(_FLAGGED_TRAINER, trainer="MeanTrainer"),
        "E": _Parts(smoothing=0.1, arguments=", label_smoothing_factor=0.1"),
    }
)


def variants() -> tuple[str, ...]:
    """The variants of the engine transformers that can be exported."""
    return tuple(_PARTS)


def script(variant: str, stack: Mapping[str, str]) -> str:
    """A script that reproduces a variant of the engine transformers.

    Parameters
    ----------
    variant : its name, such as `B2`.
    stack : release of each package, to be installed for it: `{"transformers": "5.3.0"}`.

    Returns
    -------
    The text of a Python file. It trains at GA 1 and 4, and prints ratios and a verdict.

    Raises
    ------
    WrongUsage
        The variant cannot be exported.
    """
    parts = _PARTS.get(variant)
    if parts is None:
        remedy = f"Choose from: {', '.join(_PARTS)}."
        raise WrongUsage(f"the variant {variant!r} cannot be exported", remedy=remedy)
    what = engine_named(ENGINE).variants[variant]
    names = ("transformers", "accelerate", "torch")
    pins = " ".join(f"{name}=={stack[name]}" if name in stack else name for name in names)
    fields = {
        "what": f"Variant {variant} of ga-audit: {what}",
        "pins": pins,
        "model": parts.model,
        "trainer": parts.trainer,
        "arguments": parts.arguments,
        "settings": parts.settings,
        "labels": parts.labels,
        "smoothing": f"{parts.smoothing:g}",
    }
    return _HEAD.format(**fields) + parts.code + _TAIL.format(**fields)
