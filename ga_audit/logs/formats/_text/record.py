"""What one line, dict or table row says: values by name and the counters that stand with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ga_audit.logs.formats._text.names import Kind
from ga_audit.logs.formats._text.pieces import Clean

Span = tuple[int, int]


@dataclass(slots=True)
class Record:
    """One row of a log."""

    values: dict[str, float]
    spans: dict[str, Span]  # of `values` in the text of `clean`
    counters: dict[Kind, float] = field(default_factory=dict)
    totals: dict[Kind, float] = field(default_factory=dict)  # `step 3/100`
    texts: dict[str, str] = field(default_factory=dict)  # what stands there as text
    clean: Clean | None = None
    rank: int | None = None
    scope: str = ""  # "train" or "eval", where the line says so
    closing: bool = False  # a trainer's summary at its end
    bar: tuple[int, int] | None = None  # done and total of the progress bar before it
    is_training: bool = False

    def place(self, name: str) -> Span | None:
        """The bytes of a value in the file; None where they are not known."""
        span = self.spans.get(name)
        return self.clean.place(*span) if span is not None and self.clean is not None else None
