"""Where the cells of a CSV text lie, so that some are replaced and all else stays byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NUMBER_IN_CELL = re.compile(r'\s*"?\s*([^"]*?)\s*"?\s*')


@dataclass(frozen=True, slots=True)
class CellRow:
    """One row that is not empty."""

    spans: tuple[tuple[int, int], ...]  # of the cells as they stand in the text, quotes included
    values: tuple[str, ...]

    @property
    def end(self) -> int:
        """Where the row ends, before its line end."""
        return self.spans[-1][1]


def rows(text: str, delimiter: str, at: int = 0) -> Iterator[CellRow]:
    """The rows from an index on, as Python's `csv` reads them with its default dialect."""
    cell = re.compile(rf'"(?:[^"]|"")*"?[^{re.escape(delimiter)}\r\n]*|[^{re.escape(delimiter)}\r\n]*')
    spans: list[tuple[int, int]] = []
    while at <= len(text):
        match = cell.match(text, at)
        assert match is not None  # it matches nothing, too
        spans.append(match.span())
        at = match.end()
        if text[at : at + 1] == delimiter:
            at += 1
            continue
        if spans != [(at, at)]:
            yield CellRow(tuple(spans), tuple(_unquoted(text[slice(*span)]) for span in spans))
        spans = []
        at += 2 if text[at : at + 2] == "\r\n" else 1


def _unquoted(raw: str) -> str:
    if not raw.startswith('"'):
        return raw
    match = re.match(r'"((?:[^"]|"")*)"?', raw)
    assert match is not None
    return match[1].replace('""', '"') + raw[match.end() :]


def number_span(text: str, span: tuple[int, int]) -> tuple[int, int] | None:
    """The span of the number in a cell, quotes and blanks left out."""
    match = _NUMBER_IN_CELL.fullmatch(text, *span)
    return match.span(1) if match else None


def appended(row: CellRow, columns: int, cells: Sequence[str], delimiter: str) -> tuple[int, int, str] | None:
    """The edit that appends cells to a row of a table of so many columns; None where the row has too many already."""
    if len(row.spans) > columns:
        return None
    padding = [""] * (columns - len(row.spans))
    quoted = [f'"{c.replace(chr(34), chr(34) * 2)}"' if set(c) & {'"', delimiter, "\n"} else c for c in cells]
    return (row.end, row.end, "".join(delimiter + c for c in (*padding, *quoted)))
