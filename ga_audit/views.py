"""How a result shows itself in a notebook or as a figure.

A result is a value below the renderers and knows none of them. `ga_audit` registers the renderers
when it is imported, and each loads what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_VIEWS: dict[str, Callable[..., Any]] = {}


def register(name: str, function: Callable[..., Any]) -> None:
    """Set the function that makes a view of a result: `headline`, `html`, `markdown` or `figure`."""
    _VIEWS[name] = function


def show(name: str, result: object, *arguments: Any, **options: Any) -> Any:
    """Return a view of a result.

    Parameters
    ----------
    name : of the view, as it was registered.
    result : what is shown; it is the first argument of the registered function.
    arguments, options : of the registered function.
    """
    return _VIEWS[name](result, *arguments, **options)
