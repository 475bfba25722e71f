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

from ga_audit import settings
from ga_audit.errors import UnreadableLog
from ga_audit.formats import Claim, Rewrite, Target, _json_text
from ga_audit.formats._console_lines import FAMILIES, Line, parse_dict, parse_header
from ga_audit.formats._points import Rows, need_series
from ga_audit.run import Note, Run, RunSettings, Source, Trust

SINK = "console"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_DICT = re.compile(r"\{[^{}]*\}")
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

    lines: list[Line] = field(default_factory=list)
    header: dict[str, Any] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)


def read(target: Target) -> Iterator[Run]:
    """One run for each training that the text shows.

    Raises
    ------
    UnreadableLog
        no line that a known trainer prints.
    """
    text = target.read_bytes().replace(b"\x00", b"").decode("utf-8", "replace")
    if not text.strip():
        raise UnreadableLog("the file is empty", where=target.path, remedy="Give the output of a run that has logged.")
    made = text.partition("\n")[0].removeprefix(_PROVENANCE).strip() if text.startswith(_PROVENANCE) else None
    parts = [part for part in _split(_lines(text)) if any(_is_training(line) for line in part.lines)]
    if not parts:
        raise UnreadableLog(
            "no line that a known trainer prints", where=target.path,
            remedy="Paste lines such as {'loss': 2.7, 'grad_norm': 0.9, 'epoch': 0.1}, or give a CSV or JSON Lines file.",
        )  # fmt: skip
    for number, part in enumerate(parts, 1):
        yield _run(target, part, number if len(parts) > 1 else 0, made)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, with progress bars (bare carriage returns) taken as line ends and colours taken out."""
    for number, line in enumerate(text.split("\n"), 1):
        for piece in line.rstrip("\r").split("\r"):
            if piece:
                yield number, _ANSI.sub("", piece)


def _split(lines: Iterator[tuple[int, str]]) -> list[_Part]:
    """Parts of one run each: a new one starts at a new header, or where the epoch or the step goes back."""
    parts = [_Part()]
    for number, text in lines:
        part = parts[-1]
        found = parse_header(text)
        if found:
            if part.lines and any(key in part.header or key in found for key in ("num_examples", "total_steps")):
                part = _Part()
                parts.append(part)
            part.header.update(found)
            part.where.update(dict.fromkeys(found, str(number)))
            continue
        line = _parse(text, number)
        if line is None:
            continue
        if part.lines and _goes_back(part.lines, line):
            part = _Part(header=dict(part.header), where=dict(part.where))
            parts.append(part)
        part.lines.append(line)
    return parts


def _parse(text: str, number: int) -> Line | None:
    for match in _DICT.finditer(text):
        values = parse_dict(match[0])
        if values:
            return Line(values, number=number)
    for family in FAMILIES:
        if (line := family(text)) is not None:
            line.number = number
            return line
    return None


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


def _run(target: Target, part: _Part, number: int, made: str | None) -> Run:
    config = settings.from_mapping(part.header, source=f"{target.name}, printed header", trust=Trust.RECORDED)
    packages = settings.from_requirements(
        "\n".join(f"{k}=={v}" for k, v in part.header.get("_packages", {}).items()),
        source=f"{target.name}, printed banner", trust=Trust.RECORDED,
    )  # fmt: skip
    config = settings.merge(config, packages)
    steps, note = _steps(part, config)
    rows = Rows(SINK, target.path)
    for line, step in zip(part.lines, steps, strict=True):
        closing = "train_runtime" in line.values
        for name, value in line.values.items():
            rows.add("train/train_loss" if closing and name == "train_loss" else name, step, value)
    series, left = rows.series(target)
    need_series(series, target.path, left)
    name = "standard input" if target.path == "-" else target.file.stem
    if number:
        name = f"{name} (run {number})"
    notes = [note] if note else []
    if number:
        notes.append(Note("several-runs", f"the text holds several runs; this is number {number}", target.path))
    if any(line.micro_steps for line in part.lines) and config.ga is None:
        notes.append(
            Note("micro-batch-steps", "this trainer counts micro-batches, not optimizer steps; give --ga to convert")
        )
    return Run(
        f"{target.path}#{number}", name, f"{target.path}#{number}", config, series, (Source(SINK, target.path),),
        notes=tuple(notes), left_out=left, corrected_by=made,
    )  # fmt: skip


def _steps(part: _Part, config: RunSettings) -> tuple[list[int | None], Note | None]:
    """The optimizer step of each line, and a note where it is derived."""
    lines = part.lines
    if any(line.micro_steps for line in lines) and config.ga:
        ga = config.ga
        return [None if line.step is None else max(line.step // ga, 1) for line in lines], Note(
            "micro-batch-steps", f"iterations are micro-batches: divided by GA {ga}"
        )
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
    how = f"{window} steps to a line" if window > 1 else "a step to a line"
    return steps, Note("derived-step", f"the lines hold no step: numbered in order, {how}")


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
    """The same text with the corrected numbers in place; all else byte for byte, after a first line that says so."""
    original = Path(source.path)
    text = original.read_bytes().decode("utf-8", "surrogateescape")
    target = Target(source.path, text=text.encode("utf-8", "surrogateescape"))
    parts = _split(_lines(text.replace("\x00", "")))
    step_of_line: dict[int, int] = {}
    for part in parts:
        config = settings.from_mapping(part.header, source="", trust=Trust.RECORDED)
        steps, _ = _steps(part, config)
        for line, step in zip(part.lines, steps, strict=True):
            step_of_line[line.number] = step or 0
    out = []
    for number, row in enumerate(text.split("\n"), 1):
        at = step_of_line.get(number)
        out.append(row if at is None else _corrected(row, at, rewrite))
    version = rewrite.provenance.get("version", "")
    path = destination / target.name
    first = f"{_PROVENANCE}{version}\n"
    path.write_bytes((first + "\n".join(out)).encode("utf-8", "surrogateescape"))
    return [path]


def _corrected(line: str, step: int, rewrite: Rewrite) -> str:
    closing = "train_runtime" in line
    for rescale in rewrite.rescales:
        name = "train_loss" if rescale.name == "train/train_loss" else rescale.name
        if rescale.name == "train/train_loss" and not closing:
            continue
        # 'loss': 7.9071 | 'loss': '7.907' | loss:7.9 | loss 7.9 | loss=7.9 | lm loss: 2.50E+00
        pattern = re.compile(
            rf"(?<![\w/])(['\"]?){re.escape(name)}\1(\s*[:=]\s*|\s+)(['\"]?)([-+]?\d[\d.]*(?:[eE][-+]?\d+)?)",
            re.IGNORECASE,
        )

        def swap(match: re.Match[str], rescale: Any = rescale) -> str:
            new = _json_text.rescaled(match[4], rescale, step)
            return f"{match[0][: match.start(4) - match.start()]}{new}"

        line = pattern.sub(swap, line)
    return line
