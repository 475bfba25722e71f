"""The pieces of a text -> blocks of rows, in one pass and in memory that does not grow with the text.

Progress bars are dropped first, by their shape: they are nine tenths of a log. The last one is kept, since it says at which
step the row below it was printed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ga_audit.logs.formats._text import banner, dicts, tables, trainers
from ga_audit.logs.formats._text.blocks import SUMMARY, Block, Splitter, is_training
from ga_audit.logs.formats._text.names import Kind
from ga_audit.logs.formats._text.pairs import NO_KEYS, Keys, record_of
from ga_audit.logs.formats._text.pattern import Pattern
from ga_audit.logs.formats._text.pieces import Clean, between_bars, clean
from ga_audit.logs.formats._text.record import Record

_BAR = re.compile(rb"(?<!\d)(\d{1,12})/(\d{1,12}) \[[^\]\r\n]{0,200}(?:it/s|s/it)")
_BAR_END = re.compile(rb"(?:it/s|s/it)[^\]\r\n]{0,300}\]")
_BAR_EPOCH = re.compile(rb"[Ee]poch:? {0,3}\[?(\d{1,9})")
_LONGEST_DICT = 1 << 20  # bytes of a dict over several lines
_MOST_LINES = 400
_SECTION = re.compile(rb"\*{3,8} {0,4}(\w{1,20}) metrics \*{3,8}")
_EVALUATES = re.compile(r"Running (?:Evaluation|evaluation|Prediction|prediction)")
_TRAINS = re.compile(r"Running training", re.IGNORECASE)
_COUNTERS = re.compile(rb"step|epoch|iter|batch|update| train | val ")
_DATA = (b"loss", b"norm")


@dataclass(slots=True)
class Reader:
    """Reads a text piece by piece."""

    keys: Keys = NO_KEYS
    pattern: Pattern | None = None  # the form of the lines, where the user gave it: no other line is a row
    places: bool = False
    splitter: Splitter = field(default_factory=Splitter)
    in_bars: Splitter = field(default_factory=Splitter)  # rows that only progress bars show
    found: Counter[str] = field(default_factory=Counter)  # of lines: "rows", "lost"
    context: dict[Kind, float] = field(
        default_factory=dict
    )  # counters of a line that has no values, for those below it
    context_totals: dict[Kind, float] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # names that took their place from the context
    bar: bytes = b""
    after: Block | None = None  # whose last row waits for the bar that is drawn after it
    open: list[tuple[bytes, int]] = field(default_factory=list)  # a dict that goes on
    broken: bool = False  # something stands inside it
    table: tables.Table | None = None
    held: Clean | None = None  # a line that may be the header of a table
    evaluates: bool = False
    section: str = ""

    def read(self, chunks: Iterable[bytes]) -> list[Block]:
        """Read a text to its end; the blocks that hold rows."""
        self.splitter.places = self.places
        extra = tuple(key.encode() for key in self.keys.all)
        for raw, at, first, last in between_bars(chunks, (b"loss", b"{", b"norm", b"Loss", *extra)):
            if last:
                self.bar = last
                self.broken = True
                if self.after is not None:
                    self._note_bar_after(first)
            if raw:
                self._piece(raw, at, extra)
        self._end_of_dict()
        self._end_of_table()
        blocks = [block for block in self.splitter.blocks if block.values]
        if not any(block.last for block in blocks):  # else the bars repeat what the rows say
            drawn = [block for block in self.in_bars.blocks if block.last]
            for block in drawn:
                block.banner.update(self.splitter.blocks[0].banner)
                block.banner.update(self.splitter.pending)
            blocks = drawn or blocks
        return blocks

    def _note_bar_after(self, raw: bytes) -> None:
        match = _BAR.search(raw)
        if match is not None and self.after is not None:
            before = self.after.bar_before[-1]
            if before != before or int(match[1]) >= before:
                self.after.bar_after[-1] = float(match[1])
            self.after = None

    def _piece(self, raw: bytes, at: int, extra: tuple[bytes, ...]) -> None:
        """A piece that is no mere progress bar."""
        if self.pattern is not None:
            self._with_pattern(clean(raw, at), self.pattern)
            return
        if b"%|" in raw and (_BAR.search(raw) is not None or b"{" not in raw):
            self._bar_with_text(raw, at)
            return
        if self.open:
            if not self._goes_on(raw, at):
                return
        elif b"{" in raw and raw.rfind(b"{") > raw.rfind(b"}"):
            self._begin_dict(raw, at)
            return
        low = raw.lower()
        has_data = (
            b"loss" in low
            or b"norm" in low
            or b"cost" in low
            or b"xent" in low
            or (extra != () and any(k in raw for k in extra))
        )
        if has_data or self.table is not None or self.held is not None or _may_be_table(raw):
            self._line(clean(raw, at), has_data=has_data)
        elif _COUNTERS.search(low) is not None or banner.is_worth(low) or b"*****" in raw:
            self._words_of(raw, at)
        elif raw.rstrip()[-1:] in (b":", b"`", b"*") or raw[:1] in b"#*`-=":
            self._label(clean(raw, at), banner.Banner())
        else:
            self.after = None if raw.strip() else self.after
            self._noise(raw)

    def _with_pattern(self, line: Clean, pattern: Pattern) -> None:
        record = pattern.record_of(line)
        if record is not None:
            self._add(record)
        else:
            self._words(line, None)

    def _words_of(self, raw: bytes, at: int) -> None:
        """A line without a loss: columns without names, counters for the lines below, settings, a label."""
        line = clean(raw, at)
        record = record_of(line, self.keys)
        if record is not None and record.values:
            self._add(record)
        else:
            self._words(line, record)

    # --- progress bars -----------------------------------------------------------------------------------------------

    def _bar_with_text(self, raw: bytes, at: int) -> None:
        """A bar with values in it, or with text behind it."""
        self.bar = raw
        bar = _BAR.search(raw)
        end = _BAR_END.search(raw, bar.start()) if bar is not None else None
        start, cut = bar.start() if bar is not None else 0, end.end() if end is not None else len(raw)
        inside, behind = raw[start:cut], raw[cut:]
        if any(word in inside.lower() for word in _DATA):
            line = clean(inside, at + start)
            drawn = record_of(replace(line, text=line.text.replace("[", " ", 1)), self.keys)
            if drawn is not None and drawn.values:
                if bar is not None:
                    drawn.counters = {k: v for k, v in drawn.counters.items() if k is Kind.EPOCH}
                    epoch = _BAR_EPOCH.search(raw, 0, start)
                    kind = Kind.STEP if epoch is None else Kind.INDEX
                    if epoch is not None:
                        drawn.counters[Kind.EPOCH] = float(epoch[1])
                    drawn.counters[kind] = float(bar[1])
                    drawn.totals = {kind: float(bar[2])}
                self.in_bars.places = self.places
                self.in_bars.add(self._finished(drawn))
        if behind.strip():
            self._piece(behind, at + cut, ())

    # --- dicts over several lines --------------------------------------------------------------------------------------

    def _begin_dict(self, raw: bytes, at: int) -> None:
        start = raw.rfind(b"{")
        before = raw[start + 1 :].lstrip()
        if before and before[:1] not in b"'\"" and not before.startswith((b"\xe2", b"&")):
            self._line(clean(raw, at), has_data=True)
            return
        self._end_of_table()
        self.open, self.broken = [(raw, at)], False

    def _goes_on(self, raw: bytes, at: int) -> bool:
        """Whether the piece is to be read by itself; else it was taken into the open dict."""
        starts_anew = raw.lstrip()[:1] == b"{" or (raw.lstrip()[:1] not in b"'\"-}0123456789" and b"}" not in raw
                                                   and b":" not in raw and b"," not in raw)  # fmt: skip
        size = at - self.open[0][1] + len(raw)
        if starts_anew or size > _LONGEST_DICT or len(self.open) >= _MOST_LINES:
            self._end_of_dict()
            if b"{" in raw and raw.rfind(b"{") > raw.rfind(b"}"):
                self._begin_dict(raw, at)
                return False
            return True
        self.open.append((raw, at))
        if b"}" in raw:
            self._end_of_dict()
        return False

    def _end_of_dict(self) -> None:
        """Read the dict that goes over several lines."""
        if not self.open:
            return
        lines, self.open = self.open, []
        start = lines[0][1]
        raw = b""
        for piece, at in lines:
            gap = at - start - len(raw)
            raw += (b" " * gap if gap < 200 else b" ") + piece
        line = clean(raw, start)
        records = list(dicts.records_of(line, self.keys))
        if records:
            for record in records:
                record.spans = {} if self.broken else record.spans
                self._add(record)
            return
        for piece, at in lines:
            self._line(clean(piece, at), has_data=b"loss" in piece.lower())

    # --- lines -----------------------------------------------------------------------------------------------------------

    def _line(self, line: Clean, *, has_data: bool) -> None:
        text = line.text
        if self._in_table(line):
            return
        if has_data and "{" in text:
            records = list(dicts.records_of(line, self.keys))
            for row in records:
                self._add(row)
            if records:
                return
        record = record_of(line, self.keys)
        if record is not None and record.values:
            if not record.counters:
                self._states_ga(line, record)
            trainer = trainers.of_line(text)
            block = self._add(record)
            if trainer is not None and block is not None:
                block.trainer, block.iterations, block.at_multiples = (
                    trainer.name,
                    trainer.iterations,
                    trainer.at_multiples,
                )
            return
        if tables.may_be_header(text):
            self.held = line
        elif not (has_data and record is None and self._sentence(line)):
            self._words(line, record)

    def _sentence(self, line: Clean) -> bool:
        """Take `GA 8: loss 10.848`, a run in a line; a sentence that names a loss otherwise is counted as not read."""
        record = record_of(line, self.keys, prose=True)
        if record is None or not record.values:
            return False
        if len(line.text) > banner.LONGEST_LABEL or not self._states_ga(line, record):
            self.found["lost"] += 1
            return False
        self._add(record)
        return True

    def _states_ga(self, line: Clean, record: Record) -> bool:
        """Whether a line without a counter states the one GA of its values; where it changes, a run begins."""
        named = set(banner.ga_of(line.text)) if record.values else set()
        if len(named) != 1:
            return False
        stated = banner.of_line(line.text, self.keys.ga)
        ga = stated.values.get("gradient_accumulation_steps")
        for name in banner.GA_NAMES & record.values.keys():
            del record.values[name]
        if self.splitter.blocks[-1].banner.values.get("gradient_accumulation_steps") != ga:
            self.splitter.note_label(f"GA {ga}", stated)
        return True

    def _words(self, line: Clean, record: Record | None) -> None:
        """A line without values: settings, a label, counters for the lines below it, or nothing."""
        text = line.text
        if _EVALUATES.search(text):
            self.evaluates = True
        elif _TRAINS.search(text):
            self.evaluates, self.splitter.starts = False, True
        section = _SECTION.search(line.raw)
        if section is not None:
            self.section = section[1].decode().lower()
        stated = banner.of_line(text, self.keys.ga)
        if self._label(line, stated):
            return
        if stated:
            if self.evaluates:
                for name in ("num_examples", "per_device_train_batch_size", "total_steps"):
                    stated.values.pop(name, None)
            self.splitter.note_banner(stated)
        if record is not None and record.scope == "eval":
            self.context = {}  # it counts the batches of the evaluation
        elif record is not None and record.counters:
            self.context, self.context_totals, self.used = record.counters, record.totals, set()
        self.after = None

    def _label(self, line: Clean, stated: banner.Banner) -> bool:
        raw = line.raw.decode("utf-8", "replace")
        if not banner.is_label(line.text, raw):
            return False
        self.splitter.note_label(banner.label_text(line.text), stated)
        self.context, self.used = {}, set()
        return True

    def _noise(self, raw: bytes) -> None:
        if b"esum" in raw:
            self.splitter.resumes = True

    # --- tables ------------------------------------------------------------------------------------------------------------

    def _in_table(self, line: Clean) -> bool:
        """Whether a line belongs to the table above it, or begins one with the line above it."""
        if self.table is not None:
            if self.table.take(line):
                return True
            self._end_of_table()
        if self.held is not None:
            held, self.held = self.held, None
            self.table = tables.begin(held, line)
            if self.table is not None:
                return True
            self._words(held, record_of(held, self.keys))
        return False

    def _end_of_table(self) -> None:
        if self.held is not None:
            held, self.held = self.held, None
            self._words(held, record_of(held, self.keys))
        if self.table is None:
            return
        table, self.table = self.table, None
        for part in tables.parts_of(table, self.keys):
            if part.starts:
                self.splitter.begin(part.label, part.banner)
            for row in part.records:
                self._add(row)

    # --- rows --------------------------------------------------------------------------------------------------------------

    def _finished(self, record: Record) -> Record:
        record.is_training = is_training(record, self.keys.loss, self.keys.grad_norm)
        if self.section == "train" or record.closing:
            record.closing = True
            record.is_training = False
            for own in ("train_loss", "loss"):
                if own in record.values:
                    record.values[SUMMARY] = record.values.pop(own)
                    if own in record.spans:
                        record.spans[SUMMARY] = record.spans.pop(own)
        return record

    def _add(self, record: Record) -> Block | None:
        record = self._finished(record)
        self.found["rows"] += 1
        if self.section and not record.closing:
            self.section = self.section if self.section != "train" else ""
        if not any(kind in record.counters for kind in (Kind.STEP, Kind.ITER, Kind.MICRO, Kind.INDEX)):
            self._take_context(record)
            match = _BAR.search(self.bar) if self.bar else None
            if match is not None:
                record.bar = (int(match[1]), int(match[2]))
        elif Kind.EPOCH in self.context and Kind.STEP not in record.counters:
            record.counters.setdefault(Kind.EPOCH, self.context[Kind.EPOCH])
        block = self.splitter.add(record)
        self.after = block if record.is_training and self.bar else None
        if record.is_training:
            self.evaluates = False
        return block

    def _take_context(self, record: Record) -> None:
        """The counters of the line above, unless a value of this name has taken them already."""
        if not self.context:
            return
        if self.used & set(record.values):
            self.context, self.used = {}, set()
            return
        self.used |= set(record.values)
        for kind, value in self.context.items():
            record.counters.setdefault(kind, value)
        for kind, value in self.context_totals.items():
            record.totals.setdefault(kind, value)


def _may_be_table(raw: bytes) -> bool:
    """Whether a line may be the header of a table; log lines of the form `[INFO|file.py:12]` are none."""
    if b"\t" in raw:
        return True
    return b"|" in raw and (b" | " in raw or b"--" in raw or raw.lstrip()[:1] == b"|")
