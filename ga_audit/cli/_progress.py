"""How far a matrix of trainings is, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ga_audit.repro.plan import Progress


class progress:  # noqa: N801 (reads as a function)
    """A bar with the time left on a terminal, a line for each cell elsewhere; both on standard error."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __enter__(self) -> Callable[[Progress], None]:
        return self.show

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.bar is not None:
            if kind is None:
                self.bar.label = "trained"
                self.bar.update(self.bar.length - self.bar.pos)
            self.bar.render_finish()

    def show(self, at: Progress) -> None:
        """Called before each cell."""
        label = f"{at.plan.name} GA {at.cell.ga}" + (f" x {at.cell.world_size} ranks" if at.cell.world_size > 1 else "")
        rest = "" if at.seconds_left is None else f", about {at.seconds_left:.0f} s left"
        if not sys.stderr.isatty():
            click.echo(f"{at.done}/{at.total} trained{rest}; {label}", err=True)
            return
        if self.bar is None:
            # the time left is ours: the bar's own would count cells that were kept as trained in no time
            self.bar = click.progressbar(length=at.total, file=sys.stderr, show_eta=False, show_pos=True)
        self.bar.label = label + rest
        self.bar.update(at.done - self.bar.pos)
        self.bar.render_progress()
