"""List the known bugs, or those of a release or of this environment."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ga_audit.cli.options import errors_to_status, leave
from ga_audit.errors import AuditError, ExitCode

if TYPE_CHECKING:
    from ga_audit.bugs.catalogue import Affected, Bug
    from ga_audit.run import RunSettings

_QUANTITIES = (("loss", "logged loss"), ("grad_norm", "logged grad_norm"), ("gradient", "real gradient"))


@click.command(name="bugs", epilog="Exit status: 0, or 1 where --package or --installed finds a known bug.")
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

    if ids:
        chosen = _by_id(ids, catalogue.load())
        click.echo(_render([(bug, None) for bug in chosen], form, full=True))
        return
    if packages or installed:
        stack = [_release(text) for text in packages] + (_installed(catalogue.load()) if installed else [])
        known = _settings(stack, model, deepspeed, world_size, label_smoothing, stock_trainer)
        found = list(catalogue.expected(known))
        if form == "text":
            held = ", ".join(f"{name} {release}" for name, release in stack) or "no package of the catalogue"
            click.echo(f"{held}: {_count(len({b.id for b, _ in found}))}\n")
            for bug, row in found:
                click.echo(f"  {bug.id}: {_signature(row)}{_if(row, known)}")
            if line := _stock_models(dict(stack).get("transformers"), model):
                click.echo(f"\n  {line}" if found else f"  {line}")
            click.echo("" if not found else "\nin full:\n")
        if found or form == "json":
            click.echo(_render(found, form, full=True))
        leave(ExitCode.SCALED if found else ExitCode.HEALTHY)
    click.echo(_render([(bug, None) for bug in catalogue.load()], form, full=form != "text"))


def _settings(
    stack: Sequence[tuple[str, str]], model: str | None, deepspeed: bool | None, world_size: int | None,
    label_smoothing: bool | None, stock_trainer: bool,
) -> RunSettings:  # fmt: skip
    from ga_audit.bugs.conditions import STOCK
    from ga_audit.run import RunSettings, Setting, Trust

    def given(value: Any) -> Setting[Any]:
        return Setting(value, "given", Trust.GIVEN)

    known = {
        "architectures": [model] if model else None, "deepspeed": deepspeed, "trainer": STOCK if stock_trainer else None,
        "label_smoothing_factor": None if label_smoothing is None else float(label_smoothing),
    }  # fmt: skip
    names = {re.sub(r"[-_.]+", "-", name).lower(): release for name, release in stack}
    return RunSettings(
        world_size=None if world_size is None else given(world_size),
        packages={name: given(release) for name, release in names.items()},
        other={name: given(value) for name, value in known.items() if value is not None},
    )


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
        raise AuditError(f"no bug {', '.join(unknown)}", remedy="`ga-audit bugs` lists them.")
    return [known[i.upper()] for i in ids]


def _release(text: str) -> tuple[str, str]:
    name, sign, release = text.partition("==")
    if not sign or not name or not release:
        raise AuditError(f"{text!r} is not NAME==RELEASE", remedy="Write e.g. --package transformers==4.46.1.")
    return name, release


def _installed(bugs: tuple[Bug, ...]) -> list[tuple[str, str]]:
    from importlib import metadata

    found = []
    for name in sorted({bug.package for bug in bugs}):
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def _render(found: Sequence[tuple[Bug, Affected | None]], form: str, *, full: bool) -> str:
    merged: dict[str, tuple[Bug, list[Affected]]] = {}
    for bug, row in found:
        merged.setdefault(bug.id, (bug, []))[1].extend([row] if row else bug.affected)
    if form == "json":
        return json.dumps(
            {"schema": "ga-audit-bugs/1", "bugs": [_as_json(b, rows) for b, rows in merged.values()]}, indent=2
        )
    if form == "markdown":
        return "\n\n".join(_markdown(b, rows) for b, rows in merged.values())
    if not full:
        width = max((len(b.package) for b, _ in merged.values()), default=0)
        return "\n".join(f"{b.id}  {b.package:<{width}}  {b.title}" for b, _ in merged.values())
    return "\n\n".join(_text(b, rows) for b, rows in merged.values())


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


def _text(bug: Bug, rows: list[Affected]) -> str:
    lines = [f"{bug.id}  {bug.package}: {bug.title}"]
    for row in rows:
        lines.append(f"  {_where(row)}")
        lines.append(f"    {_signature(row)}")
    lines += _wrapped("eval loss", "affected" if bug.eval_loss_affected else "not affected")
    lines += _wrapped("fix", bug.fix) + _wrapped("retrain?", bug.retrain)
    how = {"run": "by running the releases", "source": "in the released source", "said": "as reported, not checked"}
    lines += _wrapped("verified", f"{how[bug.verified]}. {bug.verified_note}")
    lines += [f"  {kind:<9} {url}" for kind, url in bug.references]
    return "\n".join(lines)


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"  {label:<9} ", subsequent_indent=" " * 12) if text else []


def _markdown(bug: Bug, rows: list[Affected]) -> str:
    lines = [f"### {bug.id}: {bug.title}", "", f"| {bug.package} releases and conditions | effect |", "|---|---|"]
    lines += [f"| {_where(row)} | {_signature(row)} |" for row in rows]
    lines += ["", f"Fix: {bug.fix} Retrain? {bug.retrain}", ""]
    lines += [f"- {kind}: {url}" for kind, url in bug.references]
    return "\n".join(lines)


def _as_json(bug: Bug, rows: list[Affected]) -> dict[str, object]:
    def exponents(row: Affected) -> dict[str, object]:
        return {
            name: None if (e := getattr(row.signature, name)) is None else {"ga": e[0], "world": e[1]}
            for name, _ in _QUANTITIES
        }

    return {
        "id": bug.id, "title": bug.title, "package": bug.package, "eval_loss_affected": bug.eval_loss_affected,
        "affected": [{"releases": r.releases, "when": dict(r.when), "signature": exponents(r)} for r in rows],
        "fixed_in": bug.fixed_in, "fix": bug.fix, "retrain": bug.retrain,
        "verified": {"how": bug.verified, "note": bug.verified_note},
        "references": [{"type": kind, "url": url} for kind, url in bug.references],
    }  # fmt: skip
