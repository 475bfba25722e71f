"""The text table: columns as wide as their cells, two blanks between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

import click

from ga_audit.output._safe import short

_GAP = "  "
_ELLIPSIS = "…"


def table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str] = (),
    right: Sequence[int] = (),
    indent: int = 0,
    width: int | None = None,
    shorten: int | None = None,
    paint: Callable[[int, int, str], str] | None = None,
) -> list[str]:
    """Lay out rows of cells as lines.

    Parameters
    ----------
    rows : cells; every row has as many.
    header : names of the columns; empty = none.
    right : numbers of the columns that are aligned to the right.
    indent : blanks before each line.
    width : of a line with its indent; needs `shorten`.
    shorten : the column that gives way where a line is wider: the last one is cut at its end, another one in its
        middle, since names differ at their ends.
    paint : colours a padded cell, given the number of its row and of its column; not the header.

    Examples
    --------
    >>> table([["a", "1"], ["bc", "10"]], header=["run", "GA"], right=[1])
    ['run  GA', 'a     1', 'bc   10']
    """
    cells = [list(row) for row in ([header, *rows] if header else rows)]
    if not cells:
        return []
    if width is not None and shorten is not None:
        _fit(cells, shorten, width - indent)
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    aligned = set(right)
    lines = []
    for at, row in enumerate(cells, start=-1 if header else 0):
        padded = [_pad(cell, widths[i], i in aligned) for i, cell in enumerate(row)]
        if paint is not None and at >= 0:
            padded = [paint(at, i, cell) for i, cell in enumerate(padded)]
        lines.append((" " * indent + _GAP.join(padded)).rstrip())
    return lines


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _fit(cells: list[list[str]], column: int, width: int) -> None:
    """Shorten the cells of a column so that lines are no wider than they may be."""
    last = column == len(cells[0]) - 1
    others = sum(max(len(row[i]) for row in cells) + len(_GAP) for i in range(len(cells[0])) if i != column)
    room = max(width - others, 24 if last else 12)
    for row in cells:
        if last:
            row[column] = row[column] if len(row[column]) <= room else row[column][: room - 1] + _ELLIPSIS
        else:
            row[column] = short(row[column], room)


def names_in(names: Sequence[str], width: int) -> list[str]:
    """Names of at most `width` columns that stay different.

    Parameters
    ----------
    names : of runs.
    width : columns of the longest.

    Examples
    --------
    >>> names_in(["sweep-2026-lr1e-3-ga1-seed1", "sweep-2026-lr1e-3-ga8-seed1"], 14)
    ['…ga1-seed1', '…ga8-seed1']
    """
    if all(len(name) <= width for name in names):
        return list(names)
    shown = [short(name, width) for name in names]
    if len(set(shown)) == len(set(names)):
        return shown
    # what all begin with tells nothing apart; the last word of it stays readable
    same = takewhile(lambda characters: len(set(characters)) == 1, zip(*names, strict=False))
    start = "".join(characters[0] for characters in same)
    cut = max(start.rfind(mark) + 1 for mark in "/-_ ")
    shown = [short(f"{_ELLIPSIS}{name[cut:]}", width) for name in names]
    if len(set(shown)) == len(set(names)):
        return shown
    return [f"{short(name, max(width - 4, 4))} #{i}" for i, name in enumerate(names, start=1)]


def paint_first(lines: Sequence[str], words: Sequence[str], colours: dict[str, str]) -> list[str]:
    """Colour the first cell of each line, where it is one of the coloured words.

    Parameters
    ----------
    lines : of a table without indent.
    words : the first cell of each line.
    colours : word -> colour of Click.
    """
    return [
        click.style(word, fg=colours[word], bold=True) + line[len(word) :] if word in colours else line
        for line, word in zip(lines, words, strict=True)
    ]
