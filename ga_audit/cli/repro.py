"""Confirm on the installed stack: train a tiny model at several GA and measure the true gradient."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ga_audit.cli.options import errors_to_status, leave
from ga_audit.errors import ExitCode

_CODES = {"healthy": ExitCode.HEALTHY, "logging only": ExitCode.SCALED, "gradients": ExitCode.SCALED}


def whole_numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Comma-separated positive whole numbers."""
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise click.BadParameter(f"{value!r} is not a list of positive whole numbers such as 1,2,4,8", ctx, param)
    return found


@click.command(name="repro", epilog="Exit status: 0 healthy, 1 scaling measured, 2 usage, 3 not measured.")
@click.option("--engine", default="transformers", show_default=True, help="torch, transformers, trl or script.")
@click.option("--variant", help="Variant of the engine, e.g. B (see the engine's --help).")
@click.option("--fault", help="Fault that the engine torch switches on.")
@click.option("--ga", default="1,2,4,8", show_default=True, callback=whole_numbers, help="GA to train with.")
@click.option("--world-size", default="1", show_default=True, callback=whole_numbers, help="Ranks, by torchrun.")
@click.option("--effective-batch-size", default=16, show_default=True, type=click.IntRange(1), help="The same for all.")
@click.option("--steps", default=20, show_default=True, type=click.IntRange(1), help="Optimizer steps.")
@click.option("--seed", default=42, show_default=True, help="Seed of model and data.")
@click.option("--optimizer", help="Name of the optimizer, as the engine takes it.")
@click.option("--max-grad-norm", type=float, help="Clipping, as the engine takes it.")
@click.option("--lengths", type=click.Choice(["fixed", "variable"]), help="Lengths of the sequences.")
@click.option("--python", default=sys.executable, metavar="PATH", help="Interpreter that has the stack.")
@click.option("--script", metavar="COMMAND", help="Your own command, for --engine script.")
@click.option("--out", default="ga-audit-repro", show_default=True, metavar="DIR", help="Where the logs go.")
@click.option("--resume", is_flag=True, help="Keep finished cells that had the same options.")
@errors_to_status
def command(
    engine: str, ga: tuple[int, ...], world_size: tuple[int, ...], effective_batch_size: int, python: str,
    script: str | None, out: str, resume: bool, **options: object,
) -> None:  # fmt: skip
    """Train a tiny model with the installed libraries and say what is scaled: the log, or the gradients.

    \b
    ga-audit repro --variant B
    ga-audit repro --engine script --script "python train.py --ga {gradient_accumulation_steps} --out {output_dir}"
    """  # noqa: D301 (\b is Click's)
    from ga_audit.repro import matrix

    given = {k.replace("_", "-"): v for k, v in options.items() if v is not None}
    if engine == "script":
        given = {}
    cells = matrix.plan_cells(Path(out), ga, world_size, effective_batch_size)
    plan = matrix.Plan(engine, cells, effective_batch_size, given, python, script)
    try:
        matrix.run(plan, resume=resume, progress=_show)
    except KeyboardInterrupt:
        click.echo("interrupted; finished cells are kept: add --resume to go on", err=True)
        leave(ExitCode.UNDECIDED)
    status = _report(plan)
    leave(status)


def _show(done: int, total: int, left: float | None, cell: object) -> None:
    rest = "" if left is None else f", about {left:.0f} s left"
    click.echo(f"{done}/{total} trained{rest}; GA {getattr(cell, 'ga', '?')}", err=True)


def _report(plan: object) -> ExitCode:
    from ga_audit import pipeline
    from ga_audit.cli.inspect import status
    from ga_audit.repro import judge, matrix

    assert isinstance(plan, matrix.Plan)
    code = ExitCode.HEALTHY
    for world in dict.fromkeys(cell.world_size for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.world_size == world]
        audit = pipeline.audit([str(cell.out) for cell in cells], pipeline.Options())
        read = ", ".join(d.verdict.value for d in audit.diagnoses) or "nothing to compare"
        if plan.engine == "script":
            click.echo(f"world size {world}; the logs, as inspect reads them: {read}")
            code = max(code, status(audit))
            continue
        found = judge.judge([judge.read_truth(cell.out / "truth.json") for cell in cells])
        measured = _CODES.get(found.verdict, ExitCode.UNDECIDED)
        click.echo(f"world size {world}\n{judge.table(found)}\nthe logs alone, as inspect reads them: {read}")
        if status(audit) is not measured:
            click.echo("measurement and inspect do not say the same")
        code = max(code, measured) if ExitCode.SCALED not in (code, measured) else ExitCode.SCALED
    return code
