"""What was measured in a matrix, printed: tables, what inspect reads in the logs, the known bug, a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ga_audit.cli.options import show_error
from ga_audit.errors import AuditError, EngineFailed, ExitCode, UnreadableLog

if TYPE_CHECKING:
    from ga_audit.conclusion import Audit, Diagnosis
    from ga_audit.repro.plan import Cell, Plan
    from ga_audit.repro.verdict import Judgement
    from ga_audit.run import Note, ReadFailure, Run

_CODES = {
    "healthy": ExitCode.HEALTHY, "logging only": ExitCode.SCALED, "gradients": ExitCode.SCALED,
    "gradients at some steps": ExitCode.SCALED, "unequally weighted": ExitCode.SCALED,
}  # fmt: skip


def one(plan: Plan, report: Path) -> ExitCode:
    """The table of one matrix, what inspect reads in its logs, and a report of both."""
    from ga_audit.output.wording.verdict import headline
    from ga_audit.repro import as_evidence, tables
    from ga_audit.repro.engine import USER_COMMAND

    audit = _read(plan)
    if plan.engine == USER_COMMAND:
        return _of_a_users_command(audit, plan, report)
    for failure in audit.failures:
        show_error(failure.error)
    read = " ".join(map(headline, audit.diagnoses)) or "nothing to compare"
    if any(note.code == "short-steps" for d in audit.diagnoses for note in d.notes):
        read += " The last steps of epochs are short."
    found = _judged(plan)
    click.echo(tables.table(found))
    click.echo(f"the logs alone, as inspect reads them: {read}")
    for line in dict.fromkeys(note.message for d in audit.diagnoses for note in as_evidence.comparison(d, found)):
        click.echo(line)
    told = _told(audit, found, plan)
    for line in dict.fromkeys(_bug_lines(told)):
        click.echo(line)
    if found.verdict == "healthy" and (others := _others(plan)):
        click.echo(f"This covers one scenario; others may differ: {others}")
    _write(told, plan, report)
    return _CODES.get(found.verdict, ExitCode.UNDECIDED)


def _of_a_users_command(audit: Audit, plan: Plan, report: Path) -> ExitCode:
    """Nothing was measured: what inspect reads, and what to do next, but for what is done here already."""
    from ga_audit.cli.inspect import status
    from ga_audit.conclusion import Action
    from ga_audit.output import text

    # what is done here already: the report, repro itself, runs of another GA
    done = {
        Action.WRITE_REPORT, Action.MEASURE, Action.MEASURE_INSTEAD, Action.MEASURE_GRADIENTS,
        Action.ADD_TO_TELL_APART, Action.ADD_OTHER_GA, Action.ADD_OTHER_RANKS,
    }  # fmt: skip
    audit = replace(audit, diagnoses=tuple(map(_without_gradients, audit.diagnoses)))
    click.echo("Gradients are not measured for --script. Audit of its logs:\n")
    click.echo(f"{text.render(audit, hidden=frozenset(done), more=False)}\n")
    _write(replace(audit, command=_command(plan)), plan, report)
    return status(audit)


def _without_gradients(diagnosis: Diagnosis) -> Diagnosis:
    """A healthy loss is not a healthy training where neither a measurement nor grad_norm shows the gradients."""
    from ga_audit.conclusion import Undecided, UndecidedReason
    from ga_audit.finding import Verdict
    from ga_audit.run import Role

    is_open = Role.GRAD_NORM in diagnosis.undecided or Role.GRAD_NORM not in diagnosis.posterior
    if diagnosis.verdict is not Verdict.HEALTHY or not is_open:
        return diagnosis
    if Role.GRAD_NORM in diagnosis.undecided:
        reason = UndecidedReason.NORM_UNDECIDED
    elif any(run.get(Role.GRAD_NORM) for run in diagnosis.runs):
        reason = UndecidedReason.NORM_WITHOUT_EVIDENCE
    else:
        reason = UndecidedReason.NORM_NOT_LOGGED
    why = Undecided(reason=reason, role=Role.GRAD_NORM)
    return replace(diagnosis, verdict=Verdict.INCONCLUSIVE, why_inconclusive=(why,))


def several(plans: Sequence[Plan], broken: Mapping[Path, Any], reports: Sequence[Path]) -> ExitCode:
    """A line for each matrix, and a report of each; one that broke says why and stops no other."""
    from ga_audit.repro import as_evidence, tables

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
        logs[plan.name] = tuple(note for d in audit.diagnoses for note in as_evidence.comparison(d, found))
        told = _told(audit, found, plan)
        for line in dict.fromkeys(_bug_lines(told)):
            bugs.setdefault(line, []).append(plan.name)
        _write(told, plan, report, quiet=True)
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
    """The detector of `inspect`, on the logs of the cells; their GA is the one that they were started with."""
    from ga_audit import pipeline

    runs: list[Run] = []
    failures: list[ReadFailure] = []
    for cell in plan.cells:
        here, broken = pipeline.read_runs([str(cell.out)])
        runs.append(_of_cell([run for run in here if run.series], cell, plan))
        failures += broken
    return pipeline.audit_runs(runs, failures)


def _of_cell(logs: Sequence[Run], cell: Cell, plan: Plan) -> Run:
    """The fullest log of a cell, named after it, with the GA, micro-batch and ranks that the cell was started with.

    A cell is one training: its other logs are not further runs, and its console is one where there is no other.
    """
    from ga_audit import pipeline
    from ga_audit.repro.train import CONSOLE
    from ga_audit.run import Schedule, Setting, Trust

    if not logs:
        raise UnreadableLog(
            f"GA {cell.ga} left no loss and no grad_norm", where=str(cell.out),
            remedy="Let the command log into {output_dir}, or print its losses.",
        )  # fmt: skip
    run = max(logs, key=lambda log: (Path(log.sources[0].path).name != CONSOLE, sum(map(len, log.series))))
    recorded = run.settings.gradient_accumulation_steps
    if recorded is not None and recorded.trust is not Trust.GUESSED and run.settings.ga != cell.ga:
        raise EngineFailed(
            f"it was started with GA {cell.ga}, and its log records {run.settings.ga}", where=str(cell.out),
            remedy="Let the command hand {gradient_accumulation_steps} on to its trainer.",
        )  # fmt: skip
    settings = run.settings
    if settings.micro_batch_size is None and "{micro_batch_size}" in (plan.script or "{micro_batch_size}"):
        micro = Setting(
            plan.effective_batch_size // (cell.ga * cell.world_size), "given: {micro_batch_size}", Trust.GIVEN
        )
        settings = replace(settings, micro_batch_size=micro)
    given = pipeline.Options(ga={"*": Schedule.constant(cell.ga)}, world_size={"*": cell.world_size})
    return pipeline.with_given(replace(run, id=cell.out.name, name=cell.out.name, settings=settings), given)


def _judged(plan: Plan) -> Judgement:
    from ga_audit.repro import measurement
    from ga_audit.repro import verdict as verdicts

    return verdicts.judge([measurement.read_truth(cell.out / "truth.json") for cell in plan.cells])


def _told(audit: Audit, found: Judgement, plan: Plan) -> Audit:
    """The audit of the logs with the measurement in it."""
    from ga_audit.repro import as_evidence
    from ga_audit.repro.engine import engines

    options = plan.options
    variant = str(options.get("model") or options.get("variant") or next(iter(engines()[plan.engine].variants), ""))
    return as_evidence.with_truth(audit, found, variant=variant, command=_command(plan))


def _bug_lines(told: Audit) -> Iterator[str]:
    from ga_audit.finding import Fit

    for diagnosis in told.diagnoses:
        for bug in diagnosis.bugs:
            if bug.fit is Fit.MATCHES:
                yield f"known bug {bug.bug}: {bug.title}. {bug.fix}"


def _others(plan: Plan) -> str:
    """The options that try what the engine can train besides."""
    from ga_audit.repro.engine import engines

    engine = engines()[plan.engine]
    more = (("--variants all", len(engine.variants) > 1), ("--models all", bool(engine.models)))
    return ", ".join(option for option, there in more if there)


def _write(audit: Audit, plan: Plan, report: Path, *, quiet: bool = False) -> None:
    """What `ga-audit report` writes, in the form of the engine's tracker; made anew at each call."""
    from ga_audit.output import _report_folder as report_folder
    from ga_audit.output import issue

    if not audit.diagnoses:
        return
    names = report_folder.private_names(audit)
    template = plan.engine if plan.engine in issue.TEMPLATES else issue.TEMPLATES[0]
    report_folder.write(audit, report, template=template, redacted=True, names=names, style=None, force=True)
    if not quiet:
        click.echo(f"written: {report} (issue.md, report.html, diagnosis.json, pictures)")


_OF_THIS_MACHINE = frozenset({"out", "python", "resume", "timeout"})  # options that say nothing of what was measured


def _command(plan: Plan) -> tuple[str, ...]:
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
    return tuple(words)
