"""List the known bugs, or those of a release or of this environment."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ga_audit.cli.options import errors_to_status, leave
from ga_audit.errors import ExitCode, WrongUsage

if TYPE_CHECKING:
    from ga_audit.bugs.catalogue import Affected, Bug
    from ga_audit.bugs.coverage import Coverage
    from ga_audit.run import RunSettings

_QUANTITIES = (("loss", "logged loss"), ("grad_norm", "logged grad_norm"), ("gradient", "real gradient"))


@click.command(
    name="bugs",
    epilog="Exit status: 0. With --package or --installed: 1 a bug is known; 3 none is known, and a release was not "
    "measured or nothing is known of it. 2 usage.",
)
@click.argument("ids", nargs=-1, metavar="[GAnnn]...")
@click.option("--package", "packages", multiple=True, metavar="NAME==RELEASE", help="Known bugs of a release.")
@click.option("--installed", is_flag=True, help="Known bugs of what is installed in this environment.")
@click.option(
    "--model", metavar="CLASS", help="Class of the model, e.g. LlamaForCausalLM: leaves out what it does not meet."
)
@click.option("--deepspeed/--no-deepspeed", default=None, help="Whether DeepSpeed trains.")
@click.option("--world-size", type=click.IntRange(1), metavar="N", help="Data-parallel ranks.")
@click.option("--label-smoothing/--no-label-smoothing", default=None, help="Whether label_smoothing_factor is above 0.")
@click.option(
    "--stock-trainer", is_flag=True, help="The trainer has no compute_loss and no compute_loss_func of yours."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", help="Form of the output."
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
    if ids:
        chosen = _by_id(ids, catalogue.load())
        click.echo(_render([(bug, bug.affected, bug.fix) for bug in chosen], form, full=True))
    elif packages or installed:
        stack = [parse_requirement(text) for text in packages] + (before_train.installed() if installed else [])
        facts = {
            "model": model, "deepspeed": deepspeed, "world_size": world_size, "label_smoothing": label_smoothing,
            "stock_trainer": stock_trainer,
        }  # fmt: skip
        known = before_train.as_settings(stack, facts)
        leave(_of_stack(known, model, form))
    else:
        every = [(bug, bug.affected, bug.fix) for bug in catalogue.load()]
        click.echo(_render(every, form, full=form != "text"))


def _of_stack(known: RunSettings, model: str | None, form: str) -> ExitCode:
    """Print the known bugs of the releases and what is known of them at all; the exit status."""
    from ga_audit.bugs import catalogue, coverage

    looked_up = [coverage.look_up(name, release.value) for name, release in known.packages.items()]
    unknown = {one.package for one in looked_up if one.why_unknown}
    found = list(catalogue.expected(known))
    run = catalogue.stack(known)
    merged: dict[str, tuple[Bug, list[Affected]]] = {}
    for bug, row in found:
        merged.setdefault(bug.id, (bug, []))[1].append(row)
    full = [(bug, rows, catalogue.fix_for(bug, rows, [run])) for bug, rows in merged.values()]
    if form == "text":
        for one in looked_up:
            click.echo(_heading(one, len({b.id for b, _ in found if b.package == one.package})))
        lines = [f"  {bug.id}: {_signature(row)}{_if(row, known)}" for bug, row in found]
        release = known.packages.get("transformers")
        if line := _stock_models(None if release is None else release.value, model):
            lines += ["", f"  {line}"] if found else [f"  {line}"]
        if lines:
            click.echo("\n".join(["", *lines, *(["", "in full:", ""] if found else [])]))
    if form == "json":
        click.echo(_json(full, looked_up))
    elif found:
        click.echo(_render(full, form, full=True))
    elif form == "markdown":
        click.echo("\n".join(f"- {_heading(one, 0)}" for one in looked_up))
    if any(bug.package not in unknown for bug, _ in found):
        return ExitCode.SCALED
    return ExitCode.HEALTHY if all(one.measured for one in looked_up) else ExitCode.UNDECIDED


def _heading(one: Coverage, found: int) -> str:
    """One line on a release: how many bugs are known of it, or what it means that none is."""
    if not found or one.why_unknown:
        bugs = "1 bug of earlier releases is" if found == 1 else f"{found} bugs of earlier releases are"
        earlier = f"; {bugs} not known to be fixed" if found else ""
        return f"{one.package} {one.release}: {one.sentence}{earlier}"
    return f"{one.package} {one.release}: {_count(found)}"


def _stock_models(release: str | None, model: str | None) -> str:
    """What the stock models of a release do, in numbers, or the one that was asked about; empty where that is not known."""
    from ga_audit.bugs import stock_models

    if release is None:
        return ""
    if model is not None:
        does = stock_models.loss_arguments(model, release)
        if does is None:
            return f"what {model} does with loss arguments in {release} is not known"
        several = does == "uses" and stock_models.depends_on_problem_type(model)
        return f"{model} {_DOES[does]}" + (" where each sample has one class, else it ignores it" if several else "")
    numbers = stock_models.counted(release)
    if not sum(numbers.values()):
        return ""
    return (
        f"of {sum(numbers.values())} stock models with labels (for tokens, sequences, images, ...) {numbers['uses']} use the "
        f"number of items in the batch, {numbers['ignores']} take it and ignore it, {numbers['none']} take none (--model CLASS "
        "says of one)"
    )


_DOES = {
    "uses": "uses the number of items in the batch", "ignores": "takes the number of items in the batch and ignores it",
    "none": "takes no number of items in the batch",
}  # fmt: skip


def _if(row: Affected, known: RunSettings) -> str:
    from ga_audit.bugs import catalogue

    unknown = catalogue.conditions_text(row, [catalogue.stack(known)])
    return f", if {unknown}" if unknown else ""


def _count(n: int) -> str:
    return {0: "no known bug", 1: "1 known bug"}.get(n, f"{n} known bugs, each under its own conditions")


def _by_id(ids: tuple[str, ...], bugs: tuple[Bug, ...]) -> list[Bug]:
    known = {bug.id: bug for bug in bugs}
    unknown = [i for i in ids if i.upper() not in known]
    if unknown:
        raise WrongUsage(f"no bug {', '.join(unknown)}", remedy="`ga-audit bugs` lists them.")
    return [known[i.upper()] for i in ids]


def _render(found: Sequence[tuple[Bug, Sequence[Affected], str]], form: str, *, full: bool) -> str:
    """Bugs, their rows that are asked about, and what to do there."""
    if form == "json":
        return _json(found, ())
    if form == "markdown":
        return "\n\n".join(_markdown(*one) for one in found)
    if not full:
        width = max((len(b.package) for b, _, _ in found), default=0)
        return "\n".join(f"{b.id}  {b.package:<{width}}  {b.title}" for b, _, _ in found)
    return "\n\n".join(_text(*one) for one in found)


def _json(found: Sequence[tuple[Bug, Sequence[Affected], str]], looked_up: Sequence[Coverage]) -> str:
    bugs = [_as_json(*one) for one in found]
    stack = [
        {"package": one.package, "release": one.release, "measured": one.measured, "unknown": one.why_unknown}
        for one in looked_up
    ]
    return json.dumps({"schema": "ga-audit-bugs/1", "bugs": bugs, "stack": stack}, indent=2)


def _signature(row: Affected) -> str:
    parts = []
    for name, words in _QUANTITIES:
        exponents = getattr(row.signature, name)
        if exponents is not None:
            ga, world = exponents
            factor = " x ".join(
                f"{base}^{e:g}" if e != 1 else base for base, e in (("GA", ga), ("world_size", world)) if e
            )
            parts.append(f"{words} {'x ' + factor if factor else 'right'}")
    if row.signature.gradient is None:
        parts.append("real gradient not along that of the whole batch")
    return ", ".join(parts)


def _where(row: Affected) -> str:
    conditions = ", ".join(f"{k} = {str(v).lower() if isinstance(v, bool) else v}" for k, v in row.when.items())
    return f"{row.releases}{'; ' + conditions if conditions else ''}"


def _text(bug: Bug, rows: Sequence[Affected], fix: str) -> str:
    lines = [f"{bug.id}  {bug.package}: {bug.title}"]
    for row in rows:
        lines.append(f"  {_where(row)}")
        lines.append(f"    {_signature(row)}")
    lines += _wrapped("eval loss", "affected" if bug.eval_loss_affected else "not affected")
    if bug.fixed_in and bug.fixed_in not in fix:  # what is advised is a later one
        lines += _wrapped("fixed in", bug.fixed_in)
    lines += _wrapped("fix", fix) + _wrapped("retrain?", bug.retrain)
    how = {"run": "by running the releases", "source": "in the released source", "said": "as reported, not checked"}
    lines += _wrapped("verified", f"{how[bug.verified]}. {bug.verified_note}")
    lines += [f"  {kind:<9} {url}" for kind, url in bug.references]
    return "\n".join(lines)


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"  {label:<9} ", subsequent_indent=" " * 12) if text else []


def _markdown(bug: Bug, rows: Sequence[Affected], fix: str) -> str:
    lines = [f"### {bug.id}: {bug.title}", "", f"| {bug.package} releases and conditions | effect |", "|---|---|"]
    lines += [f"| {_where(row)} | {_signature(row)} |" for row in rows]
    lines += ["", f"Fix: {fix} Retrain? {bug.retrain}", ""]
    lines += [f"- {kind}: {url}" for kind, url in bug.references]
    return "\n".join(lines)


def _as_json(bug: Bug, rows: Sequence[Affected], fix: str) -> dict[str, object]:
    def exponents(row: Affected) -> dict[str, object]:
        return {
            name: None if (e := getattr(row.signature, name)) is None else {"ga": e[0], "world": e[1]}
            for name, _ in _QUANTITIES
        }

    return {
        "id": bug.id, "title": bug.title, "package": bug.package, "eval_loss_affected": bug.eval_loss_affected,
        "affected": [{"releases": r.releases, "when": dict(r.when), "signature": exponents(r)} for r in rows],
        "fixed_in": bug.fixed_in, "fix": fix, "retrain": bug.retrain,
        "verified": {"how": bug.verified, "note": bug.verified_note},
        "references": [{"type": kind, "url": url} for kind, url in bug.references],
    }  # fmt: skip
