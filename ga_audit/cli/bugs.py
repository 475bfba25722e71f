"""List the known bugs, or those of a release or of this environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ga_audit.cli._choices import complete_bug, nearest_bug
from ga_audit.cli.options import errors_to_status, leave
from ga_audit.errors import ExitCode, WrongUsage

if TYPE_CHECKING:
    from ga_audit.bugs.catalogue import Affected, Bug
    from ga_audit.bugs.coverage import Coverage
    from ga_audit.run import RunSettings


@click.command(
    name="bugs",
    epilog="Exit status: 0. With --package or --installed: 1 a bug is known; 3 none is known, and a release was not "
    "measured or nothing is known of it. 2 usage.",
)
@click.argument("ids", nargs=-1, metavar="[GAnnn]...", shell_complete=complete_bug)
@click.option("--package", "packages", multiple=True, metavar="NAME==RELEASE", help="Known bugs of a release.")
@click.option("--installed", is_flag=True, help="Known bugs of what is installed in this environment.")
@click.option(
    "--model",
    metavar="CLASS",
    help="Class of the model, e.g. LlamaForCausalLM: leaves out what it does not meet.",
)
@click.option("--deepspeed/--no-deepspeed", default=None, help="Whether DeepSpeed trains.")
@click.option("--world-size", type=click.IntRange(1), metavar="N", help="Data-parallel ranks.")
@click.option(
    "--label-smoothing/--no-label-smoothing",
    default=None,
    help="Whether label_smoothing_factor is above 0.",
)
@click.option(
    "--stock-trainer",
    is_flag=True,
    help="The trainer has no compute_loss and no compute_loss_func of yours.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    help="Form of the output.",
)
@errors_to_status
def command(
    ids: tuple[str, ...],
    packages: tuple[str, ...],
    installed: bool,
    model: str | None,
    deepspeed: bool | None,
    world_size: int | None,
    label_smoothing: bool | None,
    stock_trainer: bool,
    form: str,
) -> None:
    """List known bugs of trainers that mis-scale loss, grad_norm or the gradient.

    \b
    ga-audit bugs                                  all of them
    ga-audit bugs GA003                            one, in full
    ga-audit bugs --package transformers==4.46.1   what a release is known to do
    ga-audit bugs --installed                      what this environment is known to do, before you train
    ga-audit bugs --package transformers==4.46.3 --model GPT2LMHeadModel --no-deepspeed --stock-trainer
    """  # noqa: D301 (\b is Click's)
    from ga_audit.bugs import catalogue
    from ga_audit.bugs.releases import parse_requirement
    from ga_audit.check import before_train

    if ids and (packages or installed):
        raise WrongUsage("GAnnn and --package or --installed exclude each other", remedy="Give one of them.")
    if packages or installed:
        stack = [parse_requirement(text) for text in packages] + (before_train.installed() if installed else [])
        facts = {
            "model": model, "deepspeed": deepspeed, "world_size": world_size, "label_smoothing": label_smoothing,
            "stock_trainer": stock_trainer,
        }  # fmt: skip
        known = before_train.as_settings(stack, facts)
        leave(_of_stack(known, model, form))
    else:
        chosen = _by_id(ids, catalogue.load()) if ids else list(catalogue.load())
        click.echo(_render(chosen, form, full=bool(ids)))


def _render(bugs: Sequence[Bug], form: str, *, full: bool) -> str:
    """Every row of the bugs; without `full`, the text is a list."""
    from ga_audit.bugs.remedies import advice
    from ga_audit.output import _bugs

    entries = [_bugs.Entry(bug, bug.affected, advice(bug)) for bug in bugs]
    if form == "text" and not full:
        return _bugs.as_list(entries)
    return {"json": _bugs.as_json, "markdown": _bugs.as_markdown, "text": _bugs.as_text}[form](entries)


def _of_stack(known: RunSettings, model: str | None, form: str) -> ExitCode:
    """Print the known bugs of the releases and what is known of them at all; the exit status."""
    from ga_audit.bugs import catalogue, coverage
    from ga_audit.bugs.remedies import fix_for
    from ga_audit.output import _bugs
    from ga_audit.output.wording import bugs as wording

    looked_up = [coverage.look_up(name, release.value) for name, release in known.packages.items()]
    found = list(catalogue.expected(known))
    run = catalogue.stack(known)
    merged: dict[str, tuple[Bug, list[Affected]]] = {}
    for bug, row in found:
        merged.setdefault(bug.id, (bug, []))[1].append(row)
    entries = [_bugs.Entry(bug, rows, fix_for(bug, rows, [run])) for bug, rows in merged.values()]
    if form == "json":
        click.echo(_bugs.as_json(entries, looked_up))
    elif form == "markdown":
        headings = "\n".join(f"- {wording.heading(one, 0)}" for one in looked_up)
        click.echo(_bugs.as_markdown(entries) if found else headings)
    else:
        for line in _overview(known, model, looked_up, found):
            click.echo(line)
        if found:
            click.echo(f"\nin full:\n\n{_bugs.as_text(entries)}")
    unknown = {one.package for one in looked_up if one.unknown}
    if any(bug.package not in unknown for bug, _ in found):
        return ExitCode.SCALED
    return ExitCode.HEALTHY if all(one.measured for one in looked_up) else ExitCode.UNDECIDED


def _overview(
    known: RunSettings,
    model: str | None,
    looked_up: Sequence[Coverage],
    found: Sequence[tuple[Bug, Affected]],
) -> Iterator[str]:
    """A line for each release, for each row of a bug, and on the stock models."""
    from ga_audit.bugs import catalogue
    from ga_audit.output.wording import bugs as wording

    for one in looked_up:
        yield wording.heading(one, len({b.id for b, _ in found if b.package == one.package}))
    lines = []
    run = catalogue.stack(known)
    for bug, row in found:
        open_ones = wording.conditions(catalogue.open_conditions(row, [run]))
        lines.append(f"  {bug.id}: {wording.signature(row)}{f', if {open_ones}' if open_ones else ''}")
    release = known.packages.get("transformers")
    if line := _stock_models(None if release is None else release.value, model):
        lines += ["", f"  {line}"] if found else [f"  {line}"]
    if lines:
        yield from ("", *lines)


def _stock_models(release: str | None, model: str | None) -> str:
    """What the stock models of a release do, in numbers, or the given one; empty where unknown."""
    from ga_audit.bugs import stock_models
    from ga_audit.output.wording import bugs as wording

    if release is None:
        return ""
    if model is not None:
        return wording.stock_model(model, release)
    return wording.stock_models_counted(stock_models.counted(release))


def _by_id(ids: tuple[str, ...], bugs: tuple[Bug, ...]) -> list[Bug]:
    known = {bug.id: bug for bug in bugs}
    unknown = [i for i in ids if i.upper() not in known]
    if unknown:
        raise WrongUsage(f"no bug {', '.join(unknown)}", remedy=nearest_bug(unknown[0]))
    return [known[i.upper()] for i in ids]
