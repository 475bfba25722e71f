"""One log format each: claim, read, perhaps write.

A leaf is a module with `claim(target)` and `read(target)`, and `write(source, rewrite, destination)` where a corrected
log can be written in the same format. A format whose targets name several logs (a project on a server) defines
`expand(target)`: a target for each; one whose logs live on a server may define `upload` and `annotate`; one whose files
may hold several runs sets `SEVERAL_RUNS`, and a corrected copy of such a file has the corrections of all its runs.
Formats that yield settings and no series (a YAML configuration, `training_args.bin`) return runs without series;
`joining` joins them with the logs beside them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from ga_audit.run import FloatArray, IntArray, ReadFailure, Role, Run

HEAD_BYTES = 1 << 16


class Claim(IntEnum):
    """How sure a format is that a target is its own; the highest wins, by content before name."""

    NO = 0
    MAYBE = 1  # could be read, e.g. any text
    YES = 2


@dataclass(frozen=True)
class Target:
    """One thing to read: a file, a directory that is one log (a W&B run), standard input ("-"), or an address."""

    path: str
    text: bytes | None = None  # content already at hand (standard input)
    loss_key: str | None = None  # the user's --loss-key
    grad_norm_key: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """As a path."""
        return Path(self.path)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.file.name if self.path != "-" else "standard input"

    @cached_property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.text is None and self.file.is_dir()

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB, read when first asked for; empty for a directory."""
        if self.text is not None:
            return self.text[:HEAD_BYTES]
        if self.is_dir or not self.file.is_file():
            return b""
        with self.file.open("rb") as f:
            return f.read(HEAD_BYTES)

    def read_bytes(self) -> bytes:
        """The whole content."""
        return self.text if self.text is not None else self.file.read_bytes()


@dataclass(frozen=True, slots=True, eq=False)
class Rescale:
    """How to correct one logged series: piecewise constant over optimizer steps."""

    name: str  # Series.name as logged
    role: Role
    from_step: IntArray  # (k,), ascending; the first entry also serves all earlier steps
    factor: FloatArray  # (k,), logged / intended
    root: bool = False  # perplexity = exp(loss): corrected = logged ** (1 / factor)
    part: str = ""  # Source.part of the log that the series was read from
    steps: IntArray | None = None  # (n,) of the series; they differ from those of the log where views were joined

    def apply(self, step: IntArray, value: FloatArray) -> FloatArray:
        """Corrected values (n,) of logged values (n,) at optimizer steps (n,)."""
        factor = self.factor[np.maximum(np.searchsorted(self.from_step, step, side="right") - 1, 0)]
        return value ** (1.0 / factor) if self.root else value / factor

    def at(self, step: int, value: float) -> float:
        """One corrected value, without the cost of arrays."""
        factor = float(self.factor[max(bisect_right(self.from_step, step) - 1, 0)])
        return value ** (1.0 / factor) if self.root else value / factor


@dataclass(frozen=True, slots=True, eq=False)
class Rewrite:
    """What a corrected copy of one log contains."""

    rescales: Sequence[Rescale]
    provenance: Mapping[str, object]  # JSON values; written into the log as `ga_audit`
    include_original: bool = False  # keep logged values as `original/<name>`

    def for_name(self, name: str, part: str = "") -> Rescale | None:
        """The correction of a series of one run of the log, or None where it stays as it is."""
        return next((r for r in self.rescales if r.name == name and r.part == part), None)


class LogFormat(Protocol):
    """What a leaf of this folder defines (`write` and `expand` are optional)."""

    def claim(self, target: Target) -> Claim:
        """Whether the target is of this format, from its head or listing; never raises."""

    def read(self, target: Target) -> Iterator[Run | ReadFailure]:
        """The runs of the target.

        Raises
        ------
        AuditError
            the target cannot be read; says file, place and remedy.
        """
