"""Train through a package's own entry point, with a config of its own, and watch the Trainer that it makes.

A standalone script's helper: torch and transformers, no ga_audit. OUT/config.yaml, OUT/model and OUT/data.json are what
the package is given: the same training can be started again from them with the package's own command.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import _ignoring_count
import _measure
import _task
import _tokenizer
import _variants
import torch
import transformers

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Variant:
    """What a package is told to train, beyond what all of its variants share."""

    what: str
    rows: Callable[[Sequence[Sequence[int]]], list[dict]]
    settings: Mapping[str, object]  # of the package's config
    own_loss: bool = False  # the truth is the trainer's own loss of the whole batch; else the mean over its labels
    model: str = "Llama"  # family of transformers
    ignoring_count: bool = False  # the model is one of its own code that ignores num_items_in_batch


def arguments(doc: str, variants: Mapping[str, Variant], default: str) -> argparse.Namespace:
    """The options of a package's engine; the effective batch is checked, the output folder made."""
    parser = _task.parser(doc, measure_every=5)
    parser.add_argument("--optimizer", default="adamw_torch")
    parser.add_argument("--variant", choices=sorted(variants), default=default, help="what is trained")
    parser.add_argument("--out", required=True)
    args = _task.checked(parser.parse_args())
    args.out = Path(args.out).absolute()
    return args


def train(args: argparse.Namespace, variant: Variant, config: Mapping[str, object], run: Callable[[Path], object],
          packages: Mapping[str, str]) -> None:  # fmt: skip
    """Write what the package is given, let it train, and write what was logged and what was true."""
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # not every package has an option for it
    _task.set_up(args.seed)
    _join(args)
    _keep_caches_in(args.out / "cache")
    _prepare_rows_here()
    size = args.effective_batch_size
    sequences = _task.sequences(size * args.steps + _task.HELD_OUT, seed=args.seed, lengths=args.lengths)
    data, held_out = sequences[: size * args.steps], sequences[size * args.steps :]
    if int(os.environ.get("RANK", "0")) == 0:
        _write(args.out, variant, variant.rows(data), config)
    _wait_for_all()
    watch = Watch(args, variant)
    with watch.installed():
        run(args.out / "config.yaml")
    if watch.trainer is None or watch.before is None:
        raise SystemExit("the package trained without a Trainer of transformers: nothing was measured")
    flops = watch.measure.step_flops()
    if watch.trainer.args.process_index != 0:
        return _task.leave()
    tokens = [sum(map(len, data[i * size : (i + 1) * size])) for i in range(args.steps)]
    truth = watch.measure.finish(
        args, args.out, engine=Path(_main_script()).stem, what=f"{args.variant} ({variant.what})", dtype="float32",
        trainer=type(watch.trainer).__name__,
        packages={name: release.partition("+")[0] for name, release in {**packages, **_versions()}.items()},
        throughput=watch.measure.throughput(tokens, flops, dtype=torch.float32, benchmark=args.benchmark),
    )  # fmt: skip
    if not variant.own_loss:
        truth["held_out_loss"] = _task.held_out_loss(watch.model, _task.collate(held_out))
    _task.write_truth(args.out, truth, watch.before, watch.after)
    return _task.leave()


class Watch:
    """The Trainer that a package makes: its rows in order, its gradient measured, its micro-batches checked."""

    def __init__(self, args: argparse.Namespace, variant: Variant) -> None:
        self.args, self.variant = args, variant
        self.trainer = self.model = self.before = self.after = None
        self.measure = _measure.Measure([], args.measure_every, None)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """`Trainer.train` is ours while the package runs; whatever subclass it makes comes to it."""
        plain = transformers.Trainer.train

        def train(trainer, *args, **kwargs):
            return self._train(plain, trainer, *args, **kwargs)

        transformers.Trainer.train = train
        try:
            yield
        finally:
            transformers.Trainer.train = plain

    def _train(self, plain, trainer, *args, **kwargs):
        wanted = _task.device_named(self.args.device)
        if trainer.args.device.type != wanted:
            raise SystemExit(f"--device {wanted}, and the package trains on {trainer.args.device.type}")
        if trainer.args.gradient_accumulation_steps != self.args.ga:
            raise SystemExit(f"GA {self.args.ga} became {trainer.args.gradient_accumulation_steps} in the package")
        size, rows = self.args.effective_batch_size, trainer.train_dataset
        if len(rows) != size * self.args.steps:
            raise SystemExit(f"the package made {len(rows)} rows of {size * self.args.steps} sequences")
        # in order, so that every GA sees the same rows in each optimizer step
        trainer._get_train_sampler = lambda *a, **k: torch.utils.data.SequentialSampler(rows)
        batches = [
            trainer.data_collator([rows[i] for i in range(step * size, (step + 1) * size)])
            for step in range(self.args.steps)
        ]
        self.trainer, self.model, self.before = trainer, trainer.model, _task.flat_parameters(trainer.model)
        self.measure.batches = batches
        own = self.variant.own_loss
        self.measure.loss_of = _measure.own_loss(trainer) if own else _measure.token_mean
        self.measure.attach(trainer)
        self._check_rows(trainer, batches)
        self.measure.clock.start()
        result = plain(trainer, *args, **kwargs)
        self.measure.clock.stop()
        self.after = _task.flat_parameters(trainer.model)
        return result

    def _check_rows(self, trainer, batches: Sequence[Mapping]) -> None:
        """Each micro-batch must be rows of the step that it belongs to: a truth about other rows would be none."""
        step_of, count = trainer.training_step, 0

        def watched(model, inputs, *args, **kwargs):
            nonlocal count
            step, count = count // self.args.ga, count + 1
            if step >= len(batches) or rows_of(inputs) - rows_of(batches[step]):
                raise SystemExit(f"micro-batch {count} of the package holds rows that do not belong to step {step + 1}")
            return step_of(model, inputs, *args, **kwargs)

        trainer.training_step = watched


def rows_of(batch: Mapping[str, object]) -> Counter:
    """The sequences of a batch, without padding, each with the name of its tensor."""
    found: Counter = Counter()
    for name, ids in batch.items():
        mask = batch.get(name.replace("input_ids", "attention_mask"))
        if name.endswith("input_ids") and isinstance(ids, torch.Tensor) and isinstance(mask, torch.Tensor):
            found.update((name, *row[kept.bool()].tolist()) for row, kept in zip(ids.cpu(), mask.cpu(), strict=True))
    if not found:
        raise SystemExit("the package's batches hold no input_ids: nothing to compare")
    return found


# --- what the package is given -----------------------------------------------------------------------------------------


def _write(out: Path, variant: Variant, rows: list[dict], config: Mapping[str, object]) -> None:
    import yaml

    settings = {**_variants.config().to_dict(), **_tokenizer.SPECIAL, "vocab_size": _tokenizer.SIZE}
    settings["summary_dropout_prob"] = 0.0  # of a value head, which is put on for rewards
    for name in ("id2label", "label2id", "num_labels", "transformers_version"):
        settings.pop(name, None)
    settings.pop("model_type", None)
    stock = getattr(transformers, f"{variant.model}ForCausalLM")
    kind = _ignoring_count.LlamaIgnoringCount if variant.ignoring_count else stock
    model = kind(stock.config_class(**settings))
    shutil.rmtree(out / "model", ignore_errors=True)
    model.save_pretrained(out / "model")
    if variant.ignoring_count:
        shutil.copy(HERE / "_ignoring_count.py", out / "model" / "modeling_ignoring_count.py")
        path = out / "model" / "config.json"
        kept = json.loads(path.read_text("utf-8"))
        kept["auto_map"] = {"AutoModelForCausalLM": "modeling_ignoring_count.LlamaIgnoringCount"}
        path.write_text(json.dumps(kept, indent=1), "utf-8")
    _tokenizer.build().save_pretrained(out / "model")
    (out / "data.json").write_text(json.dumps(rows, indent=1), "utf-8")
    (out / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False), "utf-8")


def _keep_caches_in(place: Path) -> None:
    """What libraries would leave in the user's own caches stays with the training, also where they are imported."""
    from transformers import dynamic_module_utils

    with contextlib.suppress(ImportError):
        import datasets

        datasets.config.HF_DATASETS_CACHE = str(place / "datasets")
    dynamic_module_utils.HF_MODULES_CACHE = str(place / "modules")


def _prepare_rows_here() -> None:
    """A few rows are made ready in this process: each worker of a pool would import the package for minutes again."""
    with contextlib.suppress(ImportError):
        import datasets

        for name in ("map", "filter", "save_to_disk"):
            setattr(datasets.Dataset, name, _without_workers(getattr(datasets.Dataset, name)))


def _without_workers(method):
    @functools.wraps(method)
    def alone(*args, **kwargs):
        return method(*args, **{**kwargs, "num_proc": None})

    return alone


def _join(args: argparse.Namespace) -> None:
    """The ranks that torchrun started, joined before any of them reads what rank 0 writes."""
    if args.world_size == 1:
        return
    if int(os.environ.get("WORLD_SIZE", "1")) != args.world_size:
        raise SystemExit(f"start it with: torchrun --nproc_per_node {args.world_size}")
    if _task.device_named(args.device) == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if _task.device_named(args.device) == "cuda" else "gloo")


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _versions() -> dict[str, str]:
    return {"transformers": transformers.__version__, "torch": torch.__version__}


def _main_script() -> str:
    import __main__

    return str(getattr(__main__, "__file__", None) or "_stack")
