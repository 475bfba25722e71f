"""An Audit as text or bytes.

A leaf is a module with `render(audit, **options)`; `--format NAME` exists by the file being there.
"""

from typing import Any, Protocol

from ga_audit.conclusion import Audit


class Renderer(Protocol):
    """What a leaf of this folder defines."""

    def render(self, audit: Audit, **options: Any) -> str | bytes:
        """The audit in this form; everything that came from a log is escaped."""
