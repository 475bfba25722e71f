"""Text as a stream of pieces: lines, split at bare carriage returns too, so that a redrawn progress bar is one piece.

A piece keeps its place in bytes. Cleaning a piece keeps a map from its characters to those bytes, so that a number that
was read can be replaced where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20
LONGEST = 16 << 20  # bytes of a piece; what is longer is cut, since no trainer prints such a line
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,40}[ -/]{0,8}[@-~]")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a byte that is no UTF-8
_QUOTES = str.maketrans({
    "“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'", "‛": "'",
    "\u00a0": " ", "\u2007": " ", "\u202f": " ", "−": "-", "：": ":", "＝": "=", "│": "|", "┃": "|", "`": " ",
})  # fmt: skip
# of equal length, so that places stay
_ENTITIES = {
    "&quot;": '"     ', "&#34;": '"    ', "&#39;": "'    ", "&#x27;": "'     ", "&apos;": "'     ",
    "&nbsp;": "      ", "&lt;": "<   ", "&gt;": ">   ", "&amp;": "&    ",
}  # fmt: skip
_ENTITY = re.compile("|".join(_ENTITIES))
_BOLD = re.compile(r"\*\*|__(?=[-+\d.])|(?<=\d)__|</?(?:b|strong|em|i|code)>", re.IGNORECASE)
_BLOCK_QUOTE = re.compile(r"[ \t]{0,3}(?:>[ \t]?){1,8}")


@dataclass(frozen=True, slots=True)
class Clean:
    """The text of a piece without colours and markup."""

    text: str
    at: int  # byte of the file where the piece begins
    raw: bytes
    kept: Sequence[int] | None = None  # character of the raw text for each character of `text`; None = all are there

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """The bytes of a span of `text`; None where something inside it was left out."""
        if self.kept is not None:
            first, last = self.kept[start], self.kept[end - 1] + 1
            if last - first != end - start:
                return None
            start, end = first, last
        if self.raw.isascii():
            return self.at + start, self.at + end
        text = self.raw.decode("utf-8", "surrogateescape")
        before = len(text[:start].encode("utf-8", "surrogateescape"))
        inside = len(text[start:end].encode("utf-8", "surrogateescape"))
        return self.at + before, self.at + before + inside


def chunks_of(path: Path) -> Iterator[bytes]:
    """The content of a file, a chunk at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def pieces(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """The pieces of a text that are not empty, each with the byte at which it begins."""
    for raw, at, _, _ in between_bars(chunks, ()):
        yield raw, at


def between_bars(chunks: Iterable[bytes], words: Sequence[bytes]) -> Iterator[tuple[bytes, int, bytes, bytes]]:
    """The pieces that are not empty and no mere progress bar, each with the first and the last bar drawn before it.

    Parameters
    ----------
    chunks : the text.
    words : a bar that holds one of these is a piece like any other; without words no bar is left out.
    """
    rest, at = b"", 0
    first = last = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        found = data.replace(b"\r", b"\n").split(b"\n")
        rest = found.pop()
        for piece in found:
            if piece:
                if b"%|" in piece and words and not any(map(piece.__contains__, words)):
                    last = piece
                    first = first or piece
                else:
                    yield piece, at, first, last
                    first = last = b""
            at += len(piece) + 1
        if len(rest) > LONGEST:
            yield rest, at, first, last
            at += len(rest)
            rest = b""
    if rest or first:
        yield rest, at, first, last


def clean(raw: bytes, at: int) -> Clean:
    """A piece without colours, NULs and Markdown; typographic quotes become plain ones."""
    text = raw.decode("utf-8", "surrogateescape")
    kept: list[int] | None = None
    if "\x00" in text:  # first, since UTF-16 has one in every colour code
        kept = [i for i, c in enumerate(text) if c != "\x00"]
        text = text.replace("\x00", "")
    if "\x1b" in text:
        text, kept = _without_colours(text, kept)
    if not text.isascii():
        text = _ESCAPED_BYTE.sub("\ufffd", text).translate(_QUOTES)
    elif "`" in text:
        text = text.replace("`", " ")
    return Clean(_plain(text), at, raw, kept)


def _without_colours(text: str, kept: list[int] | None) -> tuple[str, list[int]]:
    before: Sequence[int] = range(len(text)) if kept is None else kept
    left: list[int] = []
    end = 0
    for match in _ANSI.finditer(text):
        left += before[end : match.start()]
        end = match.end()
    left += before[end:]
    return _ANSI.sub("", text), left


def _plain(text: str) -> str:
    """The text with markup as blanks of the same length."""
    if "&" in text:
        text = _ENTITY.sub(lambda match: _ENTITIES[match[0]], text)
    if "**" in text or "__" in text or "</" in text:
        text = _BOLD.sub(lambda match: " " * len(match[0]), text)
    if ">" in text[:16] and (match := _BLOCK_QUOTE.match(text)):
        text = " " * match.end() + text[match.end() :]
    return text
