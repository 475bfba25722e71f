"""One log format each: claim, read, perhaps write.

A leaf is a module that exports `FORMAT`, a `Format`. Formats that yield settings and no series (a YAML configuration,
`training_args.bin`) return runs without series; `merging` joins them with the logs beside them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ga_audit import registry
from ga_audit.run import FloatArray, IntArray, ReadFailure, Role, Run, Source

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What a leaf of this folder exports as `FORMAT`."""

    claim: Callable[[Target], Claim]
    """Whether the target is of this format, from its head or listing; never raises."""
    read: Callable[[Target], Iterator[Run | ReadFailure]]
    """The runs of the target; raises AuditError where it cannot be read, with file, place and remedy."""
    write: Callable[[Source, Rewrite, Path], list[Path]] | None = None
    """A corrected copy of a log in a folder."""
    expand: Callable[[Target], Iterable[Target]] | None = None
    """A target for each log of a target that names several (a project on a server)."""
    upload: Callable[[Source, Path, int], None] | None = None
    """Send a corrected copy to the server of the original, within so many seconds."""
    annotate: Callable[[Source, Mapping[str, Any], str, int], None] | None = None
    """Write facts and a note into the original on its server, within so many seconds."""
    settings_only: bool = False
    """Runs have settings and no series: they belong to the logs beside them."""
    owns_directory: bool = False
    """A directory that is claimed is not walked further."""
    several_runs: bool = False
    """A file may hold several runs; a corrected copy has the corrections of all of them."""


class LogFormat(Protocol):
    """What a leaf of this folder defines."""

    FORMAT: Format


def load(name: str) -> Format:
    """The format of a leaf of this folder."""
    found = registry.load(__name__, name).FORMAT
    assert isinstance(found, Format), name
    return found


def load_all() -> dict[str, Format]:
    """Every format by name, sorted."""
    return {name: load(name) for name in registry.names(__name__)}
