"""Confirm on the installed stack: train a tiny model at several GA and measure the true gradient."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ga_audit.cli._choices import complete_variant
from ga_audit.cli._terminal import quiet_option
from ga_audit.cli.options import errors_to_status, leave, show_error
from ga_audit.errors import EngineFailed, ExitCode, RefusedToOverwrite

if TYPE_CHECKING:
    from ga_audit.repro.plan import Plan

_SECONDS = 1800  # of a cell of ours; a user's command takes as long as it takes
# options that an engine of ours takes; a user's command has its own
_TRAINING = frozenset({
    "model", "variant", "fault", "steps", "measure_every", "seed", "optimizer", "lr", "max_grad_norm", "dtype", "device",
    "lengths", "packing", "sink", "average_tokens", "data_parallel", "python",
})  # fmt: skip


def whole_numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Comma-separated positive whole numbers."""
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise click.BadParameter(f"{value!r} is not a list of positive whole numbers such as 1,2,4,8", ctx, param)
    return found


def _not_negative(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A number from 0 on."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"{value} is not a number from 0 on", ctx, param)
    return value


def _list(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the engines with their variants, models and faults."""
    if not value or ctx.resilient_parsing:
        return
    import textwrap

    from ga_audit.repro.engine import USER_COMMAND, engines

    for _, engine in sorted(engines().items()):
        click.echo(f"--engine {engine.name}")
        tables = (("variant", engine.variants), ("model", engine.models), ("fault", engine.faults))
        for option, described in tables:
            width = max(map(len, described), default=0)
            for name, what in described.items():
                needs = engine.variant_needs.get(name) if option == "variant" else None
                more = f" (needs {needs.replace('_', '-')})" if needs else ""
                start = f"  --{option} {name:<{width}}  "
                click.echo(textwrap.fill(what + more, 100, initial_indent=start, subsequent_indent=" " * len(start)))
    click.echo(f"--engine {USER_COMMAND}\n  --script COMMAND")
    ctx.exit()


class _Described(click.Command):
    """A command whose help describes the variants of the default engine."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the variants."""
        from ga_audit.repro.engine import engine_named

        super().format_options(ctx, formatter)
        with formatter.section("Variants of the engine transformers (--list prints those of all engines)"):
            formatter.write_dl(list(engine_named("transformers").variants.items()))


@click.command(
    name="repro", cls=_Described,
    epilog="Exit status: 0 healthy, 1 mis-scaled or unequally weighted, 2 usage, 3 not measured.",
)  # fmt: skip
@click.option("--engine", help="torch, transformers, trl, axolotl, llamafactory, or script: your own command.  "
              "[default: transformers; script with --script]")  # fmt: skip
@click.option("--model", "--models", metavar="NAME", help="Stock model family, a list of them, or `all`.")
@click.option(
    "--variant",
    "--variants",
    shell_complete=complete_variant,
    metavar="NAME",
    help="Variant of the engine: a name, a list, or `all`.",
)
@click.option("--fault", help="Fault to switch on, with --engine torch.")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list,
              help="Describe the engines, their variants, models and faults.")  # fmt: skip
@click.option("--ga", default="1,2,4,8", show_default=True, callback=whole_numbers, help="Values of GA.")
@click.option(
    "--world-size",
    default="1",
    show_default=True,
    callback=whole_numbers,
    help="Numbers of ranks, started by torchrun.",
)
@click.option("--data-parallel", is_flag=True, help="Use `torch.nn.DataParallel` instead of torchrun.")
@click.option(
    "--average-tokens",
    type=click.Choice(["on", "off"]),
    help="The Trainer's average_tokens_across_devices.",
)
@click.option(
    "--effective-batch-size",
    default=16,
    show_default=True,
    type=click.IntRange(1),
    help="Effective batch size of every training.",
)
@click.option("--steps", default=20, show_default=True, type=click.IntRange(1), help="Optimizer steps.")
@click.option("--measure-every", type=click.IntRange(1), help="Optimizer steps between measurements.")
@click.option("--seed", default=42, show_default=True, help="Seed of model and data.")
@click.option("--optimizer", help="Name of the optimizer, as the engine takes it: adamw_torch, sgd, ...")
@click.option("--lr", type=float, callback=_not_negative, help="Learning rate.")
@click.option("--max-grad-norm", type=float, callback=_not_negative, help="Clipping; 0 for none.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    help="Autocast dtype.  [default: by the device]",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--lengths", type=click.Choice(["fixed", "variable"]), help="Lengths of the sequences.")
@click.option("--packing", is_flag=True, help="Pack sequences into rows of one length.")
@click.option("--sink", multiple=True, type=click.Choice(["json", "tensorboard", "wandb"]),
              help="Log formats, with --engine torch.")  # fmt: skip
@click.option("--python", default=sys.executable, metavar="PATH", help="Interpreter that has the stack.")
@click.option("--script", metavar="COMMAND", help="Your training command with placeholders (see above).")
@click.option("--timeout", type=click.FloatRange(min=1), metavar="SECONDS",
              help=f"Time limit of one training.  [default: {_SECONDS}; none for --script]")  # fmt: skip
@click.option(
    "-o",
    "--output",
    "--out",
    "out",
    default="ga-audit-repro",
    show_default=True,
    metavar="DIR",
    help="Output folder for logs and report.",
)
@click.option("--resume", is_flag=True, help="Keep finished cells with the same options and stack.")
@click.option("--export", "export_to", metavar="FILE",
              help="Write a self-contained script of the variant, for an issue; train nothing.")  # fmt: skip
@quiet_option
@errors_to_status
def command(
    engine: str | None, model: str | None, variant: str | None, ga: tuple[int, ...], world_size: tuple[int, ...],
    effective_batch_size: int, python: str, script: str | None, timeout: float | None, out: str, resume: bool,
    export_to: str | None, **options: object,
) -> None:  # fmt: skip
    """Train a tiny model with the installed libraries and say what is scaled: the log, or the gradients.

    \b
    ga-audit repro --variant B
    ga-audit repro --model t5-seq2seq --max-grad-norm 0
    ga-audit repro --models all --ga 1,8
    ga-audit repro --variant B2 --export repro.py
    ga-audit repro --script "python train.py --ga {gradient_accumulation_steps} --batch {micro_batch_size} --out {output_dir}"
    """  # noqa: D301 (\b is Click's)
    from ga_audit.cli import _outcome, _progress
    from ga_audit.repro import plan as planning
    from ga_audit.repro.engine import USER_COMMAND

    if script is not None and not script.strip():
        raise click.UsageError("--script is empty: give your training command")
    engine = engine or (USER_COMMAND if script else "transformers")
    _check(engine == USER_COMMAND, script, model, variant)
    if engine == USER_COMMAND:
        options = {}
    given = {k.replace("_", "-"): v for k, v in options.items() if v is not None and v is not False and v != ()}
    if export_to is not None:
        _export(Path(export_to), engine, model, variant, python)
        return
    seconds = timeout or (None if engine == USER_COMMAND else _SECONDS)
    plans, reports = [], []
    named = _named(engine, model, variant, python)
    for name, option in named:
        place = Path(out) / name if len(named) > 1 else Path(out)
        reports.append(place / "report")
        cells = planning.plan_cells(place, ga, world_size, effective_batch_size)
        plans.append(planning.Plan(engine, cells, effective_batch_size, {**given, **option}, python, script, seconds,
                                 name=name or engine))  # fmt: skip
    _keep_what_is_not_ours(plans, reports, resume)
    try:
        with _progress.training() as show:
            broken = planning.run(*plans, resume=resume, keep_going=len(plans) > 1, progress=show)
    except KeyboardInterrupt:
        click.echo("interrupted; finished cells are kept: add --resume to go on", err=True)
        leave(ExitCode.INTERRUPTED)
    leave(_outcome.one(plans[0], reports[0]) if len(plans) == 1 else _outcome.several(plans, broken, reports))


def _export(place: Path, engine: str, model: str | None, variant: str | None, python: str) -> None:
    """Write the self-contained script of one variant, with the installed releases in it."""
    from ga_audit.files.atomic import new_file
    from ga_audit.repro import export, installed

    if engine != export.ENGINE or model:
        raise click.UsageError(f"--export writes a variant of the engine {export.ENGINE}")
    name = variant or export.variants()[0]
    text = export.script(name, {})  # a wrong name is an error before anything else
    try:
        text = export.script(name, installed.releases(engine, python))
    except EngineFailed as error:
        show_error(error)
    with new_file(place) as part:
        part.write_text(text, "utf-8")
    click.echo(f"written: {place} (run it with: python {shlex.quote(str(place))})")


def _check(users_own: bool, script: str | None, model: str | None, variant: str | None) -> None:
    """Options that would be passed over in silence are refused."""
    context = click.get_current_context()
    if model and variant:
        raise click.UsageError("--model is about stock models, --variant about situations: give one of them")
    if users_own and not script:
        raise click.UsageError("--engine script needs --script COMMAND")
    if script and not users_own:
        raise click.UsageError("--script is your own command: leave --engine out, or give --engine script")
    source = click.core.ParameterSource.COMMANDLINE
    if users_own and (odd := [name for name in context.params if name in _TRAINING
                              and context.get_parameter_source(name) is source]):  # fmt: skip
        raise click.UsageError(f"--{odd[0].replace('_', '-')} is not for your own command: write it there")


def _named(engine: str, model: str | None, variant: str | None, python: str) -> list[tuple[str, Mapping[str, object]]]:
    """What is trained, by name; one without a name where nothing is chosen."""
    from ga_audit.repro import installed
    from ga_audit.repro.engine import chosen

    named = chosen("model", model, engine=engine) if model else chosen("variant", variant, engine=engine)
    if variant == "all" and (lacking := installed.lacking(engine, python)):
        named = [(name, option) for name, option in named if name not in lacking]
        for name, need in lacking.items():
            click.echo(f"left out: {name}, which needs {need} ({installed.install([need])})", err=True)
    return [*named] or [("", {})]


def _keep_what_is_not_ours(plans: Sequence[Plan], reports: Sequence[Path], resume: bool) -> None:
    """A report gives way to a new one only where it stands beside cells that are resumed."""
    from ga_audit.files.atomic import check_directory

    for plan, report in zip(plans, reports, strict=True):
        if os.path.lexists(report) and not (resume and any(cell.out.exists() for cell in plan.cells)):
            raise RefusedToOverwrite("the output exists", where=str(report), remedy="Give another --out.")
        check_directory(report, force=True)
