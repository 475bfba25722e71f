"""Measure releases of a package in isolated environments: first bad, first good."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ga_audit.cli._terminal import is_quiet, quiet_option
from ga_audit.cli.options import errors_to_status, leave
from ga_audit.cli.repro import whole_numbers
from ga_audit.errors import ExitCode, WrongUsage

if TYPE_CHECKING:
    from ga_audit.releases.bisect import Row
    from ga_audit.releases.packages import Package


# by whether the list is complete
_AS_KNOWN = {
    True: "",
    False: "; only the releases that ga-audit knows are measured, and there may be others between them",
}


@click.command(
    name="bisect",
    epilog="Exit status: 0 measured, 2 usage, 3 a release could not be measured, or releases between ends of one "
    "verdict were not.",
)
@click.argument("package")
@click.option("--from", "first", required=True, metavar="RELEASE", help="Oldest release.")
@click.option("--to", "last", required=True, metavar="RELEASE", help="Newest release.")
@click.option(
    "--variants",
    metavar="A,B,...",
    help="Variants or stock models, or `all` variants.  [default: by the package]",
)
@click.option("--with", "pins", multiple=True, metavar="PACKAGE==RELEASE", help="Pin another package.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Measure every release in the range instead of bisecting.",
)
@click.option("--ga", default="1,4", show_default=True, callback=whole_numbers, help="Values of GA.")
@click.option(
    "--world-size",
    default="1",
    show_default=True,
    callback=whole_numbers,
    help="Numbers of ranks, started by torchrun.",
)
@click.option("--data-parallel", is_flag=True, help="Use `torch.nn.DataParallel` instead of torchrun.")
@click.option(
    "--effective-batch-size",
    default=16,
    show_default=True,
    type=click.IntRange(1),
    help="Effective batch size of every training.",
)
@click.option(
    "--steps",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Optimizer steps of a cell.",
)
@click.option("--python", default=sys.executable, metavar="PATH", help="Interpreter whose torch is reused.")
@click.option(
    "-o",
    "--output",
    "--out",
    "out",
    default="ga-audit-bisect",
    show_default=True,
    metavar="DIR",
    help="Output folder for the logs.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    help="Form of the output; markdown: releases against variants.",
)
@quiet_option
@errors_to_status
def command(
    package: str, first: str, last: str, variants: str | None, pins: tuple[str, ...], everything: bool,
    ga: tuple[int, ...], world_size: tuple[int, ...], data_parallel: bool, effective_batch_size: int, steps: int, python: str,
    out: str, form: str,
) -> None:  # fmt: skip
    """Install releases side by side, run the repro in each, and print what each one scales.

    \b
    ga-audit bisect transformers --from 4.45.2 --to 4.48.1 --all --variants A,B
    ga-audit bisect trl --from 0.13.0 --to 0.14.0 --variants dpo,kto --with transformers==4.48.3
    """  # noqa: D301 (\b is Click's)
    from dataclasses import asdict

    from ga_audit.releases import bisect, index, tables
    from ga_audit.releases.packages import between, packages

    if package not in packages():
        raise WrongUsage(f"releases of {package!r} are not known", remedy=f"Choose of: {', '.join(packages())}.")
    request = bisect.Request(
        package, Path(out), python, ga, steps, effective_batch_size, pins=pins, world_sizes=world_size,
        data_parallel=data_parallel,
    )  # fmt: skip
    between(first, last, package)  # a wrong range is an error before anything is fetched
    names = _names(variants, packages()[package])
    bisect.check(request, names)
    listing = index.listing(package)
    releases = listing.between(first, last)
    if listing.why:
        click.echo(f"releases of {package}: {listing.why}{_AS_KNOWN[listing.is_complete]}", err=True)

    def measured(release: str, wanted: tuple[str, ...]) -> tuple[Row, ...]:
        if not is_quiet():
            click.echo(f"{package} {release}: {', '.join(wanted)}", err=True)
        return bisect.measure(request, release, wanted)

    def one_of(name: str) -> Callable[[str], Row]:
        return lambda release: measured(release, (name,))[0]

    try:
        if everything:
            rows = [row for release in releases for row in measured(release, names)]
        else:
            rows = [row for name in names for row in bisect.search(releases, one_of(name))]
    except KeyboardInterrupt:
        click.echo("interrupted; what was measured is kept: the same command goes on", err=True)
        leave(ExitCode.INTERRUPTED)
    if form == "json":
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        click.echo(tables.grid(rows) if form == "markdown" else tables.table(rows, releases))
    measured_all = listing.is_complete and not tables.has_gap(rows, releases)
    is_sure = measured_all and all(row.is_measured for row in rows)
    leave(ExitCode.HEALTHY if is_sure else ExitCode.UNDECIDED)


def _names(text: str | None, package: Package) -> tuple[str, ...]:
    """Variants of the package's engine, and its stock models; `all` is the variants that need nothing besides."""
    from ga_audit.repro.engine import engines

    engine = engines()[package.engine]
    if text is None:
        return package.variants
    if text == "all":
        return tuple(name for name in engine.variants if name not in engine.variant_needs)
    names, known = (
        tuple(part.strip() for part in text.split(",")),
        (*engine.variants, *engine.models),
    )
    if unknown := [name for name in names if name not in known]:
        raise WrongUsage(f"there is no variant {unknown[0]!r}", remedy=f"Choose of: {', '.join(known)}, or all.")
    return names
