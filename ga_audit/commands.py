"""Command lines of the user, split into words: no shell reads them."""

from __future__ import annotations

import shlex

from ga_audit.errors import WrongUsage


def split_command(command: str, what: str) -> list[str]:
    """The words of a command line.

    Parameters
    ----------
    command : as the user wrote it.
    what : its name in a message, "--exec".

    Raises
    ------
    WrongUsage
        a quotation has no end, or there is no word.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise WrongUsage(f"{what} cannot be split: {error}", remedy="Close the quotation.") from None
    if not words:
        raise WrongUsage(f"{what} is empty", remedy="Give the words of a command.")
    return words
