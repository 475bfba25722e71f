"""A model card with a table of training results: one run with its settings, releases, losses and evaluation losses.

A card without such a table holds settings only, and is read as a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ga_audit.errors import UnreadableLog
from ga_audit.logs.formats import Claim, Format, Target
from ga_audit.logs.formats._points import need_series
from ga_audit.logs.formats._text import card, positions
from ga_audit.logs.formats._text.column_runs import series_of
from ga_audit.logs.formats._text.reading import Reader
from ga_audit.run import Run, Source

SINK = "model_card"
_TABLE = re.compile(rb"\|\s{0,20}Training Loss\s{0,20}\|", re.IGNORECASE)


def claim(target: Target) -> Claim:
    """YES for Markdown with the Trainer's hyperparameters and its table of results."""
    if target.is_dir or target.file.suffix.lower() != ".md":
        return Claim.NO
    folder = target.file.parent
    if (folder / "trainer_state.json").is_file() or next(
        folder.glob("checkpoint-*/trainer_state.json"), None
    ) is not None:
        return Claim.NO  # the log itself is there: the card is its configuration
    head = target.head
    return Claim.YES if b"raining hyperparameters" in head and _TABLE.search(head) is not None else Claim.NO


def read(target: Target) -> Iterator[Run]:
    """The one run of a card.

    Raises
    ------
    UnreadableLog
        the table has no row with a training loss.
    """
    data = target.read_bytes()
    table = _TABLE.search(data)
    block = next(iter(Reader().read([data[table.start() :]] if table is not None else [])), None)
    if block is None:
        raise UnreadableLog(
            "its table holds no training loss", where=target.path, remedy="Give the trainer_state.json of the run."
        )
    text = data.decode("utf-8", "replace")
    at = positions.of_block(block, ga=None, logging_steps=None)
    series, left = series_of(block, at, SINK, target)
    need_series(series, target.path, left)
    folder = Path(target.path).parent
    yield Run(
        id=target.path,
        name=_title(text) or folder.name or target.name,
        training=str(folder),
        settings=card.settings_of(text, target.name),
        series=series,
        sources=(Source(SINK, target.path),),
        left_out=left,
    )


def _title(text: str) -> str:
    match = re.search(r"^# (\S[^\n]{0,80})", text, re.MULTILINE)
    return match[1].strip() if match else ""


FORMAT = Format(claim=claim, read=read)
