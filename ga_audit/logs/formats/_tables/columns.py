"""A JSON object of columns of equal length: Keras' `History.history`, `DataFrame.to_dict("list")`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ga_audit.logs import roles
from ga_audit.logs.formats import _values

_BEGINS = re.compile(rb"\{\s*\"(?:[^\"\\]|\\.){1,200}\"\s*:\s*\[")
_NAME = re.compile(rb"\"((?:[^\"\\]|\\.){1,200})\"\s*:\s*\[")


def begins(head: bytes) -> bool:
    """Whether a text begins as an object of lists, one of which has a name that is known."""
    if not _BEGINS.match(head):
        return False
    names = (match[1].decode("utf-8", "replace") for match in _NAME.finditer(head))
    return any(roles.role_of(name) is not None for name in names)


def rows(content: Any) -> list[dict[str, Any]] | None:
    """The rows of an object of lists of numbers; None of any other object.

    Lists that are shorter than the longest (an evaluation every few epochs) are left out: their rows are not known.
    """
    lists = {name: value for name, value in _values.mapping(content).items() if _is_column(value)}
    if not lists:
        return None
    length = max(len(column) for column in lists.values())
    columns = {name: column for name, column in lists.items() if len(column) == length}
    return [{name: column[i] for name, column in columns.items()} for i in range(length)]


def _is_column(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_values.number(x) is not None or x is None for x in value)


def load(data: bytes) -> Mapping[str, Any] | None:
    """The object of a text; None where it is none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, Mapping) else None


def names_left_out(content: Mapping[str, Any], read: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the lists of numbers that are no part of the rows."""
    return [name for name, value in content.items() if _is_column(value) and name not in read[0]]
