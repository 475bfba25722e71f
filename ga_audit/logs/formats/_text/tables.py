"""Tables in a text: the Trainer's in a notebook or a model card, a column or a row for each run, as Markdown or with tabs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ga_audit.logs import roles
from ga_audit.logs.formats._text import banner, names
from ga_audit.logs.formats._text.names import Kind
from ga_audit.logs.formats._text.numbers import value_at
from ga_audit.logs.formats._text.pairs import NO_KEYS, Keys, is_metric
from ga_audit.logs.formats._text.pieces import Clean
from ga_audit.logs.formats._text.record import Record
from ga_audit.run import Role

_RULE = re.compile(r"[\s|:+=-]{3,4000}")
_CELL = re.compile(r"[^|]*")
_TAB_CELL = re.compile(r"[^\t]*")
_HEADER_NAMES = re.compile(r"(?:Training|Train|Validation|Valid|Eval) Loss|Step|Epoch|[A-Z]\w*(?: [A-Z]\w*)?")
_NO_LOSS = re.compile(
    r"acc|f1|bleu|rouge|wer|cer|precision|recall|time|speed|lr|rate|mem|token|reward|kl|sample|second|size|perplex|ppl|norm|gpu"
    r"|score|bench|param|notes?|comment|name|model|status",
    re.IGNORECASE,
)  # fmt: skip
_MOST_ROWS = 1_000_000


@dataclass(slots=True)
class Table:
    """A header and the rows below it, each cell with its place in its line."""

    header: list[str]
    tabs: bool
    spaces: bool = False
    rows: list[tuple[Clean, list[tuple[int, int]]]] = field(default_factory=list)

    def take(self, line: Clean) -> bool:
        """Take a line that is a row; whether it is one."""
        if not self.tabs and not self.spaces and _RULE.fullmatch(line.text):
            return True
        cells = self._cells(line.text)
        if len(cells) < 2 or len(cells) > len(self.header) + 2 or len(self.rows) >= _MOST_ROWS:
            return False
        if not any(value_at(line.text, start) is not None for start, _ in cells):
            return False
        self.rows.append((line, cells))
        return True

    def _cells(self, text: str) -> list[tuple[int, int]]:
        if self.spaces:
            return [match.span() for match in re.finditer(r"\S+", text)]
        return _cells_of(text, tabs=self.tabs)


@dataclass(slots=True)
class Part:
    """The rows of a table that belong to one run."""

    records: list[Record] = field(default_factory=list)
    label: str = ""
    banner: banner.Banner = field(default_factory=banner.Banner)
    starts: bool = False  # the table itself says that it is a run of its own


def _cells_of(text: str, *, tabs: bool) -> list[tuple[int, int]]:
    """The spans of the cells, without the blanks around them."""
    cell, separator = (_TAB_CELL, "\t") if tabs else (_CELL, "|")
    found, at = [], 0
    while at <= len(text):
        match = cell.match(text, at)
        assert match is not None
        inner = match[0].strip()
        start = match.start() + len(match[0]) - len(match[0].lstrip()) if inner else match.start()
        found.append((start, start + len(inner)))
        at = match.end() + len(separator)
    if not tabs:
        edge = text.strip()
        if edge.startswith("|"):
            found = found[1:]
        if edge.endswith("|") and len(edge) > 1:
            found = found[:-1]
    return found


def may_be_header(text: str) -> bool:
    """Whether a line may be the header of a table: several cells, none of which is a number."""
    tabs = "\t" in text.strip()
    if not tabs and "|" not in text:
        return _by_spaces(text) is not None
    cells = [text[slice(*span)] for span in _cells_of(text, tabs=tabs)]
    if len(cells) < 2 or any(value_at(cell, 0) is not None for cell in cells if cell):
        return False
    return len(text) < 4000 and sum(bool(cell) for cell in cells) >= 2


def _by_spaces(text: str) -> list[str] | None:
    """The columns of a header without bars or tabs: `Step Training Loss Validation Loss`."""
    bare = text.strip()
    if (
        "loss" not in bare.lower()
        or len(bare) > 200
        or not bare[:1].isalpha()
        or any(c.isdigit() or c in ":=,." for c in bare)
    ):
        return None
    if len(columns := re.split(r" {2,}", bare)) > 1 and all(" " not in column for column in columns):
        return columns
    found = [match[0] for match in _HEADER_NAMES.finditer(bare)]
    return found if len(found) > 1 and " ".join(found) == " ".join(bare.split()) else None


def begin(header: Clean, line: Clean) -> Table | None:
    """The table that a header and the line below it begin; None where they do not."""
    text = header.text
    tabs = "\t" in text.strip()
    if not tabs and "|" not in text:
        found = _by_spaces(text)
        if found is None:
            return None
        table = Table(found, tabs=False, spaces=True)
        words = line.text.split()
        numbers = [value_at(word, 0) is not None for word in words]
        return table if len(words) == len(found) and all(numbers[:2]) and table.take(line) else None
    names_ = [text[slice(*span)] for span in _cells_of(text, tabs=tabs)]
    table = Table(names_, tabs=tabs)
    if not tabs and _RULE.fullmatch(line.text) and "-" in line.text:
        return table
    known = any(_role(name) is not None or _kind(name) is not None for name in names_)
    cells = _cells_of(line.text, tabs=tabs)
    if known and len(cells) == len(names_) and table.take(line):
        return table
    return None


def _kind(name: str) -> Kind | None:
    return names.of_gap(f"{name}: ").kind


def _role(name: str) -> Role | None:
    return roles.role_of(_name(name))


def _name(cell: str) -> str:
    return names.of_gap(f"{cell}: ").name or cell


def parts_of(table: Table, keys: Keys = NO_KEYS) -> Iterator[Part]:
    """The runs of a table: one, or one for each column or row where the header says so."""
    kinds = {i: kind for i, name in enumerate(table.header) if (kind := _kind(name)) is not None}
    if keys.step in table.header:
        kinds[table.header.index(keys.step)] = Kind.STEP
    stated = {i: banner.of_line(f"{name} = 1") for i, name in enumerate(table.header) if i not in kinds}
    settings = {
        i: next(iter(b.values)) for i, b in stated.items() if len(b.values) == 1 and _is_setting(table.header[i], b)
    }
    if any(key == "gradient_accumulation_steps" for key in settings.values()):
        yield from _by_rows(table, kinds, settings, keys)
        return
    own = {i: banner.of_line(table.header[i]) for i in range(len(table.header)) if i not in kinds and i not in settings}
    if any(b.values or b.packages for b in own.values()):
        yield from _by_columns(table, kinds, own, keys)
        return
    metrics = {i: _name(name) for i, name in enumerate(table.header) if i not in kinds and i not in settings}
    if any(is_metric(name, keys) for name in metrics.values()):
        yield Part([r for row in table.rows if (r := _record(row, kinds, metrics)) is not None])
        return
    runs = [i for i in metrics if table.header[i] and not _NO_LOSS.search(table.header[i]) and _is_numeric(table, i)]
    if kinds and len(runs) > 1:
        for i in runs:
            records = [r for row in table.rows if (r := _record(row, kinds, {i: "loss"})) is not None]
            yield Part(records, banner.label_text(table.header[i]), starts=True)


def _is_setting(cell: str, stated: banner.Banner) -> bool:
    """Whether a column holds a setting: its header is the name and nothing else."""
    return not banner.of_line(cell) and next(iter(stated.values.values())) == 1


def _is_numeric(table: Table, column: int) -> bool:
    cells = [(line.text, spans[column]) for line, spans in table.rows if column < len(spans)]
    return bool(cells) and all(start == end or value_at(text, start) is not None for text, (start, end) in cells)


def _record(row: tuple[Clean, list[tuple[int, int]]], kinds: dict[int, Kind], metrics: dict[int, str]) -> Record | None:
    line, spans = row
    found = Record({}, {}, clean=line)
    for i, (start, end) in enumerate(spans):
        number = value_at(line.text, start) if start < end else None
        if number is None or number.end > end:
            continue
        if i in kinds:
            found.counters.setdefault(kinds[i], number.value)
        elif i in metrics:
            found.values[metrics[i]] = number.value
            found.spans[metrics[i]] = (number.start, number.end)
    if Kind.EPOCH in found.counters:
        found.values.setdefault("epoch", found.counters[Kind.EPOCH])
    return found if len(found.values) > (Kind.EPOCH in found.counters) else None


def _by_rows(table: Table, kinds: dict[int, Kind], settings: dict[int, str], keys: Keys) -> Iterator[Part]:
    """A run for each row, or for each GA where the rows hold steps too."""
    metrics = {i: _name(name) for i, name in enumerate(table.header) if i not in kinds and i not in settings}
    metrics = {i: name for i, name in metrics.items() if is_metric(name, keys) or roles.role_of(name) is not None}
    parts: dict[tuple[object, ...], Part] = {}
    for n, row in enumerate(table.rows):
        record = _record(row, kinds, metrics)
        line, spans = row
        stated = banner.Banner()
        for i, key in settings.items():
            number = value_at(line.text, spans[i][0]) if i < len(spans) else None
            if number is not None and number.value >= 1 and number.value == int(number.value):
                stated.values[key] = int(number.value)
        if record is None or not stated.values:
            continue
        identity: tuple[object, ...] = tuple(sorted(stated.values.items())) if kinds else (n,)
        if identity not in parts:
            parts[identity] = Part([], _row_label(line.text, spans, stated), stated, starts=True)
        parts[identity].records.append(record)
    yield from parts.values()


def _row_label(text: str, spans: Sequence[tuple[int, int]], stated: banner.Banner) -> str:
    """The first cell, where it is a name; else the GA."""
    first = text[slice(*spans[0])] if spans else ""
    if first and value_at(first, 0) is None:
        return banner.label_text(first)
    return f"GA {stated.values.get('gradient_accumulation_steps', '')}".strip()


def _by_columns(table: Table, kinds: dict[int, Kind], own: dict[int, banner.Banner], keys: Keys) -> Iterator[Part]:
    """A run for each setting that the header names: `loss (GA=1) | loss (GA=8)`."""
    groups: dict[str, dict[int, str]] = {}
    stated: dict[str, banner.Banner] = {}
    for i, of_column in own.items():
        if not of_column:
            continue
        label = repr((sorted(of_column.values.items()), sorted(of_column.packages.items())))
        name = _name(re.split(r"[(\[,@]| at | with | GA", table.header[i])[0].strip() or "loss")
        metric = name if is_metric(name, keys) or roles.role_of(name) is not None else "loss"
        groups.setdefault(label, {})[i] = metric
        stated[label] = of_column
    for label, metrics in groups.items():
        first = table.header[next(iter(metrics))]
        records = [r for row in table.rows if (r := _record(row, kinds, metrics)) is not None]
        yield Part(records, banner.label_text(first), stated[label], starts=True)
