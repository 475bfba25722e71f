"""A sentence with the commands in it kept apart, so that each renderer marks and quotes them its own way."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Code:
    """A command: the words of its argument list."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.argv)


Sentence: TypeAlias = tuple[str | Code, ...]


def code(*argv: str) -> Code:
    """A command in a sentence."""
    return Code(argv)


def in_backticks(sentence: Sentence) -> str:
    """The sentence as one string, commands between backticks."""
    return "".join(f"`{part}`" if isinstance(part, Code) else part for part in sentence)


def unmarked(sentence: Sentence) -> str:
    """The sentence as one string, commands as they are."""
    return "".join(map(str, sentence))
