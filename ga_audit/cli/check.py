"""Hold logs, or the installed stack, against a policy: for CI."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from ga_audit.cli.options import errors_to_status, leave, reading_options
from ga_audit.errors import AuditError, WrongUsage

if TYPE_CHECKING:
    from ga_audit.check.concerns import Check
    from ga_audit.check.policy import Policy
    from ga_audit.conclusion import Audit
    from ga_audit.pipeline import Options

_FORMATS = ("text", "json", "sarif", "junit", "github")
_FILES = ("json", "sarif", "junit")


def _report_files(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, Path]]:
    """FORM=FILE options as pairs."""
    pairs = []
    for text in values:
        form, _, file = text.partition("=")
        if form not in _FILES or not file:
            raise click.BadParameter(f"{text!r} is not FORM=FILE with {', '.join(_FILES)}", ctx, param)
        pairs.append((form, Path(file)))
    return pairs


@click.command(
    name="check",
    epilog="Exit status: 0 policy met, 1 violated, 2 usage, 3 could not be judged.",
)
@partial(reading_options, needs_target=False)
@click.option("--config", type=click.Path(path_type=Path), help="File of the policy.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", help="Form of the output.")
@click.option("--report", "reports", multiple=True, callback=_report_files, metavar="FORM=FILE",
              help=f"Write a file besides, as {', '.join(_FILES)}.")  # fmt: skip
@click.option("--baseline", type=click.Path(path_type=Path), help="Only findings that are not in it fail.")
@click.option("--write-baseline", is_flag=True, help="Write what is found now as the baseline.")
@click.option("--run", metavar="COMMAND", help="Run a command that writes the logs, then audit PATH.")
@click.option("--repro", metavar="ARGUMENTS", help="Audit what `ga-audit repro ARGUMENTS` trains and measures.")
@click.option("--before-train", is_flag=True, help="Look up the installed stack; no logs are read.")
@click.option("--package", "packages", multiple=True, metavar="NAME==RELEASE",
              help="With --before-train: this release, not what is installed.")  # fmt: skip
@click.option("--model", metavar="CLASS", help="With --before-train: class of the model.")
@errors_to_status
def command(
    targets: tuple[str, ...],
    reading: Options,
    config: Path | None,
    form: str,
    reports: list[tuple[str, Path]],
    baseline: Path | None,
    write_baseline: bool,
    run: str | None,
    repro: str | None,
    before_train: bool,
    packages: tuple[str, ...],
    model: str | None,
) -> None:
    """Fail where loss or grad_norm is scaled and the project's policy does not allow it.

    The policy is the table [tool.ga-audit] of pyproject.toml, or ga-audit.toml, in this folder or above it.

    \b
    ga-audit check runs/
    ga-audit check runs/ --format github --report sarif=ga-audit.sarif
    ga-audit check runs/ --write-baseline
    ga-audit check --run "python train.py --out runs" runs/
    ga-audit check --repro "--engine torch"
    ga-audit check --before-train --model LlamaForCausalLM
    """  # noqa: D301 (\b is Click's)
    from ga_audit.check.config import find_policy

    if (packages or model) and not before_train:
        raise click.UsageError("--package and --model are for --before-train")
    if before_train and (targets or run or repro or write_baseline or baseline):
        raise click.UsageError("--before-train reads no logs")
    policy, root = find_policy(Path.cwd(), config)
    if before_train:
        _finish(_before_train(policy, packages, model), form, reports)
    if write_baseline or baseline is not None or policy.baseline is not None:
        from ga_audit.check.baseline import NAME

        baseline = baseline or root / (policy.baseline or NAME)
    audit = _audit(targets, reading, policy, root, run=run, repro=repro)
    _finish(_check(audit, policy, root, baseline, write=write_baseline), form, reports)


def _before_train(policy: Policy, packages: tuple[str, ...], model: str | None) -> Check:
    from ga_audit.bugs.releases import parse_requirement
    from ga_audit.check.before_train import check_stack

    if model is not None:
        policy = replace(policy, stack={**policy.stack, "model": model})
    return check_stack(policy, [parse_requirement(text) for text in packages])


def _audit(
    targets: tuple[str, ...],
    reading: Options,
    policy: Policy,
    root: Path,
    *,
    run: str | None,
    repro: str | None,
) -> Audit:
    """The audit of what the options name, or else of what the policy names."""
    from ga_audit import options, pipeline
    from ga_audit.check import sources

    if repro is not None or (policy.repro is not None and not (targets or run)):
        if targets or run:
            raise click.UsageError("--repro reads the logs that it writes: give no PATH and no --run")
        return sources.audit_of_repro(policy.repro or "" if repro is None else repro)
    if not targets:
        targets = tuple(path if "://" in path else str(root / path) for path in policy.paths)
    if not targets:
        remedy = "Give a PATH, or write paths = [...] into the policy."
        raise WrongUsage("there is nothing to check", remedy=remedy)
    if (command := run or policy.run) is not None:
        sources.run_command(command)
    # what the policy says is for all logs of the project, and need not fit those of this call
    bare = replace(reading, ga={}, world_size={}, stack=())
    runs, failures = pipeline.read_runs(targets, bare)
    known = pipeline.Options(ga=policy.ga, world_size=policy.world_size)
    runs = options.apply([pipeline.with_given(run, known) for run in runs], reading, failures)
    return pipeline.audit_runs(runs, failures, targets)


def _check(audit: Audit, policy: Policy, root: Path, baseline: Path | None, *, write: bool) -> Check:
    from ga_audit.check import baseline as baselines
    from ga_audit.check.concerns import check_audit

    if baseline is None or not write:
        known = () if baseline is None else baselines.read(baseline)
        return check_audit(audit, policy, root=root, baseline=known)
    found = check_audit(audit, policy, root=root)
    entries = [entry for concern in found.concerns if concern.waiver is None for entry in concern.entries]
    count = baselines.write(baseline, entries)
    click.echo(f"written: {baseline} ({count} entries)", err=True)
    return check_audit(audit, policy, root=root, baseline=entries)


def _finish(check: Check, form: str, reports: list[tuple[str, Path]]) -> NoReturn:
    """Print a check, write its files, and end with its status."""
    from ga_audit.files.atomic import new_file

    click.echo(_rendered(check, form))
    for kind, file in reports:
        with new_file(file, force=True) as part:
            part.write_text(_rendered(check, kind) + "\n", "utf-8")
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if form == "github" and place:
        _add_summary(check, Path(place))
    leave(check.status)


def _rendered(check: Check, form: str) -> str:
    from ga_audit import registry
    from ga_audit.output import _check as own_forms

    own = {"text": own_forms.text, "json": own_forms.as_json}
    if form in own:
        return own[form](check)
    text: str = registry.load("ga_audit.output", form).render(check.audit, check=check)
    return text


def _add_summary(check: Check, place: Path) -> None:
    from ga_audit.output.github import summary

    try:
        with place.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(summary(check.audit, check=check))
    except OSError as error:
        message = f"cannot write the job summary: {error.strerror}"
        raise AuditError(message, where=str(place), remedy="Unset GITHUB_STEP_SUMMARY.") from None
