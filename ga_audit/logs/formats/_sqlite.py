"""Databases of trackers, opened for reading alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ga_audit.errors import UnreadableLog
from ga_audit.logs.formats import Target

if TYPE_CHECKING:
    import sqlite3

HEADER = b"SQLite format 3\x00"


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write; other programs may go on writing.

    Raises
    ------
    UnreadableLog
        damaged, locked, or not the tables that were expected.
    """
    import sqlite3

    name = quote(str(path.absolute()))
    try:
        try:
            connection = sqlite3.connect(f"file:{name}?mode=ro", uri=True, timeout=5)
            connection.execute("select name from sqlite_master limit 1").fetchall()
        except sqlite3.OperationalError:
            # a write-ahead log on a disk that we may not write to: what is in the main file can still be read
            connection = sqlite3.connect(f"file:{name}?immutable=1", uri=True)
        # a damaged text is shown as far as it can be read
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        with closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise UnreadableLog(
            f"the database cannot be read: {error}", where=str(path),
            remedy="Close the program that writes it, or give a copy (`sqlite3 FILE '.backup COPY'`).",
        ) from None  # fmt: skip


def tables(target: Target) -> frozenset[str]:
    """The names of the tables of a database file; none for any other file."""
    if target.text is not None or target.is_dir or not target.head.startswith(HEADER):
        return frozenset()
    try:
        with reading(target.file) as connection:
            return frozenset(
                str(row[0]) for row in connection.execute("select name from sqlite_master where type='table'")
            )
    except UnreadableLog:
        return frozenset()


def columns(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """The names of the columns of a table."""
    return frozenset(str(row[1]) for row in connection.execute(f"pragma table_info({table})"))
