"""Kinds of evidence, one per module.

A leaf is a module with `gather(group)`, which yields `Evidence` for what it can measure on the runs
of a group and `NotApplicable`, with the reason, where it cannot. Its docstring has fixed headings:
What it looks at, Why it is evidence, When it does not apply, Calibration, References. The sentence
of the kind is in `ga_audit.output.wording.evidence`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from ga_audit import registry
from ga_audit.finding import Evidence, NotApplicable

if TYPE_CHECKING:
    from ga_audit.grouping import Group


class EvidenceKind(Protocol):
    """What a leaf of this folder defines; mypy holds each leaf to it in the tests."""

    KIND: str

    def gather(self, group: Group) -> Iterator[Evidence | NotApplicable]:
        """Yield the evidence on the runs of a group; never raises."""


def kinds() -> Mapping[str, EvidenceKind]:
    """Every kind of evidence by the name of its module, sorted."""
    return cast("Mapping[str, EvidenceKind]", registry.load_all(__name__))
