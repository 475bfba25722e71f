"""Where the plain loop logs to: what a Trainer would write, in the forms that are audited.

A standalone script's helper: standard library; tensorboard and wandb where they are asked for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

Row = dict[str, float]  # step, loss, grad_norm


@contextlib.contextmanager
def _json(out: Path, settings: dict) -> Iterator[Callable[[Row], None]]:
    """`trainer_state.json`, and the settings in `args.json` beside it."""
    rows: list[Row] = []
    (out / "args.json").write_text(json.dumps(settings, indent=1), "utf-8")
    yield rows.append
    state = {"global_step": int(rows[-1]["step"]) if rows else 0, "log_history": rows}
    (out / "trainer_state.json").write_text(json.dumps(state, indent=1), "utf-8")


@contextlib.contextmanager
def _tensorboard(out: Path, settings: dict) -> Iterator[Callable[[Row], None]]:
    """An event file in `tensorboard/`, the settings as text under the name that the Trainer gives them."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out / "tensorboard")) as writer:
        writer.add_text("args", json.dumps(settings, indent=1))

        def log(row: Row) -> None:
            for name in ("loss", "grad_norm", "epoch"):
                writer.add_scalar(f"train/{name}", row[name], int(row["step"]))

        yield log


@contextlib.contextmanager
def _wandb(out: Path, settings: dict) -> Iterator[Callable[[Row], None]]:
    """An offline run in `wandb/`, the settings as its config."""
    import wandb

    name = f"ga{settings['gradient_accumulation_steps']}"
    run = wandb.init(project="ga-audit-repro", name=name, dir=str(out), config=settings, mode="offline")

    def log(row: Row) -> None:
        values = {f"train/{name}": row[name] for name in ("loss", "grad_norm", "epoch")}
        run.log({**values, "train/global_step": row["step"]})

    yield log
    run.finish()


SINKS = {"json": _json, "tensorboard": _tensorboard, "wandb": _wandb}


@contextlib.contextmanager
def opened(names: list[str], out: Path, settings: dict) -> Iterator[Callable[[Row], None]]:
    """A function that logs a row to all of them; a package that is missing is said with its install command."""
    with contextlib.ExitStack() as stack:
        try:
            logs = [stack.enter_context(SINKS[name](out, settings)) for name in names]
        except ImportError as error:
            raise SystemExit(f"a sink needs {error.name}: pip install {error.name}") from error

        def log(row: Row) -> None:
            for each in logs:
                each(row)

        yield log
