"""Confirm on the installed stack: train a tiny model at several GA and measure the true gradient."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ga_audit.cli.options import errors_to_status, leave, show_error
from ga_audit.errors import AuditError, ExitCode, RefusedToOverwrite

if TYPE_CHECKING:
    from ga_audit.finding import Audit
    from ga_audit.repro.judge import Judgement
    from ga_audit.repro.matrix import Plan, Progress
    from ga_audit.run import Note


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
@click.option(
    "--engine", default="transformers", show_default=True, help="torch, transformers, trl, or script: your own command."
)
@click.option(
    "--model",
    "--models",
    metavar="NAME",
    help="Stock model family, a list of them, or `all`.",
)
@click.option(
    "--variant", "--variants", metavar="NAME", help="Variant of the engine, e.g. B, a list of them, or `all`."
)
@click.option("--fault", help="Fault that the engine torch switches on.")
@click.option("--ga", default="1,2,4,8", show_default=True, callback=whole_numbers, help="GA to train with.")
@click.option("--world-size", default="1", show_default=True, callback=whole_numbers, help="Ranks, by torchrun.")
@click.option("--average-tokens", type=click.Choice(["on", "off"]), help="The Trainer's average_tokens_across_devices.")
@click.option("--effective-batch-size", default=16, show_default=True, type=click.IntRange(1), help="The same for all.")
@click.option("--steps", default=20, show_default=True, type=click.IntRange(1), help="Optimizer steps.")
@click.option("--measure-every", type=click.IntRange(1), help="Optimizer steps between measurements.")
@click.option("--seed", default=42, show_default=True, help="Seed of model and data.")
@click.option("--optimizer", help="Name of the optimizer, as the engine takes it: adamw_torch, sgd, ...")
@click.option("--lr", type=float, help="Learning rate.")
@click.option("--max-grad-norm", type=float, help="Clipping; 0 for none.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Of the autocast.  [default: by the device]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--lengths", type=click.Choice(["fixed", "variable"]), help="Lengths of the sequences.")
@click.option("--packing", is_flag=True, help="Sequences laid end to end, cut into rows of one length.")
@click.option(
    "--sink", multiple=True, type=click.Choice(["json", "tensorboard", "wandb"]), help="Logs of the engine torch."
)
@click.option("--python", default=sys.executable, metavar="PATH", help="Interpreter that has the stack.")
@click.option("--script", metavar="COMMAND", help="Your own command, for --engine script.")
@click.option("--out", default="ga-audit-repro", show_default=True, metavar="DIR", help="Where logs and report go.")
@click.option("--resume", is_flag=True, help="Keep finished cells that had the same options.")
@errors_to_status
def command(
    engine: str, model: str | None, variant: str | None, ga: tuple[int, ...], world_size: tuple[int, ...],
    effective_batch_size: int, python: str, script: str | None, out: str, resume: bool, **options: object,
) -> None:  # fmt: skip
    """Train a tiny model with the installed libraries and say what is scaled: the log, or the gradients.

    \b
    ga-audit repro --variant B
    ga-audit repro --model t5-seq2seq --max-grad-norm 0
    ga-audit repro --model all --ga 1,8
    ga-audit repro --engine script --script "python train.py --ga {gradient_accumulation_steps} --out {output_dir}"
    """  # noqa: D301 (\b is Click's)
    from ga_audit.repro import engine as engine_module
    from ga_audit.repro import installed, matrix

    if model and variant:
        raise click.UsageError("--model is about stock models, --variant about situations: give one of them")
    if engine == engine_module.USER_COMMAND:
        options = {}
    given = {k.replace("_", "-"): v for k, v in options.items() if v is not None and v is not False and v != ()}
    option_name, text = ("model", model) if model else ("variant", variant)
    named = engine_module.chosen(option_name, text, engine=engine)
    if variant == "all" and (lacking := installed.lacking(engine, python)):
        named = [(name, option) for name, option in named if name not in lacking]
        for name, need in lacking.items():
            click.echo(f"left out: {name}, which needs {need} ({installed.install([need])})", err=True)
    plans, reports = [], []
    for name, option in named or [("", {})]:
        place = Path(out) / name if len(named) > 1 else Path(out)
        reports.append(place / "report")
        cells = matrix.plan_cells(place, ga, world_size, effective_batch_size)
        plans.append(
            matrix.Plan(engine, cells, effective_batch_size, {**given, **option}, python, script, name=name or engine)
        )
    _keep_what_is_not_ours(plans, reports, resume)
    try:
        with _progress() as show:
            broken = matrix.run(*plans, resume=resume, keep_going=len(plans) > 1, progress=show)
    except KeyboardInterrupt:
        click.echo("interrupted; finished cells are kept: add --resume to go on", err=True)
        leave(ExitCode.UNDECIDED)
    leave(_one(plans[0], reports[0]) if len(plans) == 1 else _several(plans, broken, reports))


class _progress:  # noqa: N801 (reads as a function)
    """A bar with the time left on a terminal, a line for each cell elsewhere; both on standard error."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __enter__(self) -> Callable[[Progress], None]:
        return self.show

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.bar is not None:
            if kind is None:
                self.bar.label = "trained"
                self.bar.update(self.bar.length - self.bar.pos)
            self.bar.render_finish()

    def show(self, at: Progress) -> None:
        """Called before each cell."""
        label = f"{at.plan.name} GA {at.cell.ga}" + (f" x {at.cell.world_size} ranks" if at.cell.world_size > 1 else "")
        rest = "" if at.seconds_left is None else f", about {at.seconds_left:.0f} s left"
        if not sys.stderr.isatty():
            click.echo(f"{at.done}/{at.total} trained{rest}; {label}", err=True)
            return
        if self.bar is None:
            # the time left is ours: the bar's own would count cells that were kept as trained in no time
            self.bar = click.progressbar(length=at.total, file=sys.stderr, show_eta=False, show_pos=True)
        self.bar.label = label + rest
        self.bar.update(at.done - self.bar.pos)
        self.bar.render_progress()


def _one(plan: Plan, report: Path) -> ExitCode:
    """The table of one matrix, what inspect reads in its logs, and a report of both."""
    from ga_audit.cli.inspect import status
    from ga_audit.repro import confirmed, tables
    from ga_audit.repro.engine import USER_COMMAND

    audit = _read(plan)
    for failure in audit.failures:
        show_error(failure.error)
    read = " ".join(d.headline for d in audit.diagnoses) or "nothing to compare"
    if any(note.code == "short-steps" for d in audit.diagnoses for note in d.notes):
        read += " The last steps of epochs are short."
    if plan.engine == USER_COMMAND:
        click.echo(f"the logs, as inspect reads them: {read}")
        _write(audit, report)
        return status(audit)
    found = _judged(plan)
    click.echo(tables.table(found))
    click.echo(f"the logs alone, as inspect reads them: {read}")
    for line in dict.fromkeys(note.message for d in audit.diagnoses for note in confirmed.comparison(d, found)):
        click.echo(line)
    told = _told(audit, found, plan)
    for line in dict.fromkeys(_bug_lines(told)):
        click.echo(line)
    if found.verdict == "healthy" and (others := _others(plan)):
        click.echo(f"that is one situation; others may be measured otherwise: {others}")
    _write(told, report)
    return _CODES.get(found.verdict, ExitCode.UNDECIDED)


_CODES = {
    "healthy": ExitCode.HEALTHY, "logging only": ExitCode.SCALED, "gradients": ExitCode.SCALED,
    "gradients at some steps": ExitCode.SCALED,
}  # fmt: skip


def _several(plans: Sequence[Plan], broken: dict[Path, Any], reports: Sequence[Path]) -> ExitCode:
    """A line for each matrix, and a report of each; one that broke says why and stops no other."""
    from ga_audit.repro import confirmed, tables

    rows: dict[str, Judgement | str] = {}
    logs: dict[str, tuple[Note, ...]] = {}
    bugs: dict[str, list[str]] = {}
    for plan, report in zip(plans, reports, strict=True):
        try:
            for cell in plan.cells:
                if cell.out in broken:
                    raise broken[cell.out]
            found, audit = _judged(plan), _read(plan)
        except AuditError as error:
            rows[plan.name] = f"not measured: {error.message}"
            continue
        rows[plan.name] = found
        logs[plan.name] = tuple(note for d in audit.diagnoses for note in confirmed.comparison(d, found))
        told = _told(audit, found, plan)
        for line in dict.fromkeys(_bug_lines(told)):
            bugs.setdefault(line, []).append(plan.name)
        _write(told, report, quiet=True)
    click.echo(tables.summary(rows, logs))
    for line, names in bugs.items():
        click.echo(f"{', '.join(names)}: {line}")
    if logs:
        click.echo(f"written: a report of each in {reports[0].parent.parent / 'NAME' / reports[0].name}")
    codes = {
        ExitCode.UNDECIDED if isinstance(r, str) else _CODES.get(r.verdict, ExitCode.UNDECIDED) for r in rows.values()
    }
    return next(code for code in (ExitCode.SCALED, ExitCode.UNDECIDED, ExitCode.HEALTHY) if code in codes)


def _read(plan: Plan) -> Audit:
    """The detector of `inspect`, on the logs that the engine wrote."""
    from ga_audit import pipeline

    return pipeline.audit([str(cell.out) for cell in plan.cells], pipeline.Options())


def _judged(plan: Plan) -> Judgement:
    from ga_audit.repro import judge, truth

    return judge.judge([truth.read_truth(cell.out / "truth.json") for cell in plan.cells])


def _told(audit: Audit, found: Judgement, plan: Plan) -> Audit:
    """The audit of the logs with the measurement in it."""
    from ga_audit.repro import confirmed
    from ga_audit.repro.engine import engines

    options = plan.options
    variant = str(options.get("model") or options.get("variant") or next(iter(engines()[plan.engine].variants), ""))
    return confirmed.with_truth(audit, found, variant=variant, command=_command(plan))


def _bug_lines(told: Audit) -> Iterator[str]:
    for diagnosis in told.diagnoses:
        for bug in diagnosis.bugs:
            yield f"known bug {bug.bug}: {bug.title}. {bug.fix}"


def _others(plan: Plan) -> str:
    """The options that try what the engine can train besides."""
    from ga_audit.repro.engine import engines

    engine = engines()[plan.engine]
    more = (("--variants all", len(engine.variants) > 1), ("--models all", bool(engine.models)))
    return ", ".join(option for option, there in more if there)


def _write(audit: Audit, report: Path, *, quiet: bool = False) -> None:
    """What `ga-audit report` writes; made anew at each call. Nothing where the logs hold nothing."""
    from ga_audit.cli.report import private_names, write

    if not audit.diagnoses:
        return
    names = private_names(audit)
    write(audit, report, template="transformers", redacted=True, names=names, style=None, force=True)
    if not quiet:
        click.echo(f"written: {report} (issue.md, report.html, diagnosis.json, pictures)")


def _keep_what_is_not_ours(plans: Sequence[Plan], reports: Sequence[Path], resume: bool) -> None:
    """A report gives way to a new one only where it stands beside cells that are resumed."""
    for plan, report in zip(plans, reports, strict=True):
        if report.exists() and not (resume and any(cell.out.exists() for cell in plan.cells)):
            raise RefusedToOverwrite("the output exists", where=str(report), remedy="Give another --out.")


_OF_THIS_MACHINE = frozenset({"out", "python", "resume"})  # options that say nothing of what was measured


def _command(plan: Plan) -> str:
    """The command as it was given, for others to repeat; of several models or variants, the one of the plan."""
    context = click.get_current_context()
    words = ["ga-audit", "repro"]
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not given or name in _OF_THIS_MACHINE or not isinstance(parameter, click.Option):
            continue
        value: Any = plan.options.get(name) if name in ("model", "variant") else context.params[name]
        option = parameter.opts[0]
        if parameter.is_flag:
            words.append(option)
        elif parameter.multiple:
            words += [word for each in value for word in (option, str(each))]
        else:
            words += [option, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)
