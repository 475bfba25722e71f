"""Pasted or saved console output: the lines that trainers print, among progress bars and other noise.

Trainer's dict lines (`{'loss': 7.9071, 'grad_norm': 6.21, ...}`, as numbers or, from 5.0 on, as text) and the lines of the
families in `_console_lines`. A console dict holds no step, only a rounded epoch: the step is derived, and a note says how.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ga_audit.errors import UnreadableLog
from ga_audit.logs import settings
from ga_audit.logs.formats import Claim, Format, Rewrite, Target
from ga_audit.logs.formats._points import Rows, need_series
from ga_audit.logs.formats._text import places as value_places
from ga_audit.logs.formats._text.console_lines import FAMILIES, Line, parse_dict, parse_header
from ga_audit.run import Counted, Note, NoteCode, Run, RunSettings, Source, Trust

SINK = "console"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_DICT = re.compile(r"\{[^{}]*\}")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a byte that is no UTF-8
_LOSS_WORD = re.compile(rb"loss|grad_norm|gnorm", re.IGNORECASE)
_PROVENANCE = "# corrected by "


def claim(target: Target) -> Claim:
    """MAYBE for text that mentions a loss: any text may be a log, so other formats go first."""
    if target.is_dir:
        return Claim.NO
    if target.path == "-":
        return Claim.MAYBE
    head = target.head
    if head.count(b"\x00") > len(head) // 10 or head[:4] in (b"\x89PNG", b"PK\x03\x04"):
        return Claim.NO
    if _LOSS_WORD.search(head):
        return Claim.MAYBE
    return Claim.MAYBE if target.file.suffix.lower() in {".log", ".txt", ".out", ".err"} else Claim.NO


@dataclass(slots=True)
class _Part:
    """The lines of one run of a console file."""

    number: int = 0  # of the run in the file, from 1; 0 where there is one
    lines: list[Line] = field(default_factory=list)
    header: dict[str, Any] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The run as `Source.part` names it."""
        return str(self.number) if self.number else ""


@dataclass(frozen=True, slots=True)
class _Row:
    """A line, or a piece of one between bare carriage returns, without colours and NULs."""

    number: int
    text: str
    at: int  # of the raw piece in the text of the file
    kept: Sequence[int] | None  # index in the raw piece of each character of `text`; None = none was left out

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """A span of `text` in the text of the file; None where something inside it was left out."""
        if self.kept is None:
            return self.at + start, self.at + end
        first, last = self.kept[start], self.kept[end - 1] + 1
        return (self.at + first, self.at + last) if last - first == end - start else None


def read(target: Target) -> Iterator[Run]:
    """One run for each training that the text shows.

    Raises
    ------
    UnreadableLog
        no line that a known trainer prints.
    """
    text = _decoded(target.read_bytes())
    if not text.strip("\x00 \t\r\n"):
        raise UnreadableLog("the file is empty", where=target.path, remedy="Give the output of a run that has logged.")
    made = text.partition("\n")[0].removeprefix(_PROVENANCE).strip() if text.startswith(_PROVENANCE) else None
    parts = _training_parts(text)
    if not parts:
        raise UnreadableLog(
            "no line that a known trainer prints", where=target.path,
            remedy="Paste lines such as {'loss': 2.7, 'grad_norm': 0.9, 'epoch': 0.1}, or give a CSV or JSON Lines file.",
        )  # fmt: skip
    for part in parts:
        yield _run(target, part, made)


def _decoded(data: bytes) -> str:
    """Text from which the same bytes can be made again, whatever they are."""
    return data.decode("utf-8", "surrogateescape")


def _training_parts(text: str) -> list[_Part]:
    """The parts that hold a training, numbered where there are several."""
    parts = [part for part in _split(_lines(text)) if any(_is_training(line) for line in part.lines)]
    for number, part in enumerate(parts, 1):
        part.number = number if len(parts) > 1 else 0
    return parts


def _lines(text: str) -> Iterator[_Row]:
    """Numbered lines, with progress bars (bare carriage returns) taken as line ends and colours taken out."""
    at = 0
    for number, line in enumerate(text.split("\n"), 1):
        begin = at
        for piece in line.rstrip("\r").split("\r"):
            if piece:
                yield _row(number, piece, begin)
            begin += len(piece) + 1
        at += len(line) + 1


def _row(number: int, piece: str, at: int) -> _Row:
    kept: list[int] | None = None
    clean = piece
    if "\x00" in clean:  # first, since UTF-16 has one in every colour code
        kept = [i for i, c in enumerate(piece) if c != "\x00"]
        clean = piece.replace("\x00", "")
    if "\x1b" in clean:
        before = range(len(clean)) if kept is None else kept
        kept, end = [], 0
        for match in _ANSI.finditer(clean):
            kept += before[end : match.start()]
            end = match.end()
        kept += before[end:]
        clean = _ANSI.sub("", clean)
    if not clean.isascii():
        clean = _ESCAPED_BYTE.sub("\ufffd", clean)
    return _Row(number, clean, at, kept)


def _split(rows: Iterator[_Row]) -> list[_Part]:
    """Parts of one run each: a new one starts at a new header, or where the epoch or the step goes back."""
    parts = [_Part()]
    for row in rows:
        part = parts[-1]
        found = parse_header(row.text)
        if found:
            if part.lines and any(key in part.header or key in found for key in ("num_examples", "total_steps")):
                part = _Part()
                parts.append(part)
            part.header.update(found)
            part.where.update(dict.fromkeys(found, str(row.number)))
            continue
        line = _parse(row)
        if line is None:
            continue
        if part.lines and _goes_back(part.lines, line):
            part = _Part(header=dict(part.header), where=dict(part.where))
            parts.append(part)
        part.lines.append(line)
    return parts


def _parse(row: _Row) -> Line | None:
    for line, at in _readings(row.text):
        line.number = row.number
        places = {name: row.place(at + start, at + end) for name, (start, end) in line.spans.items()}
        line.spans = {name: place for name, place in places.items() if place is not None}
        return line
    return None


def _readings(text: str) -> Iterator[tuple[Line, int]]:
    """What a line says, best reading first, and where in it the reading begins."""
    for match in _DICT.finditer(text):
        if (line := parse_dict(match[0])) is not None:
            yield line, match.start()
    for family in FAMILIES:
        if (line := family(text)) is not None:
            yield line, 0


def _is_training(line: Line) -> bool:
    return any(name in line.values for name in ("loss", "grad_norm", "train_loss", "lm loss"))


def _goes_back(lines: Sequence[Line], line: Line) -> bool:
    """Whether a line belongs to a new run: its place is clearly before that of the last line of its kind."""
    last = next((old for old in reversed(lines) if _is_training(old)), None)
    if last is None or not _is_training(line) or "train_runtime" in line.values:
        return False
    if line.step is not None and last.step is not None:
        return line.step < last.step
    new, old = line.values.get("epoch"), last.values.get("epoch")
    return new is not None and old is not None and new < old - 1e-9


def _config(part: _Part, name: str) -> RunSettings:
    """What the banner of a run states."""
    config = settings.from_mapping(part.header, source=f"{name}, printed header", trust=Trust.RECORDED)
    packages = settings.from_requirements(
        "\n".join(f"{k}=={v}" for k, v in part.header.get("_packages", {}).items()),
        source=f"{name}, printed banner", trust=Trust.RECORDED,
    )  # fmt: skip
    return settings.merge(config, packages)


def _named(line: Line) -> Iterator[tuple[str, float, tuple[int, int] | None]]:
    """Series name, value and place of each value of a line."""
    closing = "train_runtime" in line.values
    for name, value in line.values.items():
        yield "train/train_loss" if closing and name == "train_loss" else name, value, line.spans.get(name)


def _run(target: Target, part: _Part, made: str | None) -> Run:
    number, config = part.number, _config(part, target.name)
    steps, note = _steps(part, config)
    counted, derived = _counted(part, config, note)
    rows = Rows(SINK, target.path, counted, derived)
    for line, step in zip(part.lines, steps, strict=True):
        for name, value, _ in _named(line):
            rows.add(name, step, value)
    series, left = rows.series(target)
    need_series(series, target.path, left)
    name = "standard input" if target.path == "-" else target.file.stem
    if number:
        name = f"{name} (run {number})"
    notes = [note] if note else []
    if number:
        notes.append(Note(NoteCode.SEVERAL_RUNS, where=target.path, facts={"what": "text", "number": number}))
    if any(line.micro_steps for line in part.lines) and config.ga is None:
        notes.append(Note(NoteCode.MICRO_BATCH_STEPS))
    return Run(
        f"{target.path}#{number}", name, f"{target.path}#{number}", config, series,
        (Source(SINK, target.path, part.label),), notes=tuple(notes), left_out=left, corrected_by=made,
    )  # fmt: skip


def _steps(part: _Part, config: RunSettings) -> tuple[list[int | None], Note | None]:
    """The optimizer step of each line, and a note where it is derived."""
    lines = part.lines
    if any(line.micro_steps for line in lines) and config.ga:
        ga = config.ga
        steps_of_ga = [None if line.step is None else max(line.step // ga, 1) for line in lines]
        return steps_of_ga, Note(NoteCode.MICRO_BATCH_STEPS, facts={"ga": ga})
    if all(line.step is not None for line in lines if _is_training(line)):
        return [line.step for line in lines], None
    training = [line for line in lines if _is_training(line) and "train_runtime" not in line.values]
    window = config.logging_steps.value if config.logging_steps else _window_from_epochs(part, training)
    steps: list[int | None] = []
    count = 0
    for line in lines:
        if _is_training(line) and "train_runtime" not in line.values:
            count += 1
        steps.append(line.step if line.step is not None else max(count, 1) * window)
    return steps, Note(NoteCode.DERIVED_STEP, facts={"steps": window})


def _counted(part: _Part, config: RunSettings, note: Note | None) -> tuple[Counted, bool]:
    """What the steps of `_steps` count, and whether they are computed."""
    if any(line.micro_steps for line in part.lines):
        return (Counted.OPTIMIZER_STEP, True) if config.ga else (Counted.MICRO_BATCH, False)
    if note is None:
        return Counted.OPTIMIZER_STEP, False
    # the banner of the Trainer stands above the first line of a training
    known = config.logging_steps is not None or {"total_steps", "num_train_epochs"} <= part.header.keys()
    return (Counted.OPTIMIZER_STEP, True) if known else (Counted.ORDER, False)


def _window_from_epochs(part: _Part, training: Sequence[Line]) -> int:
    """Optimizer steps between lines, from the header's total steps and the (rounded) epochs; 1 if they do not say."""
    total, epochs = part.header.get("total_steps"), part.header.get("num_train_epochs")
    first = next((line.values.get("epoch") for line in training), None)
    last = training[-1].values.get("epoch") if training else None
    if not total or not epochs or first is None or last is None or len(training) < 2 or last <= first:
        return 1
    per_line = (last - first) / (len(training) - 1) * float(total) / float(epochs)
    return max(round(per_line), 1)


def write(source: Source, rewrite: Rewrite, destination: Path) -> list[Path]:
    """The same text with the corrected numbers in place; all else byte for byte, after a first line that says so.

    Raises
    ------
    AuditError
        a value to be corrected has no place of its own in the text.
    """
    text = _decoded(Path(source.path).read_bytes())
    values = _values(text)
    made = value_places.corrections(values, rewrite, source.path)
    edits = [(*c.span, value_places.text_like(text[slice(*c.span)], c.number)) for c in made.values()]
    first = f"{_PROVENANCE}{rewrite.provenance.get('version', '')}\n"
    new = first + value_places.edited(text, edits, source.path)
    value_places.check(values, made, _values(new), text, source.path)
    path = destination / Path(source.path).name
    path.write_bytes(new.encode("utf-8", "surrogateescape"))
    return [path]


def _values(text: str) -> list[value_places.Place]:
    """Every value that `read` takes from the text, in the same order."""
    return [
        value_places.Place(part.label, name, step, value, span)
        for part in _training_parts(text)
        for line, step in zip(part.lines, _steps(part, _config(part, ""))[0], strict=True)
        for name, value, span in _named(line)
    ]


FORMAT = Format(claim=claim, read=read, write=write, several_runs=True)
