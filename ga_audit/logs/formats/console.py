"""Pasted or saved text: the lines, dicts and tables that trainers print, among progress bars and other noise.

No list of trainers is needed: a line is read by its structure (`_text.pairs`), a dict as pairs of name and value, a table by
its header. What stands above a block of rows says how they were trained. Each row is placed by a counter that stands in it or
around it; where there is none, rows are numbered in order and the series says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ga_audit.errors import UnreadableLog
from ga_audit.logs import settings
from ga_audit.logs.formats import Claim, Format, Rewrite, Target
from ga_audit.logs.formats._points import Rows, make_series, need_series
from ga_audit.logs.formats._text import banner, near, pattern, positions
from ga_audit.logs.formats._text import places as value_places
from ga_audit.logs.formats._text.blocks import Block
from ga_audit.logs.formats._text.pairs import Keys
from ga_audit.logs.formats._text.pieces import CHUNK, chunks_of
from ga_audit.logs.formats._text.positions import Positions
from ga_audit.logs.formats._text.reading import Reader
from ga_audit.run import Counted, Fact, Note, NoteCode, Role, Run, RunSettings, Series, Source

SINK = "console"
_WORDS = (b"loss", b"Loss", b"LOSS", b"grad_norm", b"gnorm")
_SUFFIXES = frozenset({".log", ".txt", ".out", ".err", ".md"})
_PROVENANCE = b"# corrected by "


def claim(target: Target) -> Claim:
    """MAYBE for text that mentions a loss: any text may be a log, so other formats go first."""
    if target.is_dir:
        return Claim.NO
    head = target.head
    if _is_csv(head):
        return Claim.NO
    if target.path == "-":
        return Claim.MAYBE
    if head.count(b"\x00") > len(head) // 10 or head[:4] in (b"\x89PNG", b"PK\x03\x04"):
        return Claim.NO
    if target.name == "README.md":  # of a project, not a log
        return Claim.NO
    if any(word in head for word in _WORDS):
        return Claim.MAYBE
    return Claim.MAYBE if target.file.suffix.lower() in _SUFFIXES else Claim.NO


def _is_csv(head: bytes) -> bool:
    """Whether a text is a table with commas: a header without numbers, and a row of as many cells below it."""
    lines = head[:8192].split(b"\n", 2)
    if len(lines) < 2 or lines[0].count(b",") < 1 or any(c in lines[0] for c in b"{}=:"):
        return False
    cells = lines[1].strip().split(b",")
    try:
        float(cells[0] or b"0")
    except ValueError:
        return False
    return len(cells) == lines[0].count(b",") + 1


def read(target: Target) -> Iterator[Run]:
    """One run for each training that the text shows.

    Raises
    ------
    UnreadableLog
        no row of a log.
    """
    if not target.head.strip(b"\x00 \t\r\n"):
        raise UnreadableLog("the file is empty", where=target.path, remedy="Give the output of a run that has logged.")
    blocks = _blocks(target)
    if not blocks:
        raise near.unread(target.path, _chunks(target))
    made = _made_by(target.head)
    for block in blocks:
        yield _run(target, block, made)


def _made_by(head: bytes) -> str | None:
    if not head.startswith(_PROVENANCE):
        return None
    return head.partition(b"\n")[0].removeprefix(_PROVENANCE).strip().decode("utf-8", "replace")


def _chunks(target: Target) -> Iterator[bytes]:
    if target.text is None:
        yield from chunks_of(target.file)
    else:
        for at in range(0, len(target.text), CHUNK):
            yield target.text[at : at + CHUNK]


def _blocks(target: Target, *, places: bool = False) -> list[Block]:
    """The blocks of a text, numbered where there are several that train."""
    given = target.options.get("line")
    reader = Reader(_keys(target), pattern=pattern.compiled(given) if given else None, places=places)
    blocks = [block for block in reader.read(_chunks(target)) if block.last is not None or _holds_values(block)]
    training = [block for block in blocks if block.last is not None]
    blocks = training or blocks[:1]
    for number, block in enumerate(blocks, 1):
        block.number = number if len(blocks) > 1 else 0
    if blocks:
        blocks[0].unread_lines = reader.found["lost"]
    return blocks


def _keys(target: Target) -> Keys:
    """The names that the user gave."""
    names = {name: target.options.get(f"{name}_key") for name in ("eval_loss", "step", "ga")}
    return Keys(loss=target.loss_key, grad_norm=target.grad_norm_key, **names)


def _holds_values(block: Block) -> bool:
    return bool(block.values)


def _config(block: Block, name: str) -> tuple[RunSettings, Positions]:
    """What the text states of a run, and where its rows stand."""
    config = banner.settings_of(block.banner, name)
    logging_steps = config.logging_steps.value if config.logging_steps else None
    places = positions.of_block(block, ga=config.ga, logging_steps=logging_steps)
    if places.iterations_per_step is not None:
        config = settings.merge(config, banner.derived_ga(places.iterations_per_step))
    return config, places


def _run(target: Target, block: Block, made: str | None) -> Run:
    number = block.number
    config, places = _config(block, target.name)
    rows = Rows(SINK, target.path)
    at = [None if math.isnan(p) else int(p) for p in places.of_row.tolist()]
    for name, values in block.values.items():
        for row, value in zip(values.row, values.value, strict=True):
            if at[row] is not None:
                rows.add(name, at[row], value)
    keys = _keys(target)
    series, left = rows.series(target)
    if keys.eval_loss is not None and keys.eval_loss in rows.points:
        series = tuple(one for one in series if one.role is not Role.EVAL_LOSS and one.name != keys.eval_loss)
        points = rows.points[keys.eval_loss]
        series = (*series, make_series(Role.EVAL_LOSS, keys.eval_loss, SINK, target.path, points))
    need_series(series, target.path, left)
    config = settings.merge(config, _given_ga(rows, keys), rows.settings())
    name = "standard input" if target.path == "-" else target.file.stem
    if number:
        name = block.label or f"{name} (run {number})"
    return Run(
        f"{target.path}#{number}", name, f"{target.path}#{number}", config,
        tuple(_counted(one, places) for one in series), (Source(SINK, target.path, block.part),),
        notes=_notes(target, block, places), left_out=left, corrected_by=made,
    )  # fmt: skip


def _given_ga(rows: Rows, keys: Keys) -> RunSettings:
    """GA that stands in the rows under the user's own name of it."""
    points = rows.points.get(keys.ga or "")
    if points is None:
        return RunSettings()
    column = (np.array(points.step, np.int64), np.array(points.value, np.float64))
    return settings.from_columns({"gradient_accumulation_steps": column}, source=f"{SINK}, {keys.ga}")


def _counted(series: Series, places: Positions) -> Series:
    window = None if places.counted in (Counted.EPOCH, Counted.SAMPLES, Counted.TOKENS) else series.window
    if places.window is not None and series.role in (Role.LOSS, Role.GRAD_NORM) and window is None:
        window = None if places.counted is Counted.ORDER else places.window
    return replace(series, counted=places.counted, derived=places.derived, window=window)


def _notes(target: Target, block: Block, places: Positions) -> tuple[Note, ...]:
    """What the reader of the text assumed."""
    notes = []
    if places.how:
        code = (
            "derived-step"
            if places.window is not None
            else "micro-batch-steps"
            if block.at_multiples
            else "step-from-text"
        )
        notes.append(Note(code, places.how))
    if places.iterations_per_step is not None and places.iterations_per_step > 1:
        ga = places.iterations_per_step
        notes.append(Note(NoteCode.ITERATIONS_PER_STEP, facts={"ga": ga}))
    if places.unplaced:
        notes.append(Note(NoteCode.UNPLACED_ROWS, where=target.path, count=places.unplaced))
    if block.other_ranks:
        rank: dict[str, Fact] = {"rank": str(block.first_rank)}
        notes.append(Note(NoteCode.OTHER_RANKS, where=target.path, count=block.other_ranks, facts=rank))
    if block.unread_lines:
        notes.append(Note(NoteCode.UNREAD_LINES, where=target.path, count=block.unread_lines))
    if block.number:
        facts: dict[str, Fact] = {"what": "text", "number": block.number}
        notes.append(Note(NoteCode.SEVERAL_RUNS, where=target.path, facts=facts))
    return tuple(notes)


def write(source: Source, rewrite: Rewrite, destination: Path) -> list[Path]:
    """The same text with the corrected numbers in place; all else byte for byte, after a first line that says so.

    Raises
    ------
    AuditError
        a value to be corrected has no place of its own in the text.
    """
    text = Path(source.path).read_bytes().decode("latin-1")  # a character for each byte: places are bytes
    values = _values(text, source.path)
    made = value_places.corrections(values, rewrite, source.path)
    edits = [(*c.span, value_places.text_like(text[slice(*c.span)], c.number)) for c in made.values()]
    first = f"{_PROVENANCE.decode()}{rewrite.provenance.get('version', '')}\n"
    new = first + value_places.edited(text, edits, source.path)
    value_places.check(values, made, _values(new, source.path), text, source.path)
    path = destination / Path(source.path).name
    path.write_bytes(new.encode("latin-1"))
    return [path]


def _values(text: str, path: str) -> list[value_places.Place]:
    """Every value that `read` takes from the text, with its place."""
    found = []
    for block in _blocks(Target(path, text=text.encode("latin-1")), places=True):
        at = _config(block, "")[1].of_row.tolist()
        for name, values in block.values.items():
            for row, value, span in zip(values.row, values.value, values.place, strict=True):
                if not math.isnan(at[row]):
                    found.append(value_places.Place(block.part, name, int(at[row]), value, span))
    return found


FORMAT = Format(claim=claim, read=read, write=write, several_runs=True)
