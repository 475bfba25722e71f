"""Text from logs made harmless: control characters for every output."""

from __future__ import annotations


def plain(text: str) -> str:
    """Control characters and direction overrides made visible; line breaks and ordinary text of any script stay."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def short(text: str, width: int) -> str:
    """At most `width` characters; the middle gives way, since names differ at their ends."""
    if len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{text[: width - 1 - half]}…{text[len(text) - half :]}"
