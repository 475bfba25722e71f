"""What was measured over releases, as text and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ga_audit.releases.bisect import NOT_MEASURED, Row
from ga_audit.repro.measurement import is_misaligned
from ga_audit.repro.tables import FACTOR_SAID
from ga_audit.repro.verdict import MatrixVerdict, is_about

_SHOWN = 8  # releases of a gap that are named


def changes(rows: Sequence[Row], releases: Sequence[str] = ()) -> tuple[str, ...]:
    """In words, where the verdict of a variant changes between two measured releases.

    `releases` are all that are known, where not every one of them was asked: between two of which others were not
    measured, the change is not placed.
    """
    found = []
    for variant in dict.fromkeys(row.variant for row in rows):
        asked = [row for row in rows if row.variant == variant]
        for before, after in pairwise([row for row in asked if row.is_measured]):
            if before.verdict == after.verdict:
                continue
            if unasked := _between(before.release, after.release, releases, asked):
                found.append(
                    f"{variant}: {before.verdict} in {before.release}, {after.verdict} in {after.release}; not measured "
                    f"between them: {', '.join(unasked)}"
                )
                continue
            kind = {"healthy": "first good"}.get(
                after.verdict, "first bad" if before.verdict == "healthy" else "changes at"
            )
            line = f"{variant}: {kind} {after.release} ({after.verdict}; {before.release}: {before.verdict})"
            found.append(line + _also_changed(before, after))
    return tuple(found)


def _between(first: str, last: str, releases: Sequence[str], asked: Sequence[Row]) -> list[str]:
    """Releases between two of them that nobody asked about."""
    if first not in releases or last not in releases:
        return []
    inside = releases[releases.index(first) + 1 : releases.index(last)]
    known = {row.release for row in asked}
    return [release for release in inside if release not in known]


def _also_changed(before: Row, after: Row) -> str:
    """Companions that differ between the rows: the change may be theirs."""
    others = [pin.replace("==", " ") for pin in after.companions if pin not in before.companions]
    return f"; changed with it: {', '.join(others)}" if others else ""


def table(rows: Sequence[Row], releases: Sequence[str] = ()) -> str:
    """Release against what is scaled; `releases` as in `changes`."""
    wide = max([len("variant"), *(len(row.variant) for row in rows)])
    lines = [f"{'release':>10}  {'variant':<{wide}}  {'loss':>6}  {'norm':>6}  {'grad':>6}  {'verdict':<12}  known bug"]
    for row in rows:
        numbers = "  ".join(f"{_exponent(e):>6}" for e in (row.loss, row.grad_norm, row.gradient))
        said = row.failure or f"{row.verdict:<12}  {', '.join(row.bugs) or '-'}"
        said += f"  {', '.join(more)}" if (more := _besides(row)) else ""
        lines.append(f"{row.release:>10}  {row.variant:<{wide}}  {numbers}  {said}".rstrip())
    if any(row.rest is not None and abs(row.rest - 1) > FACTOR_SAID for row in rows):
        lines.append("x0.93: a factor of the real gradient at every GA, which no power of GA explains")
    if any(row.on_ranks for row in rows):
        lines.append("ranks: exponents of loss, grad_norm and gradient on their number")
    found = changes(rows, releases)
    gaps = _not_measured(rows, releases) if found else _ends_alike(rows, releases)
    return "\n".join([*lines, *found, *gaps, *notes(rows)])


def _not_measured(rows: Sequence[Row], releases: Sequence[str]) -> Iterator[str]:
    """The releases that a search has passed over: what they do is not known."""
    for variant in dict.fromkeys(row.variant for row in rows):
        asked = {row.release for row in rows if row.variant == variant}
        if left := [release for release in releases if release not in asked]:
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            shown = ", ".join(left[:_SHOWN])
            yield f"{variant}: not measured: {shown}{more} (--all measures every release)"


def has_gap(rows: Sequence[Row], releases: Sequence[str]) -> bool:
    """Whether releases between ends of one verdict were not measured: a fault between them stays unseen."""
    return not changes(rows, releases) and any(_ends_alike(rows, releases))


def _ends_alike(rows: Sequence[Row], releases: Sequence[str]) -> Iterator[str]:
    """What a search that found both ends alike has not asked."""
    for variant in dict.fromkeys(row.variant for row in rows):
        asked = [row for row in rows if row.variant == variant]
        measured = [row for row in asked if row.is_measured]
        if len(measured) > 1 and (unasked := _between(measured[0].release, measured[-1].release, releases, asked)):
            yield (
                f"{variant}: {measured[0].verdict} in {measured[0].release} and in {measured[-1].release}; {len(unasked)} "
                "releases between them were not measured (--all measures them)"
            )


def grid(rows: Sequence[Row]) -> str:
    """Releases against variants as Markdown; a cell holds the exponents of loss, grad_norm and gradient, bold if scaled."""
    variants = tuple(dict.fromkeys(row.variant for row in rows))
    lines = [f"| release | {' | '.join(variants)} |", f"|---|{'---|' * len(variants)}"]
    for release in dict.fromkeys(row.release for row in rows):
        cells = {row.variant: _cell(row) for row in rows if row.release == release}
        companion = next((f" ({p.replace('==', ' ')})" for r in rows if r.release == release
                       for p in r.companions if r.package != "transformers" and p.startswith("transformers==")), "")  # fmt: skip
        lines.append(f"| {release}{companion} | {' | '.join(cells.get(name, '') for name in variants)} |")
    lines += ["", *said] if (said := notes(rows)) else []
    broken: dict[str, list[str]] = {}
    for row in rows:
        if row.failure:
            broken.setdefault(row.failure, []).append(f"{row.release} {row.variant}")
    lines += ["", *(f"Not measured: {', '.join(names)}: {why}" for why, names in broken.items())] if broken else []
    return "\n".join(lines)


def notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """What the numbers of a variant must say of themselves, each once."""
    of: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.note:
            of.setdefault(row.note, {})[row.variant] = None
    return tuple(f"{', '.join(variants)}: {note}" for note, variants in of.items())


def _besides(row: Row) -> list[str]:
    """What exponents on GA do not say: the direction of the gradient, ranks, a factor at every GA."""
    found = []
    if row.cosine is not None and is_misaligned(row.cosine):
        found.append(f"cosine {row.cosine:.2f}")
    elif row.cosine is not None and row.verdict == MatrixVerdict.UNEQUAL_WEIGHTS:
        found.append(f"unequal weights, cosine {row.cosine:.4f}")
    if row.on_ranks:
        exponents = (row.on_ranks.loss, row.on_ranks.grad_norm, row.on_ranks.gradient)
        found.append(f"ranks {', '.join(map(_whole, exponents))}")
    return found + ([f"x{row.rest:.2f}"] if row.rest is not None and abs(row.rest - 1) > FACTOR_SAID else [])


def _exponent(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"  # no minus zero


def _whole(exponent: float | None) -> str:
    """A whole number where it is about one; else as measured."""
    near = exponent is not None and is_about(exponent, round(exponent))
    return str(round(exponent)) if near and exponent is not None else _exponent(exponent)


def _cell(row: Row) -> str:
    numbers = (row.loss, row.grad_norm, row.gradient)
    if row.failure or row.verdict == NOT_MEASURED:
        return "not measured"
    text = ", ".join(map(_whole, numbers))
    text += f" ({', '.join(more)})" if (more := _besides(row)) else ""
    return text if row.verdict == "healthy" else f"**{text}**"
