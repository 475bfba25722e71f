"""A text that was not read: what in it came nearest to a row, and the option that would take it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ga_audit.errors import UnreadableLog
from ga_audit.logs import roles
from ga_audit.logs.formats._text import names
from ga_audit.logs.formats._text.numbers import NUMBER
from ga_audit.logs.formats._text.pieces import clean, pieces

_MOST_PIECES = 20_000
_SHOWN = 3
_WIDTH = 100
_LIKELY = ("loss", "cost", "nll", "xent", "cross", "entropy", "objective", "err", "ppl", "norm", "grad")


def unread(path: str, chunks: Iterable[bytes]) -> UnreadableLog:
    """The error of a text without a row of a log: the three nearest lines, and the option that would read them."""
    found = _nearest(chunks)
    if not found:
        return UnreadableLog(
            "no line holds a named number", where=path,
            remedy="Paste lines such as {'loss': 2.7, 'grad_norm': 0.9, 'epoch': 0.1}, or give a CSV or JSON Lines file.",
        )  # fmt: skip
    lines = "; ".join(repr(line) for line, _ in found)
    line, name = next(((line, name) for line, name in found if name), ("", "NAME"))
    form = _form(line, name)
    return UnreadableLog(
        f"no line holds a training loss or a gradient norm; the nearest lines are {lines}",
        where=path,
        remedy=f"Name the series, e.g. `--loss-key {_quoted(name)}`, or give the form of the lines, e.g. `--line {form!r}`.",
    )


def _form(line: str, name: str) -> str:
    """The form of a line up to the value of a name: that value is the loss, an epoch is no step."""
    form, end = "", 0
    found: set[str] = set()
    for match in NUMBER.finditer(line):
        before = line[max(end, match.start() - names.LONGEST_GAP) : match.start()]
        form += line[end : match.start()]
        end = match.end()
        if names.of_gap(before).name == name:
            return f"{form}{{loss}}"
        field = _counter(before)
        form += "{_}" if field in found else f"{{{field}}}"
        found.add(field)
    return "step {step} loss {loss}"


def _counter(before: str) -> str:
    """What a number counts, by the text before it: an epoch, the total behind a slash, otherwise the step."""
    text = before.rstrip(" :=[(#").lower()
    if text.endswith("/"):
        return "_"
    return "epoch" if text.endswith(("epoch", "ep")) else "step"


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


def _nearest(chunks: Iterable[bytes]) -> list[tuple[str, str]]:
    """Lines of different shape with the name of the value in each that is most like a loss."""
    best: dict[tuple[str, ...], tuple[int, str, str]] = {}
    count: Counter[tuple[str, ...]] = Counter()
    for n, (raw, at) in enumerate(pieces(chunks)):
        if n >= _MOST_PIECES:
            break
        if b"%|" in raw:
            continue
        text = clean(raw[:2000], at).text
        shape = tuple(_named_numbers(text))
        if shape:
            count[shape] += 1
            if shape not in best and len(best) < 500:
                score, name = max((_likeness(name), name) for name in shape)
                best[shape] = (score, text.strip()[:_WIDTH], name)
    order = sorted(best, key=lambda shape: (-best[shape][0], -count[shape]))
    return [(best[shape][1], best[shape][2]) for shape in order[:_SHOWN]]


def _named_numbers(text: str) -> Iterator[str]:
    end = 0
    for match in NUMBER.finditer(text):
        gap = names.of_gap(text[max(end, match.start() - names.LONGEST_GAP) : match.start()])
        if gap.name and gap.kind is None:
            yield gap.name
        end = match.end()


def _likeness(name: str) -> int:
    low = name.lower()
    if roles.role_of(name) is not None:
        return 0
    return next((len(_LIKELY) - i for i, word in enumerate(_LIKELY) if word in low), 0)
