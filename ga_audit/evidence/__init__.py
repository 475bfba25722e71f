"""One kind of evidence each.

A leaf is a module with `gather(group)`, which yields `Evidence` for what it can measure on the runs of a group and
`NotApplicable`, with the reason, where it cannot. Its docstring carries, under fixed headings: What it looks
at / Why it speaks / When it is silent / Calibration / References.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from ga_audit.finding import Evidence, NotApplicable

if TYPE_CHECKING:
    from ga_audit.grouping import Group


class EvidenceKind(Protocol):
    """What a leaf of this folder defines."""

    def gather(self, group: "Group") -> Iterator[Evidence | NotApplicable]:
        """Evidence on the runs of a group; never raises."""
