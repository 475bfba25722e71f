"""A notebook (`.ipynb`): what its cells printed, tables of the Trainer included, in the order of the cells."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import settings
from ga_audit.logs.formats import Claim, Format, Target, _values
from ga_audit.logs.formats._points import need_series
from ga_audit.logs.formats._text import banner, json_text, positions
from ga_audit.logs.formats._text.column_runs import series_of
from ga_audit.logs.formats._text.pairs import Keys
from ga_audit.logs.formats._text.reading import Reader
from ga_audit.run import Run, Source

SINK = "notebook"


def claim(target: Target) -> Claim:
    """YES for the JSON of a notebook."""
    if target.is_dir or target.head.lstrip()[:1] != b"{":
        return Claim.NO
    named = target.file.suffix.lower() == ".ipynb"
    return Claim.YES if named or (b'"cells"' in target.head and b'"cell_type"' in target.head) else Claim.NO


def read(target: Target) -> Iterator[Run]:
    """One run for each training that the outputs show.

    Raises
    ------
    UnreadableLog
        no notebook, or no output with a row of a log.
    """
    content = json_text.load(target.read_bytes(), target.path)
    text = "\n".join(_outputs(content))
    reader = Reader(Keys(loss=target.loss_key, grad_norm=target.grad_norm_key))
    blocks = [block for block in reader.read([text.encode("utf-8", "surrogatepass")]) if block.last is not None]
    if not blocks:
        raise UnreadableLog(
            "no cell printed a training loss",
            where=target.path,
            remedy="Save the notebook with the outputs of its cells.",
        )
    for number, block in enumerate(blocks, 1):
        config = banner.settings_of(block.banner, target.name)
        every = config.logging_steps.value if config.logging_steps else None
        at = positions.of_block(block, ga=config.ga, logging_steps=every)
        if at.iterations_per_step is not None:
            config = settings.merge(config, banner.derived_ga(at.iterations_per_step))
        series, left = series_of(block, at, SINK, target)
        need_series(series, target.path, left)
        several = len(blocks) > 1
        name = block.label or (f"{target.file.stem} (run {number})" if several else target.file.stem)
        yield Run(
            id=f"{target.path}#{number}",
            name=name,
            training=f"{target.path}#{number}",
            settings=config,
            series=series,
            sources=(Source(SINK, target.path, str(number) if several else ""),),
            left_out=left,
        )


def _outputs(content: Any) -> Iterator[str]:
    """The code of each cell, which may state settings, and the text of its outputs."""
    for cell in _listed(_values.mapping(content).get("cells")):
        cell = _values.mapping(cell)
        if cell.get("cell_type") != "code":
            yield _joined(cell.get("source"))
            continue
        yield from (line for line in _joined(cell.get("source")).splitlines() if "=" in line and "loss" not in line)
        for output in _listed(cell.get("outputs")):
            output = _values.mapping(output)
            yield _joined(output.get("text"))
            data = _values.mapping(output.get("data"))
            if "text/html" in data:
                yield tables_as_text(_joined(data["text/html"]))
            elif "text/plain" in data:
                yield _joined(data["text/plain"])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _joined(value: Any) -> str:
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def tables_as_text(html: str) -> str:
    """The tables of a piece of HTML with a row a line and bars between the cells."""
    parser = _Tables()
    parser.feed(html)
    parser.close()
    return "\n".join(parser.lines) + "\n"


class _Tables(HTMLParser):
    """Collects the rows of all tables."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.cells: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.cells = []
        elif tag in ("td", "th") and self.cells is not None:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self.cells:
            self.lines.append("| " + " | ".join(" ".join(cell.split()) for cell in self.cells) + " |")
            self.cells = None

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


FORMAT = Format(claim=claim, read=read, several_runs=True)
